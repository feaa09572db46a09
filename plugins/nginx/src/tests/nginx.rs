//! A real nginx on a directory of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use waypost_test_support::{DEADLINE, eventually, holds};

/// `nginx` on these files.
pub(super) fn nginx(dir: &Path) -> Command {
    let mut command =
        Command::new(["/usr/sbin/nginx", "nginx"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("nginx"));
    command.args(["-e", "stderr", "-p"]).arg(dir).arg("-c").arg(dir.join("nginx.conf"));
    command
}

/// What `nginx -t` says of the files in a directory.
pub(super) fn test(dir: &Path) -> Output {
    let missing =
        "this test runs `nginx -t`: install nginx 1.22 or later (apt-get install nginx-light libnginx-mod-stream)";
    nginx(dir).arg("-t").output().expect(missing)
}

pub(super) fn write(dir: &Path, files: &BTreeMap<String, String>) {
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
}

/// A master with its workers; all end when it is dropped.
pub(super) struct Running {
    pub(super) dir: tempfile::TempDir,
    master: Child,
}

impl Running {
    /// Starts it and waits until it has workers.
    pub(super) fn start(files: &BTreeMap<String, String>) -> Running {
        let dir = tempfile::tempdir().unwrap();
        // Workers of another user pass through it to their temporary files.
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        write(dir.path(), files);
        let log = fs::File::create(dir.path().join("log")).unwrap();
        let master = nginx(dir.path()).args(["-g", "daemon off;"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let running = Running { dir, master };
        eventually(DEADLINE, "nginx has workers", || holds(!running.workers().is_empty(), running.log()));
        running
    }

    /// Replaces the files, tells nginx, and waits until the old workers take nothing any more.
    pub(super) fn reload(&self, files: &BTreeMap<String, String>) {
        let before = self.workers();
        write(self.dir.path(), files);
        assert!(nginx(self.dir.path()).args(["-s", "reload"]).status().unwrap().success());
        eventually(DEADLINE, "new workers replace the old ones", || {
            let now = self.workers();
            holds(!now.is_empty() && now.iter().all(|worker| !before.contains(worker)), (&before, now))
        });
    }

    /// The workers that take requests.
    fn workers(&self) -> Vec<String> {
        let children = format!("/proc/{0}/task/{0}/children", self.master.id());
        let children = fs::read_to_string(children).unwrap_or_default();
        let title =
            |pid: &&str| fs::read_to_string(PathBuf::from("/proc").join(pid).join("cmdline")).unwrap_or_default();
        let takes =
            |pid: &&str| title(pid).starts_with("nginx: worker process") && !title(pid).contains("shutting down");
        children.split_whitespace().filter(takes).map(str::to_owned).collect()
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        Command::new("kill").args(["-TERM", &self.master.id().to_string()]).status().ok();
        self.master.wait().ok();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
