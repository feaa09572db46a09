use std::path::Path;

use super::*;
use crate::signal::Signal;

fn parse(text: &str) -> Result<Config, String> {
    parse_with(text, &[])
}

fn parse_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Config::parse(text, Path::new("w.toml"), &environment).map_err(|error| error.to_string())
}

#[test]
fn silence_means_the_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.registry.kind, Some(RegistryKind::Memory));
    let names: Vec<_> = config.grouping.iter().map(|stage| stage.source.clone()).collect();
    assert_eq!(names, ["labels", "announce", "image"].map(|name| Source::Shipped(name.into())));
    assert_eq!(config.layout.len(), 1);
    assert_eq!(config.registry.ttl.0, Duration::from_secs(15));
}

#[test]
fn the_environment_of_docker_register_is_honoured() {
    let config = parse_with("", &[("HOST_IP", "10.0.0.5"), ("ETCD_HOST", "10.170.71.226:4001")]).unwrap();
    assert_eq!(config.agent.advertise, Some(Advertise::Address("10.0.0.5".parse().unwrap())));
    assert_eq!(config.registry.endpoints, [Endpoint("http://10.170.71.226:4001".into())]);
    assert_eq!(config.registry.kind, Some(RegistryKind::Etcd));
    let error = parse_with("", &[("HOST_IP", "eth0")]).unwrap_err();
    assert_eq!(error, "environment variable HOST_IP: found \"eth0\", expected an IP address");
    let written = parse_with("[agent]\nadvertise = \"10.1.1.1\"", &[("HOST_IP", "nonsense")]).unwrap();
    assert_eq!(written.agent.advertise, Some(Advertise::Address("10.1.1.1".parse().unwrap())));
}

#[test]
fn mistakes_name_file_line_key_found_and_expected() {
    let cases = [
        ("x = 1", "w.toml:1: x: unknown field `x`, expected one of `agent`"),
        ("[agent]\nnoode = 1", "w.toml:2: agent.noode: unknown field `noode`, expected one of `node`"),
        ("[agent]\nnode = 1", "w.toml:2: agent.node: invalid type: integer `1`, expected a string"),
        ("[agent]\nadvertise = \"eth0\"", "w.toml:2: agent.advertise: found \"eth0\", expected an IP address"),
        (
            "[registry]\nttl = \"soon\"",
            "w.toml:2: registry.ttl: found \"soon\", expected a time above zero like \"30s\"",
        ),
        ("[registry]\nttl = \"0s\"", "w.toml:2: registry.ttl: found \"0s\", expected a time above zero"),
        ("[registry]\nttl = 5", "w.toml:2: registry.ttl: expected a time in quotes, like \"30s\""),
        ("[[output]]\nmode = 640", "w.toml:2: output[0].mode: expected octal digits in quotes, like \"0640\""),
        ("[[output]]\nmode = 0640", "; a mode stands in quotes, like mode = \"0640\""),
        (
            "[registry]\nkind = \"consul\"",
            "w.toml:2: registry.kind: unknown variant `consul`, expected `memory` or `etcd`",
        ),
        ("[registry]\nendpoints = [\"etcd\"]", "w.toml:2: registry.endpoints[0]: found \"etcd\", expected a URL"),
        ("[[output]]\nplugin = \"haproxy\"\n", "w.toml:1: output[0]: missing field `directory`"),
        (
            "[[output]]\nplugin = \"haproxy\"\ndirectory = \"etc\"",
            "w.toml:3: output[0].directory: found \"etc\", expected an absolute path",
        ),
        ("[[grouping]]\nplugin = \"image\"\npath = \"x.wasm\"", "w.toml:1: grouping[0]: expected either plugin"),
        ("[[grouping]]\npath = \"x.wasm\"\nsha256 = \"12\"", "w.toml:3: grouping[0].sha256: found \"12\", expected 64"),
        (
            "[registry]\nkind = \"memory\"\nendpoints = [\"http://x\"]",
            "w.toml:3: registry.endpoints: found kind = \"memory\"",
        ),
        ("[agent] # who\nregister = false\n", "w.toml:2: agent.register: found false with the embedded registry"),
        ("[[layout]]\nplugin = \"json\"\nread = false", "w.toml:3: layout[0].read: no layout is read"),
        (
            "[[output]]\nplugin = \"haproxy\"\ndirectory = \"/a\"\n[[output]]\nplugin = \"haproxy\"\ndirectory = \"/a\"",
            "w.toml:6: output[1].directory: found directory \"/a\" twice",
        ),
        ("[agent\n", "w.toml:1: unclosed table, expected `]`"),
        ("[agent]\nnode = \"a\"\n\nnode = \"b\"", "w.toml:4: duplicate key"),
        ("[agent]\nnode = \"a\"\n[docker]\n[agent]", "w.toml:4: duplicate key"),
        ("[agent]\n\nnode = a", "w.toml:3: "),
    ];
    for (text, expected) in cases {
        let error = parse(text).unwrap_err();
        assert!(error.contains(expected), "{text:?}\n  found    {error}\n  expected {expected}");
        assert!(error.starts_with("w.toml:"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_mistake_has_the_line_of_its_value_however_the_table_is_written() {
    let cases = [
        (
            "output = [{ plugin = \"a\", directory = \"/a\" },\n{ directory = \"b\" }]",
            "2: output[1].directory: found \"b\"",
        ),
        ("output = [\n{ plugin = \"a\" },\n]", "2: output[0]: missing field `directory`"),
        (
            "\n[[output]] # web\nplugin = \"a\"\ndirectory = \"/a\"\n\n[[output]] # edge\nplugin = \"b\"\n",
            "6: output[1]: missing field `directory`",
        ),
        (
            "[[output]]\nplugin = \"a\"\ndirectory = \"/a\"\n[[output]]\nplugin = \"b\"\ntimeout = 5\ndirectory = \"/b\"",
            "6: output[1].timeout: expected a time in quotes",
        ),
        ("[[ output ]]\nmode = \"rw\"", "2: output[0].mode: found \"rw\""),
        ("[[output]]\nlive = { socket = \"s\" }", "2: output[0].live.socket: found \"s\", expected an absolute path"),
        ("[[output]]\n[output.live]\nsocket = \"s\"", "3: output[0].live.socket: found \"s\""),
        ("[[output]]\n[output.debounce]\nmin = \"never\"", "3: output[0].debounce.min: found \"never\""),
        (
            "[[output]]\nplugin = \"a\"\ndirectory = \"/a\"\n[output.debounce]\nmin = \"2s\"\nmax = \"1s\"",
            "6: output[0].debounce.max: found debounce.max below debounce.min",
        ),
        (
            "[[output]]\nplugin = \"a\"\ndirectory = \"/a\"\n[output.debounce]\nmin = \"2s\"",
            "4: output[0].debounce.max: found debounce.max below debounce.min",
        ),
        (
            "[[output]]\nplugin = \"a\"\ndirectory = \"/a\"\n[output.reload]\nsupervise = [\"nginx\"]\nsignal = \"USR1\"",
            "6: output[0].reload.signal: found signal \"USR1\" for nginx",
        ),
        ("[[output]]\n[output.reload]\nmaster-socket = \"m\"", "3: output[0].reload.master-socket: found \"m\""),
        ("registry.ttl = 5", "1: registry.ttl: expected a time in quotes"),
        ("[registry]\nendpoints = [\n\"http://a\", # first\n\"b\",\n]", "4: registry.endpoints[1]: found \"b\""),
        ("[agent.advertise]\nnetwork = \"10/99\"", "2: agent.advertise.network: found \"10/99\", expected a form"),
        ("[agent.advertise]\ninterfce = \"a\"", "2: agent.advertise.interfce: unknown field `interfce`"),
        ("[agent]\n\nadvertise = {}", "3: agent.advertise: expected an IP address, { interface"),
        (
            "[agent]\nadvertise = 7",
            "2: agent.advertise: invalid type: integer `7`, expected an IP address, { interface",
        ),
        ("[discover.self-preservation]\nshare = 2", "2: discover.self-preservation.share: found 2, expected a number"),
        (
            "[discover.self-preservation]\n\nleast = 0",
            "3: discover.self-preservation.least: found 0, expected 1 or more",
        ),
        (
            "# \"\"\"\n[agent]\nnode = \"\"\"\n[registry]\nttl = 5\"\"\"\nnoode = 1",
            "6: agent.noode: unknown field `noode`",
        ),
    ];
    for (text, expected) in cases {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(&format!("w.toml:{expected}")), "{text}\n  found    {error}\n  expected {expected}");
    }
}

#[test]
fn a_mistake_that_shows_later_has_the_line_of_its_key_or_of_what_is_around_it() {
    let text =
        "[[output]]\nplugin = \"a\"\ndirectory = \"/a\"\n\n[output.settings]\nbalence = 1\nhttp = { bind = 1 }\n";
    let config = Config::parse(text, Path::new("w.toml"), &BTreeMap::new()).unwrap();
    for (key, expected) in [
        ("output[0].plugin", "w.toml:2: output[0].plugin: no"),
        ("output[0].settings.balence", "w.toml:6: output[0].settings.balence: no"),
        ("output[0].reload.command[0]", "w.toml:1: output[0].reload.command[0]: no"),
        ("registry.endpoints[0]", "w.toml: registry.endpoints[0]: no"),
    ] {
        assert_eq!(config.mistake(key, "no").to_string(), expected);
    }
    for (words, expected) in [
        ("balence: unknown field `balence`", "output[0].settings.balence"),
        ("found 1 in `http.bind`.", "output[0].settings.http.bind"),
        ("http.mode is missing", "output[0].settings.http.mode"),
        ("I do not like this.", "output[0].settings"),
    ] {
        assert_eq!(config.key_named("output[0].settings", words), expected);
    }
}

#[test]
fn a_key_that_was_renamed_is_refused_with_its_name_now() {
    for (old, new) in renamed::RENAMED {
        let error = Config::default().mistake(old, "unknown field").to_string();
        assert!(error.ends_with(&format!("unknown field; it is called {new} now")), "{error}");
    }
    let (old, new) = renamed::RENAMED[0];
    let error = parse(&format!("{old} = true")).unwrap_err();
    assert!(error.contains("unknown field") && error.contains(new), "{error}");
}

#[test]
fn a_reload_has_one_form() {
    let output = |reload: &str| {
        parse(&format!("[[output]]\nplugin = \"haproxy\"\ndirectory = \"/etc/x\"\nreload = {reload}"))
            .map(|config| config.output[0].reload.clone().unwrap())
    };
    let argv = |words: &[&str]| Argv(words.iter().map(|word| (*word).to_owned()).collect());
    assert_eq!(output("{ command = [\"true\"] }"), Ok(Reload::Command(argv(&["true"]))));
    assert_eq!(output("{ pid-file = \"/run/p\" }"), Ok(Reload::PidFile("/run/p".into(), Signal::Usr2)));
    assert_eq!(
        output("{ supervise = [\"a\"], signal = \"SIGHUP\" }"),
        Ok(Reload::Supervise(argv(&["a"]), Signal::Hup))
    );
    for (program, signal) in [
        ("haproxy", Signal::Usr2),
        ("nginx", Signal::Hup),
        ("/usr/sbin/nginx", Signal::Hup),
        ("/nginx/run", Signal::Usr2),
    ] {
        let supervised = Reload::Supervise(argv(&[program, "-c"]), signal);
        assert_eq!(output(&format!("{{ supervise = [\"{program}\", \"-c\"] }}")), Ok(supervised));
    }
    assert_eq!(output("{ master-socket = \"/run/m.sock\" }"), Ok(Reload::MasterSocket("/run/m.sock".into())));
    let in_container = |how| Ok(Reload::Container("edge-1".into(), how));
    let told = output("{ container = \"edge-1\", signal = \"SIGHUP\" }");
    assert_eq!(told, in_container(ContainerReload::Signal(Signal::Hup)));
    assert_eq!(output("{ container = \"edge-1\", restart = true }"), in_container(ContainerReload::Restart));
    for (reload, expected) in [
        ("{ container = \"edge-1\" }", "either signal = \"HUP\""),
        ("{ container = \"edge-1\", restart = true, signal = \"HUP\" }", "either signal"),
        ("{ container = \"edge/1\", restart = true }", "output[0].reload.container: found \"edge/1\""),
        ("{ container = \"\", restart = true }", "output[0].reload.container: found \"\""),
        ("{ pid-file = \"/run/p\", restart = true }", "expected one of"),
        ("{ supervise = [\"/sbin/nginx\"], signal = \"SIGUSR2\" }", "found signal \"USR2\" for nginx"),
        ("{ supervise = [\"nginx\"], signal = \"USR1\" }", "expected signal = \"HUP\" or none"),
        ("{ master-socket = \"m.sock\" }", "expected an absolute path"),
        ("{ master-socket = \"/m.sock\", signal = \"HUP\" }", "found a signal where none is sent"),
        ("{ }", "expected one of"),
    ] {
        let error = output(reload).unwrap_err();
        assert!(error.contains(expected), "{reload}: {error}");
    }
    assert!(output("{ command = [\"true\"], supervise = [\"a\"] }").unwrap_err().contains("expected one of"));
    let error = output("{ pid-file = \"/run/p\", signal = \"KILL\" }").unwrap_err();
    assert!(error.contains("reload.signal: found \"KILL\""), "{error}");
}

#[test]
fn mode_and_owner_are_read_and_checked() {
    let output = |line: &str| {
        parse(&format!("[[output]]\nplugin = \"haproxy\"\ndirectory = \"/etc/x\"\n{line}"))
            .map(|config| config.output[0].clone())
    };
    let owner = |user: Option<&str>, group: Option<&str>| {
        Some(Owner { user: user.map(str::to_owned), group: group.map(str::to_owned) })
    };
    assert_eq!(output("mode = \"0640\"").unwrap().mode, Some(Mode(0o640)));
    assert_eq!(output("owner = \"haproxy:0\"").unwrap().owner, owner(Some("haproxy"), Some("0")));
    assert_eq!(output("owner = \":ssl-cert\"").unwrap().owner, owner(None, Some("ssl-cert")));
    assert_eq!(output("owner = \"1000\"").unwrap().owner, owner(Some("1000"), None));
    for line in ["mode = \"0888\"", "mode = \"1777\"", "mode = \"rw\"", "mode = \"+640\"", "mode = \"0040\""] {
        assert!(output(line).unwrap_err().contains("like \"0640\""), "{line}");
    }
    for line in ["owner = \"\"", "owner = \":\"", "owner = \"a b\"", "owner = \"a:b:c\""] {
        assert!(output(line).unwrap_err().contains("expected \"USER:GROUP\""), "{line}");
    }
}

#[test]
fn self_preservation_is_on_unless_it_is_switched_off() {
    let self_preservation =
        |text: &str| parse(&format!("[discover]\nself-preservation = {text}")).unwrap().discover.self_preservation;
    assert_eq!(
        parse("").unwrap().discover.self_preservation,
        SelfPreservation::On { share: 0.5, least: 10, time: None }
    );
    assert_eq!(self_preservation("true"), SelfPreservation::default());
    assert_eq!(self_preservation("false"), SelfPreservation::Off);
    let time = Some(Duration::from_mins(1));
    assert_eq!(
        self_preservation(r#"{ share = 0.25, time = "1m" }"#),
        SelfPreservation::On { share: 0.25, least: 10, time }
    );
}
