//! Who has what when two services want the same, and which line comes first.

use super::{compose, instance, service, settings};

fn http(name: &str, facts: &[(&str, &str)]) -> waypost_plugin_sdk::Service {
    let facts: Vec<(&str, &str)> = facts.iter().copied().chain([("protocol", "http")]).collect();
    service(name, &[instance("a", "10.0.0.1", 80, &facts)])
}

fn tcp(name: &str, port: &str) -> waypost_plugin_sdk::Service {
    service(name, &[instance("a", "10.0.0.1", 80, &[("listen-port", port)])])
}

#[test]
fn one_port_one_service() {
    let (files, held_back) =
        compose(&settings("{}"), &[tcp("a", "8000"), tcp("b", "8000"), tcp("c", "9000"), tcp("d", "1")]);
    assert_eq!(held_back, ["b"]);
    assert!(files["haproxy.cfg"].contains("\n# Ports of tcp services\n# 1 d\n# 8000 a\n# 9000 c\n\nlisten a\n"));
}

#[test]
fn one_name_one_service() {
    for routing in ["map", "acl"] {
        let settings = settings(&format!(r#"{{"routing": "{routing}"}}"#));
        let domain = [("domain", "x.example")];
        let (_, held_back) =
            compose(&settings, &[http("a/b_c", &domain), http("a_b/c", &domain), http("a_b_c", &domain)]);
        assert_eq!(held_back, ["a_b/c", "a_b_c"]);
        let (_, held_back) = compose(&settings, &[http("a/b", &domain), tcp("a_b", "8000")]);
        assert_eq!(held_back, ["a_b"]);
    }
}

#[test]
fn one_domain_and_path_one_service() {
    for routing in ["map", "acl"] {
        let settings = settings(&format!(r#"{{"routing": "{routing}"}}"#));
        let services = [
            http("a", &[("domain", "x.example,*.y.example")]),
            http("b", &[("domain", "X.example"), ("path", "/")]),
            http("c", &[("domain", "x.example"), ("path", "/api")]),
            http("d", &[("domain", "x.example"), ("path", "/api/,/other")]),
            http("e", &[("domain", "*.y.example")]),
            http("f", &[("domain", "y.example")]),
        ];
        let (_, held_back) = compose(&settings, &services);
        assert_eq!(held_back, ["b", "d", "e"], "{routing}");
    }
}

#[test]
fn the_longest_domain_and_path_come_first() {
    let services = [
        http("a", &[("domain", "example.com")]),
        http("b", &[("domain", "example.com"), ("path", "/api")]),
        http("c", &[("domain", "example.com"), ("path", "/api/v2")]),
        http("d", &[("domain", "*.example.com")]),
        http("e", &[("domain", "x.example.com")]),
        service(
            "f",
            &[
                instance("a", "10.0.0.1", 80, &[("domain", "zz"), ("path", "/1"), ("protocol", "http")]),
                instance("b", "10.0.0.1", 80, &[("protocol", "http")]),
            ],
        ),
    ];
    let (files, _) = compose(&settings(r#"{"routing": "acl"}"#), &services);
    let wanted = |line: &&str| line.starts_with("acl ") || line.starts_with("use_backend ");
    let rules: Vec<&str> = files["haproxy.cfg"].lines().map(str::trim_start).filter(wanted).collect();
    let expected = [
        "acl .example.com var(txn.wildcard) -m str *.example.com",
        "acl example.com hdr_dom(host) -i example.com",
        "acl f hdr_dom(host) -i f",
        "acl x.example.com hdr_dom(host) -i x.example.com",
        "acl zz hdr_dom(host) -i zz",
        "use_backend e if x.example.com",
        "use_backend d if .example.com",
        "use_backend c if example.com { var(txn.path) -m beg /api/v2/ }",
        "use_backend b if example.com { var(txn.path) -m beg /api/ }",
        "use_backend a if example.com",
        "use_backend %[str(.)] if example.com",
        "use_backend f if zz { var(txn.path) -m beg /1/ }",
        "use_backend %[str(.)] if zz",
        "use_backend f if f",
    ];
    assert_eq!(rules, expected);
}
