//! On real file systems; those that need a mount of their own are skipped where mounting is not allowed.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use super::*;

fn set(files: &[(&str, &str)]) -> BTreeMap<String, Arc<str>> {
    files.iter().map(|(path, text)| ((*path).to_owned(), Arc::from(*text))).collect()
}

fn write(directory: &Directory, files: &[(&str, &str)]) -> Vec<String> {
    directory.stage(&set(files)).unwrap().map(|staged| staged.commit().unwrap()).unwrap_or_default()
}

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap()
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn chain(error: WriteError) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

#[test]
fn a_candidate_has_all_files_and_a_commit_exchanges_those_that_differ() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    assert_eq!(write(&directory, &[("haproxy.cfg", "a\n"), ("routes.map", "b\n")]), ["routes.map", "haproxy.cfg"]);
    let untouched = fs::metadata(root.path().join("routes.map")).unwrap().ino();

    let staged = directory.stage(&set(&[("haproxy.cfg", "c\n"), ("routes.map", "b\n")])).unwrap().unwrap();
    assert_eq!(fs::metadata(staged.dir()).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!((read(staged.dir(), "haproxy.cfg"), read(staged.dir(), "routes.map")), ("c\n".into(), "b\n".into()));
    assert_eq!(read(root.path(), "haproxy.cfg"), "a\n");
    assert_eq!(staged.commit().unwrap(), ["haproxy.cfg"]);
    assert_eq!(read(root.path(), "haproxy.cfg"), "c\n");
    assert_eq!(fs::metadata(root.path().join("routes.map")).unwrap().ino(), untouched);
    assert_eq!(names(root.path()), [LIST, "haproxy.cfg", "routes.map"]);
}

#[test]
fn nothing_is_staged_when_the_disk_has_it_and_a_hand_on_the_disk_is_seen() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    write(&directory, &[("a", "text\n")]);
    assert!(directory.stage(&set(&[("a", "text\n")])).unwrap().is_none());
    fs::write(root.path().join("a"), "TEXT\n").unwrap();
    assert_eq!(write(&directory, &[("a", "text\n")]), ["a"]);
}

#[test]
fn a_dropped_stage_leaves_no_trace_and_a_crashed_one_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    drop(directory.stage(&set(&[("a", "text\n")])).unwrap());
    assert!(names(root.path()).is_empty());
    fs::create_dir_all(root.path().join(STAGE).join("deep")).unwrap();
    Directory::open(root.path()).unwrap();
    assert!(names(root.path()).is_empty());
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("keep"), "").unwrap();
    symlink(elsewhere.path(), root.path().join(STAGE)).unwrap();
    Directory::open(root.path()).unwrap();
    assert_eq!((names(root.path()).len(), names(elsewhere.path())), (0, vec!["keep".to_owned()]));
}

#[test]
fn mode_and_owner_of_the_old_file_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    write(&directory, &[("a", "1\n"), ("b", "1\n")]);
    let path = root.path().join("a");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let root_user = rustix::process::geteuid().is_root();
    if root_user {
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
    }
    write(&directory, &[("a", "2\n"), ("b", "1\n")]);
    let found = fs::metadata(&path).unwrap();
    assert_eq!(found.mode() & 0o777, 0o640);
    assert!(!root_user || (found.uid(), found.gid()) == (1234, 4321));
}

#[test]
fn mode_and_owner_are_as_the_operator_wants_them() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("a");
    write(&Directory::open(root.path()).unwrap(), &[("a", "1\n")]);
    let root_user = rustix::process::geteuid().is_root();
    let group = if root_user { 4321 } else { rustix::process::getegid().as_raw() };
    let access = Access { mode: Some(0o600), user: None, group: Some(group) };
    let directory = Directory::open(root.path()).unwrap().with_access(access);
    assert_eq!(write(&directory, &[("a", "1\n")]), ["a"], "also where the text is the same");
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.mode() & 0o777, found.gid()), (0o600, group));
    assert!(write(&directory, &[("a", "1\n")]).is_empty());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(write(&directory, &[("a", "1\n"), ("sites/b", "1\n")]), ["a", "sites/b"]);
    assert_eq!(fs::metadata(root.path().join("sites/b")).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn files_that_cannot_be_side_by_side_are_named() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    let error = directory.stage(&set(&[("sites/foo", ""), ("sites/foo/bar/x", "")])).unwrap_err();
    assert_eq!(error.culprits(), ["sites/foo/bar/x", "sites/foo"]);
    assert!(chain(error).contains("sites/foo is to be a file"));
    let long = "x".repeat(300);
    let error = directory.stage(&set(&[("a", ""), (&long, "")])).unwrap_err();
    assert_eq!(error.culprits(), [long]);
    assert!(chain(error).contains("give it a shorter name"));
    fs::create_dir_all(root.path().join("a/full")).unwrap();
    assert_eq!(directory.stage(&set(&[("a", "")])).unwrap_err().culprits(), ["a"]);
    assert_eq!(names(root.path()), ["a"]);
}

#[test]
fn a_file_follows_a_directory_that_is_empty_by_now() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    write(&directory, &[("a/b", "1\n")]);
    assert_eq!(directory.stage(&set(&[("a", "2\n")])).unwrap_err().culprits(), ["a"]);
    write(&directory, &[("c", "1\n")]);
    assert_eq!(write(&directory, &[("a", "2\n"), ("c", "1\n")]), ["a"]);
    assert_eq!(read(root.path(), "a"), "2\n");
}

#[test]
fn files_of_an_earlier_set_go_and_the_operators_stay() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    fs::write(root.path().join("own.cfg"), "").unwrap();
    write(&directory, &[("main.cfg", "1\n"), ("sites/web.conf", "1\n"), ("sites/api.conf", "1\n")]);
    let again = Directory::open(root.path()).unwrap();
    assert_eq!(write(&again, &[("main.cfg", "1\n"), ("sites/api.conf", "1\n")]), ["sites/web.conf"]);
    assert_eq!(names(&root.path().join("sites")), ["api.conf"]);
    assert!(root.path().join("own.cfg").exists());
}

#[test]
fn a_link_is_replaced_and_never_followed() {
    let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let directory = Directory::open(root.path()).unwrap();
    let victim = elsewhere.path().join("victim");
    fs::write(&victim, "text\n").unwrap();
    symlink(&victim, root.path().join("a")).unwrap();
    // Even one whose target has the wanted text already.
    assert_eq!(write(&directory, &[("a", "text\n")]), ["a"]);
    assert!(fs::symlink_metadata(root.path().join("a")).unwrap().is_file());
    symlink(elsewhere.path(), root.path().join("sites")).unwrap();
    let error = directory.stage(&set(&[("sites/victim", "mine\n")])).unwrap_err();
    assert!(chain(error).contains("sites; move it away: a directory belongs there: it is a link"));
    assert_eq!(fs::read_to_string(victim).unwrap(), "text\n");
}

#[test]
fn wrong_paths_are_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open(root.path()).unwrap();
    for path in ["../x", "/etc/x", "", "a/../b", ".waypost-files", "a/", "a\nb"] {
        let error = directory.stage(&set(&[(path, "")])).unwrap_err();
        assert!(chain(error).contains("relative path without `..`"), "{path:?}");
    }
    fs::create_dir_all(root.path().join("a/full")).unwrap();
    let error = directory.stage(&set(&[("a", "")])).unwrap_err();
    assert_eq!(error.path(), root.path().join("a"));
    assert!(chain(error).contains("move that directory away"));
    fs::write(root.path().join("file"), "").unwrap();
    assert!(directory.stage(&set(&[("file/below", "")])).is_err());
}

/// A mount that goes when the test ends; none where mounting is not allowed.
struct Mount(PathBuf);

impl Mount {
    fn new(arguments: &[&str], at: &Path) -> Option<Self> {
        let done = Command::new("mount").args(arguments).arg(at).output().is_ok_and(|done| done.status.success());
        if !done {
            eprintln!("skipped: mounting is not allowed here");
        }
        done.then(|| Mount(at.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        Command::new("umount").arg(&self.0).status().ok();
    }
}

#[test]
fn a_full_disk_keeps_the_old_file_whole_and_a_read_only_one_says_so() {
    let root = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::new(&["-t", "tmpfs", "-o", "size=64k", "none"], root.path()) else { return };
    let directory = Directory::open(root.path()).unwrap();
    write(&directory, &[("a", "old\n")]);
    let error = directory.stage(&set(&[("a", &"x".repeat(100 << 10))])).unwrap_err();
    let text = chain(error);
    assert!(text.contains("free space on its file system") && text.contains("/a"), "{text}");
    assert_eq!((read(root.path(), "a"), names(root.path()).len()), ("old\n".to_owned(), 2));

    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&mount.0).status().unwrap().success());
    let text = chain(directory.stage(&set(&[("a", "new\n")])).unwrap_err());
    assert!(text.contains("mount its file system writable"), "{text}");
    assert_eq!(read(root.path(), "a"), "old\n");
}

#[test]
fn a_file_that_is_a_mount_of_its_own_is_written_in_place() {
    let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (target, source) = (root.path().join("a"), elsewhere.path().join("source"));
    fs::write(&target, "").unwrap();
    fs::write(&source, "a longer old text\n").unwrap();
    let inode = fs::metadata(&source).unwrap().ino();
    let Some(_mount) = Mount::new(&["--bind", source.to_str().unwrap()], &target) else { return };
    let access = Access { mode: Some(0o640), ..Access::default() };
    let directory = Directory::open(root.path()).unwrap().with_access(access);
    for text in ["new\n", "newer, and longer than what was there at first\n"] {
        assert_eq!(write(&directory, &[("a", text)]), ["a"]);
        let found = fs::metadata(&source).unwrap();
        assert_eq!((fs::read_to_string(&source).unwrap().as_str(), found.ino()), (text, inode));
        assert_eq!(found.mode() & 0o777, 0o640);
        assert!(directory.stage(&set(&[("a", text)])).unwrap().is_none());
    }
    // It cannot be removed either.
    assert_eq!(write(&directory, &[("b", "1\n")]), ["b", "a"]);
    assert_eq!(fs::read_to_string(&source).unwrap(), "");
    assert!(directory.stage(&set(&[("b", "1\n")])).unwrap().is_none());
}

#[test]
fn a_mounted_file_keeps_its_text_when_its_disk_is_full() {
    let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let Some(_disk) = Mount::new(&["-t", "tmpfs", "-o", "size=64k", "none"], elsewhere.path()) else { return };
    let (target, source) = (root.path().join("a"), elsewhere.path().join("source"));
    fs::write(&target, "").unwrap();
    fs::write(&source, "old\n").unwrap();
    let Some(_mount) = Mount::new(&["--bind", source.to_str().unwrap()], &target) else { return };
    let directory = Directory::open(root.path()).unwrap();
    let large = "x".repeat(100 << 10);
    let staged = directory.stage(&set(&[("a", &large)])).unwrap().unwrap();
    let text = chain(staged.commit().unwrap_err());
    assert!(text.contains("free space on its file system"), "{text}");
    assert_eq!(fs::read_to_string(&source).unwrap(), "old\n");
    // What was asked for in vain is free again.
    fs::write(elsewhere.path().join("other"), "x".repeat(50 << 10)).unwrap();
    assert_eq!(write(&directory, &[("a", "new\n")]), ["a"]);
    assert_eq!(fs::read_to_string(&source).unwrap(), "new\n");
}
