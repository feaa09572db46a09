//! What nginx cannot carry, and what is said of it.

use waypost_plugin_sdk::{Instance, PluginError, Rendering, Transport, settings as sdk};

use super::{instance, node, over_udp, refusal, service, settings, text, with_streams};
use crate::{Settings, names, render};

/// The server lines of a service of these instances, in any file.
fn servers(instances: &[Instance]) -> Vec<String> {
    let web = service("web", instances);
    let files = ["http.conf", "stream.conf"].map(|path| text(&with_streams(""), &web, path));
    let lines = files.iter().flat_map(|text| text.lines());
    lines.filter_map(|line| line.strip_prefix("    server ")).map(str::to_owned).collect()
}

const TCP: &[(&str, &str)] = &[("listen-port", "8000")];
const HTTP: &[(&str, &str)] = &[("protocol", "http")];

#[test]
fn a_bad_instance_is_left_out_and_the_others_stay() {
    let mut bad = vec![
        instance("any", "0.0.0.0", 80, TCP),
        instance("any6", "::", 80, TCP),
        instance("digits", "12345", 80, TCP),
        instance("line", "10.0.0.9; return 200", 80, TCP),
        instance("path", "unix:/run/x", 80, TCP),
        instance("name", "db.example.com", 80, TCP),
        instance("zero", "10.0.0.9", 0, TCP),
        instance("protocol", "10.0.0.9", 80, &[("listen-port", "8000"), ("protocol", "grpc")]),
        instance("number", "10.0.0.9", 80, &[("listen-port", "http")]),
        instance("sign", "10.0.0.9", 80, &[("listen-port", "+8000")]),
        instance("port", "10.0.0.9", 80, &[("listen-port", "70000")]),
        over_udp(instance("both", "10.0.0.9", 80, HTTP)),
    ];
    bad.push(instance("z", "10.0.0.1", 8080, TCP));
    assert_eq!(servers(&bad), ["10.0.0.1:8080 max_fails=1 fail_timeout=2s; # z"]);
    bad.pop();
    assert_eq!(servers(&bad), Vec::<String>::new(), "a service without a good instance leaves the files");
}

#[test]
fn an_id_that_is_no_plain_word_is_not_written() {
    for id in ["two words", "line\nreturn 200;", "", "a;", "}", "é"] {
        assert_eq!(servers(&[instance(id, "10.0.0.1", 80, TCP)]), ["10.0.0.1:80 max_fails=1 fail_timeout=2s;"]);
    }
}

#[test]
fn bad_domains_and_paths() {
    let bad = [
        "a.x; return 200 pwned;",
        "a b",
        "a..b",
        "-a",
        "a-",
        "a/b",
        "*",
        "*.",
        "a.*.b",
        "a.*",
        ".a",
        "~^.*$",
        "é.example",
        "a#",
        "\"a\"",
        "'a'",
        "$host",
        "a\\b",
        "{a}",
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
    let paths =
        ["api", "/a b", "//", "/a//b", "/../x", "/.", "/%2e", "/a?b", "/a#", "/é", "/a\"", "/{x}", "/a;", "/$x"];
    for path in paths {
        let web = [instance("a", "10.0.0.9", 80, &[("path", path), ("protocol", "http")])];
        assert_eq!(servers(&web), Vec::<String>::new(), "{path}");
    }
    assert!(names::path(&format!("/{}", "a".repeat(254))).is_err(), "255 bytes");
    let many: Vec<String> = (0..300).map(|n| format!("d{n}.example.com")).collect();
    let web = [instance("a", "10.0.0.9", 80, &[("domain", &many.join(",")), ("protocol", "http")])];
    assert_eq!(servers(&web), Vec::<String>::new());
}

#[test]
fn good_names() {
    assert_eq!(names::upstream("reg:5000/Team/app_1").unwrap(), "reg_5000_team_app_1");
    assert_eq!(names::domain("*.Example.COM").unwrap(), "*.example.com");
    assert_eq!(names::domain("my_shop").unwrap(), "my_shop");
    assert_eq!(names::path("/").unwrap(), "");
    assert_eq!(names::path("/v1.0/~me/").unwrap(), "/v1.0/~me");
    assert_eq!(names::endpoint("::ffff:10.0.0.1", 80, false).unwrap(), "[::ffff:10.0.0.1]:80");
    assert_eq!(names::endpoint("db_1.internal", 80, true).unwrap(), "db_1.internal:80");
}

#[test]
fn the_first_good_instance_decides() {
    let tcp = |id: &str, port: &str| instance(id, "10.0.0.1", 80, &[("listen-port", port)]);
    let a = "10.0.0.1:80 max_fails=1 fail_timeout=2s; # a";
    assert_eq!(servers(&[tcp("a", "8000"), tcp("b", "9000"), instance("c", "10.0.0.1", 80, HTTP)]), [a]);
    let silent = instance("a", "10.0.0.1", 80, &[]);
    assert_eq!(servers(&[silent, tcp("b", "8000"), tcp("c", "9000")]).len(), 2);
    assert_eq!(servers(&[instance("a", "10.0.0.1", 80, HTTP), tcp("b", "8000")]), [a]);
}

#[test]
fn what_is_not_for_nginx_is_nothing() {
    let mut sctp = instance("a", "10.0.0.1", 53, &[("listen-port", "53")]);
    sctp.transport = Transport::Sctp;
    assert_eq!(render(&settings("{}"), &node(), &service("bad name", &[sctp])), Ok(Rendering::default()));
    assert_eq!(render(&settings("{}"), &node(), &service("none", &[])), Ok(Rendering::default()));
}

#[test]
fn a_service_is_refused_with_a_reason() {
    let http = [instance("a", "10.0.0.1", 80, HTTP)];
    let tcp = |port| [instance("a", "10.0.0.1", 80, &[("listen-port", port)])];
    let check = |settings: &Settings, name: &str, instances: &[Instance], expected: &str| {
        let found = refusal(settings, &service(name, instances));
        assert!(found.contains(expected), "{found}");
        assert!(found.starts_with(&format!("service {name:?}: ")), "{found}");
    };
    let streams = with_streams("");
    check(&settings("{}"), "db", &tcp("5432"), "speaks tcp, and the setting `stream` is \"off\"");
    check(&settings("{}"), "db", &[over_udp(tcp("53")[0].clone())], "speaks udp, and the setting `stream`");
    check(&streams, "web", &[instance("a", "10.0.0.1", 80, &[])], "attribute listen-port");
    check(&streams, "two words", &tcp("8000"), "nginx takes names of");
    check(&streams, "web{", &http, "nginx takes names of");
    check(&streams, "web; return 200", &http, "nginx takes names of");
    check(&streams, "web", &tcp("80"), "listen-port 80 belongs to http services (setting `http-bind`)");
    check(&streams, "team/web", &http, "attribute domain");
    check(&settings(r#"{"http-bind": "off"}"#), "web", &http, "`http-bind` is \"off\"");
    // Http services have the port on another address, or another protocol.
    let apart = with_streams(r#", "http-bind": "10.0.0.5:80,[::]:80", "tcp-bind": "127.0.0.1""#);
    assert!(render(&apart, &node(), &service("web", &tcp("80"))).is_ok());
    assert!(render(&streams, &node(), &service("web", &[over_udp(tcp("80")[0].clone())])).is_ok());
}

#[test]
fn wrong_settings() {
    for (json, expected) in [
        (r#"{"http-bind": "80"}"#, "http-bind: found \"80\", expected different addresses"),
        (r#"{"http-bind": "*:0"}"#, "expected different addresses"),
        (r#"{"http-bind": "::1:80"}"#, "expected different addresses"),
        (r#"{"http-bind": "*:80,0.0.0.0:80"}"#, "expected different addresses"),
        (r#"{"tcp-bind": "localhost"}"#, "tcp-bind: found \"localhost\""),
        (r#"{"tcp-bind": "::1,[::1]"}"#, "tcp-bind: found"),
        (r#"{"stream": "on"}"#, "stream: found \"on\", expected \"off\", \"built-in\" or the path"),
        (r#"{"stream": "/x y"}"#, "stream: found \"/x y\""),
        (r#"{"connect-timeout": "2"}"#, "connect-timeout: found \"2\", expected a time"),
        (r#"{"connect-timeout": "+2s"}"#, "expected a time"),
        (r#"{"tcp-timeout": "25d"}"#, "at most 24 days"),
        (r#"{"fail-timeout": "500ms"}"#, "fail-timeout: found \"500ms\", nginx takes whole seconds"),
        (r#"{"client-max-body-size": "1M"}"#, "client-max-body-size: found \"1M\", expected a size"),
        (r#"{"default-status": 200}"#, "default-status: found 200, expected 400 to 599"),
        (r#"{"default-service": ""}"#, "default-service: found \"\", expected the name of a service"),
        (r#"{"default-service": "x", "default-server": false}"#, "found \"x\" with `default-server = false`"),
        (r#"{"udp-responses": 0}"#, "udp-responses: found 0"),
        (r#"{"worker-connections": 4}"#, "worker-connections: found 4"),
        (r#"{"keepalive": 300000}"#, "keepalive: found 300000"),
        (r#"{"balance": "source"}"#, "balance: unknown variant"),
        (r#"{"server-lines": ["a\nb"]}"#, "server-lines[0]: found"),
        (r#"{"bind": "*"}"#, "unknown field `bind`"),
    ] {
        match sdk::parse::<Settings>(json) {
            Err(PluginError::InvalidSettings(text)) => assert!(text.contains(expected), "{json}: {text}"),
            other => panic!("{json}: expected an error, found {other:?}"),
        }
    }
}
