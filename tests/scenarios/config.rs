//! Wrong configurations: each is refused with one message that says where, what, and what instead.

use std::path::Path;

use harness::{component, waypost_here};

/// Bad configuration, of the exit codes.
const BAD_CONFIGURATION: i32 = 64;

/// Writes `text` as `waypost.toml` and returns what `command` says of it.
#[track_caller]
fn refused(dir: &Path, command: &str, text: &str) -> String {
    std::fs::write(dir.join("waypost.toml"), text).unwrap();
    let done = waypost_here(dir, &[command, "--config", "waypost.toml"]);
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(BAD_CONFIGURATION), "`waypost {command}` of\n{text}\nsaid: {said}");
    said
}

/// Expects one message, for `check` and for `run`, that starts with the place and has all of `words`.
#[track_caller]
fn names(dir: &Path, text: &str, place: &str, words: &[&str]) {
    for command in ["check", "run"] {
        let said = refused(dir, command, text);
        assert!(said.contains(&format!("waypost.toml:{place}")), "no {place} in: {said}\nfrom\n{text}");
        for word in words {
            assert!(said.contains(word), "no {word:?} in: {said}\nfrom\n{text}");
        }
        let messages = said.lines().filter(|line| line.starts_with("waypost: ")).count();
        assert_eq!(messages, 1, "not one message: {said}");
        let stray = ["src/main.rs", "Error {", "TomlError"];
        assert!(!stray.iter().any(|word| said.contains(word)), "not for people: {said}");
    }
}

#[test]
fn mistakes_in_the_file_name_line_key_found_and_expected() {
    let dir = tempfile::tempdir().unwrap();
    let cases: &[(&str, &str, &[&str])] = &[
        ("[agent\n", "1", &["expected"]),
        ("[agent]\nnode = \"a\"\nnode = \"b\"\n", "3", &["duplicate key"]),
        ("colour = true\n", "1", &["colour", "unknown", "expected"]),
        ("[agent]\n\nnoode = \"web\"\n", "3", &["agent.noode", "unknown", "node"]),
        ("[agent]\nnode = 7\n", "2", &["agent.node", "7", "string"]),
        ("[agent]\nadvertise = \"eth0\"\n", "2", &["agent.advertise", "eth0", "IP address", "interface"]),
        ("[agent]\non-stop = \"maybe\"\n", "2", &["agent.on-stop", "maybe", "withdraw", "leave"]),
        ("[docker]\nendpoint = \"docker.sock\"\n", "2", &["docker.endpoint", "docker.sock", "unix://"]),
        ("[docker]\nresync = 30\n", "2", &["docker.resync", "30"]),
        ("[registry]\nkind = \"consul\"\n", "2", &["registry.kind", "consul", "memory", "etcd"]),
        ("[registry]\nendpoints = \"http://a:1\"\n", "2", &["registry.endpoints", "sequence"]),
        ("[registry]\nendpoints = [\"etcd-1\"]\n", "2", &["registry.endpoints[0]", "etcd-1", "http://"]),
        ("[registry]\nttl = \"soon\"\n", "2", &["registry.ttl", "soon", "expected a time", "30s"]),
        ("[registry]\nttl = \"0s\"\n", "2", &["registry.ttl", "0"]),
        (
            "[discover]\nself-preservation = { tme = \"1s\" }\n",
            "2",
            &["discover.self-preservation.tme", "unknown", "time"],
        ),
        ("[discover]\nself-preservation = { least = -1 }\n", "2", &["discover.self-preservation.least", "-1"]),
        (
            "[discover]\nself-preservation = 3\n",
            "2",
            &["discover.self-preservation", "3", "expected false, true or { share"],
        ),
        ("[plugins]\nmemory-mib = -1\n", "2", &["plugins.memory-mib", "-1"]),
        ("[plugins]\nmemory = 1\n", "2", &["plugins.memory", "unknown", "memory-mib"]),
        ("[[output]]\nplugin = \"haproxy\"\n", "1", &["output[0]", "directory"]),
        ("[[output]]\nplugin = \"haproxy\"\ndirectory = \"etc\"\n", "1", &["output[0]", "etc", "absolute"]),
        ("[[grouping]]\nsettings = {}\n", "1", &["grouping[0]", "plugin", "path"]),
        ("[[grouping]]\npath = \"a.wasm\"\nsha256 = \"12\"\n", "1", &["grouping[0]", "12", "64"]),
    ];
    for (text, line, words) in cases {
        names(dir.path(), text, &format!("{line}: "), words);
    }
}

#[test]
fn mistakes_in_an_output_are_told_from_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("reload = { signal = \"HUP\" }", &["reload", "command", "pid-file", "supervise"]),
        ("reload = { pid-file = \"/run/p\", signal = \"KILL\" }", &["signal", "KILL", "HUP"]),
        ("reload = { supervise = [\"nginx\"], signal = \"USR2\" }", &["reload", "USR2", "second nginx", "HUP"]),
        ("reload = { container = \"edge\" }", &["reload", "signal = \"HUP\"", "restart = true"]),
        ("reload = { master-socket = \"m.sock\" }", &["m.sock", "absolute"]),
        ("mode = \"rw\"", &["mode", "rw", "0640"]),
        ("owner = \"no such:user\"", &["owner", "no such", "USER:GROUP"]),
        ("live = true", &["live", "true", "socket = "]),
        ("check = []", &["check", "program"]),
        ("services = [\"[\"]", &["services", "["]),
        ("debounce = { min = \"2s\", max = \"1s\" }", &["debounce", "min", "max"]),
        ("debounce = { often = \"2s\" }", &["often", "unknown"]),
    ];
    for (line, words) in cases {
        let text = format!("[[output]]\nplugin = \"haproxy\"\ndirectory = \"/etc/haproxy/waypost\"\n{line}\n");
        names(dir.path(), &text, "", words);
    }
}

#[test]
fn plugins_that_cannot_be_used_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let state = format!("[agent]\nstate-dir = \"{}\"\n", dir.path().join("state").display());
    let guest = component("misbehave");
    let guest = guest.to_str().unwrap();
    let digest = "0".repeat(64);
    std::fs::write(dir.path().join("text.wasm"), "this is no component").unwrap();
    // The smallest core module: magic number and version.
    std::fs::write(dir.path().join("module.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let (text, module) = (dir.path().join("text.wasm"), dir.path().join("module.wasm"));
    let cases: &[(String, &[&str])] = &[
        ("[[grouping]]\nplugin = \"imagine\"\n".into(), &["grouping[0]", "imagine", "image"]),
        ("[[grouping]]\nplugin = \"haproxy\"\n".into(), &["grouping[0]", "haproxy", "grouping"]),
        ("[[layout]]\nplugin = \"image\"\n".into(), &["layout[0]", "image", "layout"]),
        (format!("[[output]]\npath = \"{guest}\"\ndirectory = \"/tmp\"\n"), &["output[0]", "misbehave", "grouping"]),
        (
            "[[output]]\nplugin = \"nginx\"\ndirectory = \"/tmp\"\nlive = { socket = \"/run/x.sock\" }\n".into(),
            &["output[0]", "live", "nginx does not take changes"],
        ),
        ("[[grouping]]\npath = \"/nowhere/team.wasm\"\n".into(), &["grouping[0]", "/nowhere/team.wasm"]),
        (format!("[[grouping]]\npath = \"{}\"\n", text.display()), &["grouping[0]", "plugin text", "component"]),
        (format!("[[grouping]]\npath = \"{}\"\n", module.display()), &["grouping[0]", "plugin module", "component"]),
        (format!("[[grouping]]\npath = \"{guest}\"\nsha256 = \"{digest}\"\n"), &["grouping[0]", "sha256", &digest]),
        (
            format!("[[grouping]]\npath = \"{guest}\"\nsettings = {{ refuse = true }}\n"),
            &["grouping[0]", "`refuse` is not wanted here"],
        ),
        (
            format!("[[grouping]]\npath = \"{guest}\"\nsettings = {{ trap = true }}\n"),
            &["grouping[0]", "cannot even be configured"],
        ),
        ("[[grouping]]\nplugin = \"image\"\nsettings = { regsitry = 1 }\n".into(), &["grouping[0]", "regsitry"]),
        (
            "[[grouping]]\nplugin = \"image\"\nsettings = { registry = \"never\" }\n".into(),
            &["grouping[0]", "never", "first-segment", "host-like"],
        ),
    ];
    for (stage, words) in cases {
        names(dir.path(), &format!("{stage}{state}"), "1: ", words);
    }
}

#[test]
fn the_environment_and_the_command_line_are_checked_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let missing = waypost_here(dir.path(), &["check", "--config", "missing.toml"]);
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(BAD_CONFIGURATION), "{said}");
    assert!(said.contains("missing.toml"), "{said}");
    for arguments in [&["fly"][..], &["run", "--colour"], &["plugin", "inspect"], &["render", "--dif"]] {
        let done = waypost_here(dir.path(), arguments);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("--help"), "{arguments:?}: {said}");
    }
    let help = waypost_here(dir.path(), &["--help"]);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.status.success() && text.lines().count() <= 50 && text.contains("waypost run"), "{text}");
}
