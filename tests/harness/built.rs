//! Where things are: the repository, what was built of it, and what the tests build.

use std::path::{Path, PathBuf};

/// The directory of the whole repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

/// The built agent: `$WAYPOST`, or the one in the directory that the test itself was built into.
pub(crate) fn agent() -> PathBuf {
    if let Some(given) = std::env::var_os("WAYPOST") {
        return given.into();
    }
    let built = profile().join("waypost");
    assert!(built.is_file(), "{} is missing: run `cargo build` first, or tests/run", built.display());
    built
}

/// A directory that stays between runs, for what the tests themselves build.
pub(crate) fn scratch() -> PathBuf {
    let dir = profile().join("waypost-tests");
    std::fs::create_dir_all(&dir).expect("a directory beside the tests");
    dir
}

/// `target/<profile>`; programs are in it, and tests in `deps` below it.
fn profile() -> PathBuf {
    let own = std::env::current_exe().expect("the program's own path");
    let dir = own.parent().expect("target/<profile>");
    if dir.ends_with("deps") { dir.parent().expect("target/<profile>").to_owned() } else { dir.to_owned() }
}
