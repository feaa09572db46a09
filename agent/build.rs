//! Builds the shipped plugins for WebAssembly and hands their bytes to the agent.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// In the order `waypost plugin list` shows them.
const SHIPPED: [&str; 9] =
    ["labels", "announce", "image", "json", "backends", "services", "skydns", "haproxy", "nginx"];
const TARGET: &str = "wasm32-wasip2";

fn main() {
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("..");
    for watched in ["plugins", "wit", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(watched).display());
    }
    let out = PathBuf::from(variable("OUT_DIR"));
    let target = target_directory(&out);
    build_plugins(&root, &target);
    let mut table = String::from("pub(super) const SHIPPED: &[(&str, &[u8])] = &[\n");
    for name in SHIPPED {
        let built = target.join(TARGET).join("plugin").join(format!("waypost_plugin_{name}.wasm"));
        let kept = out.join(format!("{name}.wasm"));
        fs::copy(&built, &kept).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
        table += "    (\"";
        table += name;
        table += "\", include_bytes!(concat!(env!(\"OUT_DIR\"), \"/";
        table += name;
        table += ".wasm\"))),\n";
    }
    table += "];\n";
    fs::write(out.join("shipped.rs"), table).expect("OUT_DIR can be written");
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}: {error}; cargo sets it"))
}

/// A target directory beside the agent's own, which the running cargo has locked.
fn target_directory(out: &Path) -> PathBuf {
    let build = out.ancestors().find(|path| path.ends_with("build")).expect("OUT_DIR lies below a build directory");
    build.parent().and_then(Path::parent).expect("a build directory lies in a target directory").join("plugins")
}

fn build_plugins(root: &Path, target: &Path) {
    let mut cargo = Command::new(variable("CARGO"));
    cargo.current_dir(root).args(["build", "--profile", "plugin", "--target", TARGET, "--target-dir"]).arg(target);
    for name in SHIPPED {
        cargo.args(["--package", &format!("waypost-plugin-{name}")]);
    }
    // Flags meant for the host would break the guests' linker, and clippy's wrapper would lint instead of build.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_TARGET_DIR"]
    {
        cargo.env_remove(name);
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the plugins did not build; if the target is missing, run `rustup target add {TARGET}`");
}
