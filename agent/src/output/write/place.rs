//! Single steps on single files: what is there, a candidate beside it, and the exchange.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;

use super::WriteError;

/// Mode of a file that was not there before.
const NEW_MODE: u32 = 0o644;

#[expect(clippy::cast_possible_wrap, reason = "open flags are small bits")]
fn flags(flags: OFlags) -> i32 {
    flags.bits() as i32
}

/// Checks that a path stays below the root, passes no link, and that a file can be there.
pub(super) fn check(root: &Path, path: &str) -> Result<(), WriteError> {
    let refuse = |at: &Path, kind: io::ErrorKind, found: &str| {
        Err(WriteError::new("write", at, io::Error::new(kind, found.to_owned())))
    };
    let relative = Path::new(path);
    let plain = relative.components().all(|component| matches!(component, Component::Normal(_)));
    if path.is_empty() || !plain || path.contains(['\n', '\0']) || path.ends_with('/') || path.starts_with(".waypost") {
        return refuse(relative, io::ErrorKind::InvalidInput, "it leads out of the directory or is the agent's own");
    }
    let mut at = root.to_owned();
    for component in relative.parent().iter().flat_map(|parent| parent.components()) {
        at.push(component);
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() => {}
            Ok(found) if found.is_symlink() => return refuse(&at, io::ErrorKind::NotADirectory, "it is a link"),
            Ok(_) => return refuse(&at, io::ErrorKind::NotADirectory, "it is not a directory"),
            Err(_) => return Ok(()),
        }
    }
    let target = root.join(relative);
    match fs::symlink_metadata(&target) {
        Ok(found) if found.is_dir() => refuse(&target, io::ErrorKind::IsADirectory, "it is a directory"),
        Ok(found) if !found.is_file() && !found.is_symlink() => {
            refuse(&target, io::ErrorKind::AlreadyExists, "it is a device, pipe or socket")
        }
        _ => Ok(()),
    }
}

/// Whether a regular file with exactly this text is there.
pub(super) fn is_same(target: &Path, text: &str) -> bool {
    let open = OpenOptions::new().read(true).custom_flags(flags(OFlags::NOFOLLOW | OFlags::NONBLOCK)).open(target);
    let Ok(mut file) = open else { return false };
    if !file.metadata().is_ok_and(|found| found.is_file() && found.len() == text.len() as u64) {
        return false;
    }
    let mut rest = text.as_bytes();
    let mut buffer = vec![0; rest.len().clamp(1, 64 << 10)];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return rest.is_empty(),
            Ok(count) => match rest.strip_prefix(&buffer[..count]) {
                Some(after) => rest = after,
                None => return false,
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// Creates the stage, in place of one that is there; nobody but the agent's user gets in.
pub(super) fn create_stage(stage: &Path) -> Result<(), WriteError> {
    remove_tree(stage).map_err(|error| WriteError::new("remove", stage, error))?;
    DirBuilder::new().mode(0o700).create(stage).map_err(|error| WriteError::new("create", stage, error))
}

/// Writes a candidate with the mode and owner of the file that it is to replace.
pub(super) fn write_candidate(stage: &Path, path: &str, text: &str, target: &Path) -> Result<(), WriteError> {
    let candidate = stage.join(path);
    let parent = candidate.parent().unwrap_or(stage);
    fs::create_dir_all(parent).map_err(|error| WriteError::new("create", parent, error))?;
    let old = fs::symlink_metadata(target).ok().filter(fs::Metadata::is_file);
    let mode = old.as_ref().map_or(NEW_MODE, |old| old.mode() & 0o777);
    let owner = old.map(|old| (old.uid(), old.gid()));
    write_new(&candidate, text, mode, owner).map_err(|error| WriteError::new("write", &candidate, error))
}

/// Writes a file that must not be there yet.
pub(super) fn write_new(path: &Path, text: &str, mode: u32, owner: Option<(u32, u32)>) -> io::Result<()> {
    let nofollow = flags(OFlags::NOFOLLOW);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(nofollow).open(path)?;
    file.write_all(text.as_bytes())?;
    if let Some((user, group)) = owner {
        let own = file.metadata()?;
        // Only root may give a file away; another user at least keeps the group when it is one of its own.
        if (own.uid(), own.gid()) != (user, group) && fchown(&file, Some(user), Some(group)).is_err() {
            let given = fchown(&file, None, Some(group));
            tracing::debug!(path = %path.display(), group_kept = given.is_ok(), "the owner could not be kept");
        }
    }
    // After the owner, because a change of owner may clear bits of the mode.
    file.set_permissions(Permissions::from_mode(mode))
}

/// Moves a candidate into place; where a mount forbids the exchange, its text is written into the old file.
pub(super) fn put(root: &Path, path: &str, candidate: &Path) -> Result<(), WriteError> {
    check(root, path)?;
    let target = root.join(path);
    let parent = target.parent().unwrap_or(root);
    fs::create_dir_all(parent).map_err(|error| WriteError::new("create", parent, error))?;
    // The text must reach the disk before the name does: a power cut in between would leave an empty file.
    let synced = File::open(candidate).and_then(|file| file.sync_all());
    synced.map_err(|error| WriteError::new("write", candidate, error))?;
    match fs::rename(candidate, &target) {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices) => {
            tracing::debug!(path = %target.display(), "it is a mount of its own and is written in place");
            write_in_place(&target, candidate).map_err(|error| WriteError::new("write", &target, error))
        }
        Err(error) => Err(WriteError::new("replace", &target, error)),
    }
}

/// Not atomic: a single file that is mounted by itself cannot be exchanged. A failure puts the old text back.
fn write_in_place(target: &Path, candidate: &Path) -> io::Result<()> {
    let (old, new) = (fs::read(target)?, fs::read(candidate)?);
    let write = |text: &[u8]| {
        let mut file = OpenOptions::new().write(true).custom_flags(flags(OFlags::NOFOLLOW)).open(target)?;
        file.write_all(text)?;
        file.set_len(text.len() as u64)?;
        file.sync_all()
    };
    write(&new).inspect_err(|_| {
        if let Err(error) = write(&old) {
            tracing::error!(path = %target.display(), %error, "the old text could not be put back; restore this file");
        }
    })
}

/// Removes a file; tells whether there was one.
pub(super) fn remove(target: &Path) -> Result<bool, WriteError> {
    match fs::remove_file(target) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(WriteError::new("remove", target, error)),
    }
}

/// Removes a directory with all in it, or whatever else has its name; links are not followed.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Waits until the disk has the names of these files, which a sync of the files alone does not promise.
pub(super) fn sync(root: &Path, paths: &[String]) -> Result<(), WriteError> {
    let mut directories: Vec<PathBuf> = Vec::new();
    for path in paths {
        let parents = Path::new(path).ancestors().skip(1);
        directories.extend(parents.map(|parent| root.join(parent)).filter(|directory| directory.is_dir()));
    }
    directories.sort();
    directories.dedup();
    for directory in directories {
        let synced = File::open(&directory).and_then(|open| open.sync_all());
        synced.map_err(|error| WriteError::new("sync", &directory, error))?;
    }
    Ok(())
}
