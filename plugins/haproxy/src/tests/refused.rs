//! What HAProxy cannot carry, and what is said of it.

use waypost_plugin_sdk::{Instance, PluginError, Readiness, Rendering, Transport, settings as sdk};

use super::{instance, node, refusal, service, settings, text};
use crate::{Settings, names, render};

/// The server lines of a service of these instances.
fn servers(instances: &[Instance]) -> Vec<String> {
    let text = text(&settings(r#"{"check": false}"#), &service("web", instances), "haproxy.cfg");
    text.lines().filter_map(|line| line.strip_prefix("    server ")).map(str::to_owned).collect()
}

const TCP: &[(&str, &str)] = &[("listen-port", "8000")];

#[test]
fn a_bad_instance_is_left_out_and_the_others_stay() {
    let mut bad = vec![
        instance("two words", "10.0.0.9", 80, TCP),
        instance("line\nbackend x", "10.0.0.9", 80, TCP),
        instance("", "10.0.0.9", 80, TCP),
        instance("any", "0.0.0.0", 80, TCP),
        instance("any6", "::", 80, TCP),
        instance("digits", "12345", 80, TCP),
        instance("srv", "_http._tcp.example.com", 80, TCP),
        instance("path", "unix@/run/x", 80, TCP),
        instance("zero", "10.0.0.9", 0, TCP),
        instance("protocol", "10.0.0.9", 80, &[("listen-port", "8000"), ("protocol", "grpc")]),
        instance("number", "10.0.0.9", 80, &[("listen-port", "http")]),
        instance("sign", "10.0.0.9", 80, &[("listen-port", "+8000")]),
        instance("port", "10.0.0.9", 80, &[("listen-port", "70000")]),
    ];
    bad.push(instance("z", "10.0.0.1", 8080, TCP));
    assert_eq!(servers(&bad), ["z 10.0.0.1:8080"]);
    bad.pop();
    assert_eq!(servers(&bad), Vec::<String>::new(), "a service without a good instance leaves the files");
}

#[test]
fn bad_domains_and_paths() {
    let bad = [
        "a b",
        "a..b",
        "-a",
        "a-",
        "a/b",
        "*",
        "*.",
        "a.*.b",
        "é.example",
        "a#",
        "\"a\"",
        "$HOME",
        "a\\b",
        "%[src]",
        "a;b",
        "a:80",
    ];
    for domain in bad {
        let web = [instance("a", "10.0.0.9", 80, &[("domain", domain), ("protocol", "http")])];
        assert_eq!(servers(&web), Vec::<String>::new(), "{domain}");
        assert!(names::domain(domain).is_err(), "{domain}");
    }
    assert!(names::domain(&"a".repeat(64)).is_err());
    assert!(names::domain(&["a".repeat(63).as_str(); 4].join(".")).is_err(), "255 bytes");
    for path in ["api", "/a b", "//", "/a//b", "/../x", "/.", "/%2e", "/a?b", "/a#", "/é", "/a\"", "/{x}"] {
        let web = [instance("a", "10.0.0.9", 80, &[("path", path), ("protocol", "http")])];
        assert_eq!(servers(&web), Vec::<String>::new(), "{path}");
    }
    let many: Vec<String> = (0..300).map(|n| format!("d{n}.example.com")).collect();
    let web = [instance("a", "10.0.0.9", 80, &[("domain", &many.join(",")), ("protocol", "http")])];
    assert_eq!(servers(&web), Vec::<String>::new());
}

#[test]
fn good_names() {
    assert_eq!(names::proxy("reg:5000/team/app_1").unwrap(), "reg:5000_team_app_1");
    assert_eq!(names::domain("*.Example.COM").unwrap(), "*.example.com");
    assert_eq!(names::domain("my_shop").unwrap(), "my_shop");
    assert_eq!(names::path("/").unwrap(), "");
    assert_eq!(names::path("/v1.0/~me/").unwrap(), "/v1.0/~me");
    assert_eq!(names::endpoint("::ffff:10.0.0.1", 80).unwrap().to_string(), "[::ffff:10.0.0.1]:80");
    assert_eq!(names::endpoint("db_1.internal", 80).unwrap().to_string(), "db_1.internal:80");
}

#[test]
fn weights_and_draining() {
    let mut light = instance("a", "10.0.0.1", 80, TCP);
    light.weight = Some(0);
    let mut full = instance("b", "10.0.0.2", 80, TCP);
    full.weight = Some(256);
    let mut leaving = full.clone();
    leaving.id = "c".into();
    leaving.readiness = Readiness::Draining;
    assert_eq!(
        servers(&[light, full, leaving]),
        ["a 10.0.0.1:80 weight 0", "b 10.0.0.2:80 weight 256", "c 10.0.0.2:80 weight 0"]
    );
}

#[test]
fn weights_above_what_haproxy_takes_keep_their_proportions() {
    let weighted = |weights: &[u16]| -> Vec<String> {
        let server = |(number, weight): (usize, &u16)| {
            let mut server = instance(&number.to_string(), "10.0.0.1", 80, TCP);
            server.weight = Some(*weight);
            server
        };
        let instances: Vec<Instance> = weights.iter().enumerate().map(server).collect();
        servers(&instances).into_iter().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(weighted(&[1000, 500, 250, 1, 0]), ["256", "128", "64", "1", "0"]);
    assert_eq!(weighted(&[257, 256, 1]), ["256", "255", "1"]);
    assert_eq!(weighted(&[256, 100, 1]), ["256", "100", "1"], "nothing to scale");
    assert_eq!(weighted(&[u16::MAX, u16::MAX - 1, 1]), ["256", "256", "1"]);
    let mut leaving = instance("a", "10.0.0.1", 80, TCP);
    (leaving.weight, leaving.readiness) = (Some(1000), Readiness::Draining);
    let silent = instance("b", "10.0.0.2", 80, TCP);
    let mut some = instance("c", "10.0.0.3", 80, TCP);
    some.weight = Some(200);
    assert_eq!(
        servers(&[leaving, silent, some]),
        ["a 10.0.0.1:80 weight 0", "b 10.0.0.2:80", "c 10.0.0.3:80 weight 200"]
    );
}

#[test]
fn an_instance_that_drains_decides_only_where_all_do() {
    let tcp = |id: &str, port: &str, readiness| {
        let mut instance = instance(id, "10.0.0.1", 80, &[("listen-port", port)]);
        instance.readiness = readiness;
        instance
    };
    let (ready, draining) = (Readiness::Ready, Readiness::Draining);
    assert_eq!(servers(&[tcp("a", "8000", draining), tcp("b", "9000", ready)]), ["b 10.0.0.1:80"]);
    assert_eq!(servers(&[tcp("a", "8000", draining), tcp("b", "9000", draining)]), ["a 10.0.0.1:80 weight 0"]);
    let both = servers(&[tcp("a", "9000", draining), tcp("b", "9000", ready)]);
    assert_eq!(both, ["a 10.0.0.1:80 weight 0", "b 10.0.0.1:80"], "by id all the same");
    let web = instance("b", "10.0.0.1", 80, &[("protocol", "http")]);
    assert_eq!(servers(&[tcp("a", "8000", draining), web]), ["b 10.0.0.1:80"]);
}

#[test]
fn names_are_followed_or_looked_up_once() {
    let db = service("db", &[instance("a", "db.internal", 5432, TCP)]);
    for (json, expected) in [
        (r#"{"check": false}"#, "    server a db.internal:5432 init-addr last,libc,none\n"),
        (
            r#"{"check": false, "resolvers": "dns"}"#,
            "    server a db.internal:5432 resolvers dns init-addr last,none\n",
        ),
    ] {
        let text = text(&settings(json), &db, "haproxy.cfg");
        assert!(text.ends_with(expected), "{text}");
    }
}

#[test]
fn the_first_good_instance_decides() {
    let http = [("protocol", "http")];
    let tcp = |id: &str, port: &str| instance(id, "10.0.0.1", 80, &[("listen-port", port)]);
    assert_eq!(servers(&[tcp("a", "8000"), tcp("b", "9000"), instance("c", "10.0.0.1", 80, &http)]), ["a 10.0.0.1:80"]);
    let silent = instance("a", "10.0.0.1", 80, &[]);
    assert_eq!(servers(&[silent.clone(), tcp("b", "8000"), tcp("c", "9000")]), ["a 10.0.0.1:80", "b 10.0.0.1:80"]);
    assert_eq!(servers(&[instance("a", "10.0.0.1", 80, &http), tcp("b", "8000")]), ["a 10.0.0.1:80"]);
    assert_eq!(servers(&[tcp("a", "8000"), tcp("a", "8000")]).len(), 1, "HAProxy takes a name once");
}

#[test]
fn datagrams_are_not_for_haproxy() {
    let mut udp = instance("a", "10.0.0.1", 53, &[("listen-port", "53")]);
    udp.transport = Transport::Udp;
    let mut sctp = udp.clone();
    sctp.transport = Transport::Sctp;
    let named = instance("c", "10.0.0.1", 53, &[("protocol", "udp")]);
    assert_eq!(render(&settings("{}"), &node(), &service("bad name", &[udp, sctp, named])), Ok(Rendering::default()));
    assert_eq!(render(&settings("{}"), &node(), &service("none", &[])), Ok(Rendering::default()));
}

#[test]
fn a_service_is_refused_with_a_reason() {
    let http = [instance("a", "10.0.0.1", 80, &[("protocol", "http")])];
    let tcp = |port| [instance("a", "10.0.0.1", 80, &[("listen-port", port)])];
    let check = |json: &str, name: &str, instances: &[Instance], expected: &str| {
        let found = refusal(&settings(json), &service(name, instances));
        assert!(found.contains(expected), "{found}");
        assert!(found.starts_with(&format!("service {name:?}: ")), "{found}");
    };
    check("{}", "web", &[instance("a", "10.0.0.1", 80, &[])], "attribute listen-port");
    check("{}", "two words", &tcp("8000"), "HAProxy takes names of");
    check("{}", "web\nbackend x", &http, "HAProxy takes names of");
    check("{}", "http-in", &http, "belongs to a section of Waypost's own");
    check("{}", ".", &http, "belongs to a section of Waypost's own");
    check("{}", "waypost-stats", &tcp("8000"), "belongs to a section of Waypost's own");
    check("{}", "web", &tcp("1936"), "listen-port 1936 belongs to waypost-stats (setting `stats-bind`)");
    check("{}", "web", &tcp("80"), "listen-port 80 belongs to http-in (setting `http-bind`)");
    check("{}", "team/web", &http, "attribute domain");
    check(r#"{"http-bind": "off"}"#, "web", &http, "`http-bind` is \"off\"");
    // The frontend has the port on another address only.
    let apart = settings(r#"{"http-bind": "10.0.0.5:80", "tcp-bind": "127.0.0.1"}"#);
    assert!(render(&apart, &node(), &service("web", &tcp("80"))).is_ok());
    // A word of HAProxy's language where an acl is named.
    let word = service("web", &[instance("a", "10.0.0.1", 80, &[("domain", "or"), ("protocol", "http")])]);
    assert_eq!(render(&settings(r#"{"routing": "acl"}"#), &node(), &word), Ok(Rendering::default()));
}

#[test]
fn wrong_settings() {
    for (json, expected) in [
        (r#"{"socket": "run/x"}"#, "socket: expected an absolute path"),
        (r#"{"socket": "/run/a b"}"#, "socket: found \"/run/a b\", expected one word"),
        (r#"{"stats-bind": "off", "http-bind": "off"}"#, "without a listener"),
        (
            r#"{"default-service": "a b"}"#,
            "default-service: found \"a b\", expected the name of a service: HAProxy takes",
        ),
        (r#"{"default-service": "http-in"}"#, "belongs to a section of Waypost's own"),
        (r#"{"stats-bind": "*:80"}"#, "stats-bind: *:80 is also where `http-bind` listens"),
        (r#"{"http-bind": "80"}"#, "http-bind: found \"80\", expected addresses"),
        (r#"{"http-bind": "*:0"}"#, "expected addresses"),
        (r#"{"http-bind": "::1:80"}"#, "expected addresses"),
        (r#"{"tcp-bind": "localhost"}"#, "tcp-bind: found \"localhost\""),
        (r#"{"check-interval": "2"}"#, "check-interval: found \"2\", expected a time"),
        (r#"{"check-interval": "+2s"}"#, "expected a time"),
        (r#"{"hard-stop-after": "25d"}"#, "at most 24 days"),
        (r#"{"check-rise": 0}"#, "check-rise: found 0"),
        (r#"{"maxconn": 0}"#, "maxconn: found 0"),
        (r#"{"routing": "regex"}"#, "routing: unknown variant"),
        (r#"{"balance": "source"}"#, "balance: unknown variant"),
        (r#"{"global-lines": ["a\nb"]}"#, "global-lines[0]: found"),
        (r#"{"bind": "*"}"#, "unknown field `bind`"),
    ] {
        match sdk::parse::<Settings>(json) {
            Err(PluginError::InvalidSettings(text)) => assert!(text.contains(expected), "{json}: {text}"),
            other => panic!("{json}: expected an error, found {other:?}"),
        }
    }
}
