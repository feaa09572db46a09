//! An image made of a program of this machine and the libraries that it loads.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{find_program, output};

/// Writes a tar archive with `program`, at its own path, and its libraries into `dir`.
pub(crate) fn archive(program: &str, dir: &Path) -> PathBuf {
    let found = find_program(program, &[]).unwrap_or_else(|| panic!("{program} is missing: tests/run installs it"));
    let mut ldd = Command::new("ldd");
    ldd.arg(&found);
    let listed = output(ldd).unwrap_or_else(|error| panic!("{error:#}"));
    let libraries = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    let archive = dir.join(format!("{program}.tar"));
    let mut tar = Command::new("tar");
    // Libraries are links, and the names that are loaded are those of the links.
    tar.args(["--dereference", "--absolute-names", "-cf"]).arg(&archive).arg(&found).args(libraries);
    output(tar).unwrap_or_else(|error| panic!("{error:#}"));
    archive
}
