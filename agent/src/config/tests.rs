use std::path::Path;

use super::*;

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
            "output[0]: found directory \"etc\", expected an absolute path",
        ),
        ("[[grouping]]\nplugin = \"image\"\npath = \"x.wasm\"", "grouping[0]: expected either plugin"),
        ("[[grouping]]\npath = \"x.wasm\"\nsha256 = \"12\"", "grouping[0]: found sha256 \"12\", expected 64"),
        (
            "[registry]\nkind = \"memory\"\nendpoints = [\"http://x\"]",
            "w.toml:3: registry.endpoints: found kind = \"memory\"",
        ),
        ("[agent] # who\nregister = false\n", "w.toml:2: agent.register: found false with the embedded registry"),
        ("[[layout]]\nplugin = \"json\"\nread = false", "w.toml:1: layout[0]: no layout is read"),
        (
            "[[output]]\nplugin = \"haproxy\"\ndirectory = \"/a\"\n[[output]]\nplugin = \"haproxy\"\ndirectory = \"/a\"",
            "w.toml:4: output[1]: found directory \"/a\" twice",
        ),
        ("[agent\n", "w.toml:1: unclosed table, expected `]`"),
    ];
    for (text, expected) in cases {
        let error = parse(text).unwrap_err();
        assert!(error.contains(expected), "{text:?}\n  found    {error}\n  expected {expected}");
        assert!(error.starts_with("w.toml:"), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn a_reload_has_one_form() {
    let output = |reload: &str| {
        parse(&format!("[[output]]\nplugin = \"haproxy\"\ndirectory = \"/etc/x\"\nreload = {reload}"))
            .map(|config| config.output[0].reload.clone().unwrap())
    };
    let argv = |words: &[&str]| Argv(words.iter().map(|word| (*word).to_owned()).collect());
    assert_eq!(output("{ command = [\"true\"] }"), Ok(Reload::Command(argv(&["true"]))));
    assert_eq!(output("{ pid-file = \"/run/p\" }"), Ok(Reload::PidFile("/run/p".into(), "USR2".into())));
    assert_eq!(
        output("{ supervise = [\"a\"], signal = \"SIGHUP\" }"),
        Ok(Reload::Supervise(argv(&["a"]), "HUP".into()))
    );
    for (program, signal) in [("haproxy", "USR2"), ("nginx", "HUP"), ("/usr/sbin/nginx", "HUP"), ("/nginx/run", "USR2")]
    {
        let supervised = Reload::Supervise(argv(&[program, "-c"]), signal.into());
        assert_eq!(output(&format!("{{ supervise = [\"{program}\", \"-c\"] }}")), Ok(supervised));
    }
    assert_eq!(output("{ master-socket = \"/run/m.sock\" }"), Ok(Reload::MasterSocket("/run/m.sock".into())));
    let in_container = |how| Ok(Reload::Container("edge-1".into(), how));
    let told = output("{ container = \"edge-1\", signal = \"SIGHUP\" }");
    assert_eq!(told, in_container(ContainerReload::Signal("HUP".into())));
    assert_eq!(output("{ container = \"edge-1\", restart = true }"), in_container(ContainerReload::Restart));
    for (reload, expected) in [
        ("{ container = \"edge-1\" }", "either signal = \"HUP\""),
        ("{ container = \"edge-1\", restart = true, signal = \"HUP\" }", "either signal"),
        ("{ container = \"edge/1\", restart = true }", "found container \"edge/1\""),
        ("{ container = \"\", restart = true }", "found container \"\""),
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
    assert!(output("{ pid-file = \"/run/p\", signal = \"KILL\" }").unwrap_err().contains("found signal \"KILL\""));
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
