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
        ("[[output]]\nplugin = \"haproxy\"\ndirectory = \"etc\"\n", "3", &["output[0].directory", "etc", "absolute"]),
        (
            "output = [\n{ plugin = \"haproxy\", directory = \"/a\" },\n{ plugin = \"nginx\", directory = \"b\" },\n]\n",
            "3",
            &["output[1].directory", "\"b\"", "absolute"],
        ),
        ("\n[[output]] # edge\nplugin = \"haproxy\"\n", "2", &["output[0]", "directory"]),
        ("[[grouping]]\nsettings = {}\n", "1", &["grouping[0]", "plugin", "path"]),
        ("[[grouping]]\npath = \"a.wasm\"\nsha256 = \"12\"\n", "3", &["grouping[0].sha256", "12", "64"]),
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
        names(dir.path(), &text, "4: output[0].", words);
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
    let cases: &[(String, &str, &[&str])] = &[
        ("[[grouping]]\nplugin = \"imagine\"\n".into(), "2: grouping[0].plugin", &["imagine", "image"]),
        ("[[grouping]]\nplugin = \"haproxy\"\n".into(), "2: grouping[0].plugin", &["haproxy", "grouping"]),
        ("[[layout]]\nplugin = \"image\"\n".into(), "2: layout[0].plugin", &["image", "layout"]),
        (
            format!("[[output]]\npath = \"{guest}\"\ndirectory = \"/tmp\"\n"),
            "2: output[0].path",
            &["misbehave", "grouping"],
        ),
        (
            "[[output]]\nplugin = \"nginx\"\ndirectory = \"/tmp\"\nlive = { socket = \"/run/x.sock\" }\n".into(),
            "4: output[0].live",
            &["nginx does not take changes"],
        ),
        ("[[grouping]]\npath = \"/nowhere/team.wasm\"\n".into(), "2: grouping[0].path", &["/nowhere/team.wasm"]),
        (
            format!("[[grouping]]\npath = \"{}\"\n", text.display()),
            "2: grouping[0].path",
            &["plugin text", "component"],
        ),
        (
            format!("[[grouping]]\npath = \"{}\"\n", module.display()),
            "2: grouping[0].path",
            &["plugin module", "component"],
        ),
        (
            format!("[[grouping]]\npath = \"{guest}\"\nsha256 = \"{digest}\"\n"),
            "3: grouping[0].sha256",
            &["found sha256", &digest],
        ),
    ];
    for (stage, place, words) in cases {
        names(dir.path(), &format!("{stage}{state}"), place, words);
    }
}

#[test]
fn settings_that_a_plugin_refuses_are_told_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let state = format!("[agent]\nstate-dir = \"{}\"\n", dir.path().join("state").display());
    let guest = component("misbehave");
    let guest = guest.to_str().unwrap();
    let output = "[[output]]\nplugin = \"haproxy\"\ndirectory = \"/tmp\"\n";
    let cases: &[(String, &str, &[&str])] = &[
        (
            format!("[[grouping]]\npath = \"{guest}\"\nsettings = {{ refuse = true }}\n"),
            "3: grouping[0].settings.refuse",
            &["`refuse` is not wanted here"],
        ),
        (
            format!("[[grouping]]\npath = \"{guest}\"\n\n[grouping.settings]\n\ntrap = true\n"),
            "4: grouping[0].settings: ",
            &["cannot even be configured"],
        ),
        (
            "[[grouping]]\nplugin = \"image\"\nsettings = { regsitry = 1 }\n".into(),
            "3: grouping[0].settings.regsitry",
            &["unknown field"],
        ),
        (
            "[[grouping]]\nplugin = \"image\"\n[grouping.settings] # how\n# of images\nregistry = \"never\"\n".into(),
            "5: grouping[0].settings.registry",
            &["never", "first-segment", "host-like"],
        ),
        (
            format!("{output}[output.settings]\nbalance = \"leastconn\"\nbalence = \"leastconn\"\n"),
            "6: output[0].settings.balence",
            &["unknown field `balence`"],
        ),
        (
            format!("{output}settings = {{\n  check = true,\n  check-rise = 0,\n}}\n"),
            "6: output[0].settings.check-rise",
            &["found 0", "1 or more"],
        ),
        (
            "output = [{ plugin = \"haproxy\", directory = \"/tmp\",\n  settings = { balence = 1 } }]\n".into(),
            "2: output[0].settings.balence",
            &["unknown field"],
        ),
        (
            format!("{output}settings = {{ spare-backends = 4 }}\n"),
            "4: output[0].settings.spare-backends",
            &["unknown field", "it is called standby-backends now"],
        ),
    ];
    for (stage, place, words) in cases {
        names(dir.path(), &format!("{stage}{state}"), place, words);
    }
}

#[test]
fn what_the_host_does_not_have_is_told_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let state_dir = dir.path().join("state");
    let agent = format!("[agent]\nstate-dir = \"{}\"\n", state_dir.display());
    let etcd = "[registry]\nendpoints = [\"http://127.0.0.1:1\"]\n";
    std::fs::write(dir.path().join("text.pem"), "no certificate").unwrap();
    let cases: &[(String, &str, &[&str])] = &[
        (
            format!("{agent}\n[agent.advertise]\n\ninterface = \"nope0\"\n"),
            "6: agent.advertise.interface",
            &["interface nope0 has no address"],
        ),
        (
            format!("{agent}{etcd}username = \"waypost\"\n\npassword-file = \"/nowhere\"\n"),
            "7: registry.password-file",
            &["/nowhere cannot be read"],
        ),
        (
            format!("{agent}{etcd}username = \"waypost\"\n"),
            "5: registry.username",
            &["set username and password-file together"],
        ),
        (
            format!("{agent}{etcd}ca-file = \"{}\"\n", dir.path().join("text.pem").display()),
            "5: registry.ca-file",
            &["give the file in PEM form"],
        ),
        (
            format!("{agent}[registry]\n# one\nendpoints = [\"https://127.0.0.1:1\"]\n"),
            "5: registry.endpoints",
            &["needs TLS", "ca-file"],
        ),
    ];
    for (text, place, words) in cases {
        names(dir.path(), text, place, words);
    }
    let (text, place, _) = &cases[cases.len() - 1];
    let said = refused(dir.path(), "catalog", text);
    assert!(said.contains(place), "{said}");
}

#[test]
fn programs_and_users_that_are_missing_are_told_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let (state, files) = (dir.path().join("state"), dir.path().join("files"));
    let text = format!(
        "[agent]\nstate-dir = \"{}\"\n[[output]]\nplugin = \"haproxy\"\ndirectory = \"{}\"\n\
         owner = \"nobody-at-all\"\ncheck = [\n  \"no-such-program\",\n]\n",
        state.display(),
        files.display()
    );
    let said = refused(dir.path(), "run", &text);
    assert!(said.contains("waypost.toml:6: output[0].owner: found user \"nobody-at-all\""), "{said}");
    let checked = waypost_here(dir.path(), &["check", "--config", "waypost.toml"]);
    let told = String::from_utf8_lossy(&checked.stdout);
    assert_eq!(checked.status.code(), Some(1), "{told}");
    assert!(told.contains("waypost.toml:6: output[0].owner: found user"), "{told}");
    assert!(told.contains("waypost.toml:8: output[0].check[0]: no-such-program is not there"), "{told}");
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
    let logged = waypost_here(dir.path(), &["plugin", "list", "--log", "verbose"]);
    let said = String::from_utf8_lossy(&logged.stderr).into_owned();
    assert_eq!(logged.status.code(), Some(2), "{said}");
    assert!(said.contains("--log: found \"verbose\", expected error, warn"), "{said}");
    let help = waypost_here(dir.path(), &["--help"]);
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.status.success() && text.lines().count() <= 50 && text.contains("waypost run"), "{text}");
}
