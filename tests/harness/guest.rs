//! Plugins that only the tests use.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::built::{repository, scratch};
use crate::process::output;

/// The component of the crate `tests/guests/<name>`, built once for each run.
pub fn component(name: &str) -> PathBuf {
    static BUILDING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let target = scratch().join("guests");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--release", "--target", "wasm32-wasip2", "--manifest-path"]);
    cargo.arg(repository().join("tests/guests").join(name).join("Cargo.toml"));
    cargo.arg("--target-dir").arg(&target);
    // Flags for the tests themselves, for instance `-D warnings`, must not make this build a different one.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    output(cargo).unwrap_or_else(|error| panic!("{error:#}"));
    target.join("wasm32-wasip2/release").join(format!("{name}.wasm"))
}

/// The component of `examples/plugins/python`, built by the script that stands beside it to where its example expects it.
pub fn python_component() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let build = Command::new(repository().join("examples/plugins/python/build"));
            output(build).unwrap_or_else(|error| panic!("{error:#}"));
            repository().join("target/examples/python-grouping.wasm")
        })
        .clone()
}
