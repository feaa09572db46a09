//! What a test run leaves behind outside its namespaces: temporary directories and control groups.

use std::fs;
use std::path::{Path, PathBuf};

/// Begins the name of whatever a test makes; the test's process id follows.
pub(crate) const PREFIX: &str = "waypost-test-";

/// Whether the files of a test stay for a look at them: `WAYPOST_TEST_KEEP` is set.
pub(crate) fn kept() -> bool {
    std::env::var_os("WAYPOST_TEST_KEEP").is_some()
}

/// The last lines of a log that a failed test shows.
const LINES: usize = 60;

/// Name of the control group below which the containers of a host's engine are.
pub(crate) fn control_group(host_dir: &Path) -> String {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("{}-{}", host_dir.parent().map(name).unwrap_or_default(), name(host_dir))
}

/// Removes the emptied control groups called `name`.
pub(crate) fn remove_control_groups(name: &str) {
    for mount in control_group_mounts() {
        remove_group(&mount.join(name));
    }
}

/// Removes what runs that were killed left behind.
pub(crate) fn sweep(temporary: &Path) {
    for path in children(temporary).into_iter().filter(|path| left_by_dead(path)) {
        fs::remove_dir_all(path).ok();
    }
    for group in control_group_mounts().iter().flat_map(|mount| children(mount)).filter(|path| left_by_dead(path)) {
        remove_group(&group);
    }
}

/// Prints the ends of a host's logs, for whoever reads why a test failed.
pub(crate) fn print_logs(name: &str, dir: &Path) {
    for path in children(dir).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "log")) {
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned();
        let lines: Vec<_> = text.lines().collect();
        let from = lines.len().saturating_sub(LINES);
        let file = path.file_name().unwrap_or_default().display();
        eprintln!("---- {name}: {file}, {} of {} lines\n{}", lines.len() - from, lines.len(), lines[from..].join("\n"));
    }
}

/// Whether `path` was made by a test whose process is gone.
fn left_by_dead(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let process = rest.split('-').next().unwrap_or_default();
    !process.is_empty() && !Path::new("/proc").join(process).exists()
}

/// Where control groups are: one place with version 2, one for each controller with version 1.
fn control_group_mounts() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let mut mounts = if root.join("cgroup.procs").exists() { Vec::new() } else { children(&root) };
    mounts.push(root);
    mounts
}

/// Removes a control group and those below it; only empty ones go.
fn remove_group(group: &Path) {
    for below in children(group).into_iter().filter(|path| path.is_dir()) {
        remove_group(&below);
    }
    fs::remove_dir(group).ok();
}

fn children(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
