//! The image that the scenarios' containers run: the quickstart's `whoami`, and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::built::{repository, scratch};
use crate::process::output;

/// A tar archive with the statically linked program `/whoami`, made once for each run.
pub(crate) fn archive() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let dir = tempfile::tempdir_in(scratch()).expect("a directory for the image");
        let mut compiler = Command::new("cc");
        compiler.args(["-static", "-O1", "-o"]).arg(dir.path().join("whoami"));
        compiler.arg(repository().join("examples/quickstart/whoami.c"));
        output(compiler).unwrap_or_else(|error| panic!("{error:#}"));
        let made = dir.path().join("whoami.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(dir.path()).arg("-cf").arg(&made).arg("whoami");
        output(tar).unwrap_or_else(|error| panic!("{error:#}"));
        let archive = scratch().join("whoami.tar");
        std::fs::rename(made, &archive).expect("the archive moves into place");
        archive
    })
}
