//! A real nginx on a directory of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use waypost_test_support::{DEADLINE, Program, Signal, eventually, holds};

const INSTALL: &str = "install nginx 1.22 or later (apt-get install nginx-light libnginx-mod-stream)";

/// `nginx` on these files.
pub(super) fn nginx(dir: &Path) -> Command {
    let mut command =
        Command::new(["/usr/sbin/nginx", "nginx"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("nginx"));
    command.args(["-e", "stderr", "-p"]).arg(dir).arg("-c").arg(dir.join("nginx.conf"));
    command
}

/// What `nginx -t` says of the files in a directory.
pub(super) fn test(dir: &Path) -> Output {
    nginx(dir).arg("-t").output().expect(INSTALL)
}

pub(super) fn write(dir: &Path, files: &BTreeMap<String, String>) {
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
}

/// A master with its workers; all end when it is dropped.
pub(super) struct Running {
    pub(super) dir: tempfile::TempDir,
    master: Program,
}

impl Running {
    /// Starts it and waits until it has workers.
    pub(super) fn start(files: &BTreeMap<String, String>) -> Running {
        let dir = tempfile::tempdir().unwrap();
        // Workers of another user pass through it to their temporary files.
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        write(dir.path(), files);
        let mut command = nginx(dir.path());
        command.args(["-g", "daemon off;"]);
        let mut master = Program::start(command, INSTALL).ended_by(Signal::TERM);
        let id = master.id();
        master.until("it has workers", || holds(!workers(id).is_empty(), "none"));
        Running { dir, master }
    }

    /// Replaces the files, tells nginx, and waits until the old workers take nothing any more.
    pub(super) fn reload(&self, files: &BTreeMap<String, String>) {
        let before = workers(self.master.id());
        write(self.dir.path(), files);
        assert!(nginx(self.dir.path()).args(["-s", "reload"]).status().unwrap().success());
        eventually(DEADLINE, "new workers replace the old ones", || {
            let now = workers(self.master.id());
            holds(!now.is_empty() && now.iter().all(|worker| !before.contains(worker)), (&before, now))
        });
    }

    pub(super) fn log(&self) -> String {
        self.master.output()
    }
}

/// The workers of a master that take requests.
fn workers(master: u32) -> Vec<String> {
    let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
    let title = |pid: &&str| fs::read_to_string(PathBuf::from("/proc").join(pid).join("cmdline")).unwrap_or_default();
    let takes = |pid: &&str| title(pid).starts_with("nginx: worker process") && !title(pid).contains("shutting down");
    children.split_whitespace().filter(takes).map(str::to_owned).collect()
}
