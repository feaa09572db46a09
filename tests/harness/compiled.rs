//! The compiled form of the shipped plugins, made once and handed to every agent, as a host has it after its first start.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::built::{agent, scratch};

/// A configuration with every shipped plugin.
const ALL: &str = "[[grouping]]\nplugin = \"labels\"\n[[grouping]]\nplugin = \"announce\"\n[[grouping]]\n\
                   plugin = \"image\"\n[[layout]]\nplugin = \"json\"\n[[layout]]\nplugin = \"backends\"\n[[layout]]\n\
                   plugin = \"services\"\n[[layout]]\nplugin = \"skydns\"\nsettings = { zone = \"internal\" }\n\
                   [[output]]\nplugin = \"haproxy\"\ndirectory = \"/nowhere\"\n";

/// Name of the agent's cache in its state directory.
const CACHE: &str = "plugins";

/// Gives an agent with this state directory the compiled plugins, when it has none yet.
pub(crate) fn provide(state: &Path) {
    if !state.join(CACHE).exists() {
        copy(&cache(), &state.join(CACHE));
    }
}

/// The cache of an agent that has loaded every shipped plugin; it stays between runs.
fn cache() -> PathBuf {
    static FILLED: OnceLock<PathBuf> = OnceLock::new();
    let state = FILLED.get_or_init(|| {
        let state = scratch().join("state");
        let file = scratch().join("all-plugins.toml");
        let text =
            format!("[agent]\nadvertise = \"127.0.0.1\"\nregister = false\nstate-dir = \"{}\"\n{ALL}", state.display());
        fs::write(&file, text).expect("a configuration file");
        let mut check = Command::new(agent());
        check.args(["check", "--config"]).arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // What it says does not matter here: the scenarios show whether plugins load.
        check.status().ok();
        state
    });
    state.join(CACHE)
}

/// Copies a directory tree; only its owner may enter the copy.
fn copy(from: &Path, to: &Path) {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(to).expect("a directory for the cache");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("a directory of our own");
    for entry in fs::read_dir(from).into_iter().flatten().flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            // A file that another run is just writing may be gone again.
            fs::copy(&path, &target).ok();
        }
    }
}
