//! The texts as the README shows them.

use super::{compose, draining, instance, over_udp, service, settings, text, with_streams};

/// The block of `language` in the README that begins with `first`.
fn shown(first: &str) -> String {
    let readme = include_str!("../../README.md");
    let blocks = readme.split("```nginx\n").skip(1).filter_map(|rest| rest.split("```").next());
    let found = blocks.into_iter().find(|block| block.contains(first));
    found.unwrap_or_else(|| panic!("the README shows nothing with {first:?}")).to_owned()
}

#[test]
fn the_example_of_the_readme() {
    let http = |more: &[(&'static str, &'static str)]| {
        [&[("protocol", "http"), ("domain", "shop.example.com")], more].concat()
    };
    let services = [
        service("basket", &[instance("5cbd1a60c1e2", "10.0.0.1", 49180, &http(&[("path", "/basket")]))]),
        service(
            "shop",
            &[
                instance("0ce60d000eac", "10.0.0.1", 49176, &http(&[])),
                draining(instance("7874b121c0de", "10.0.0.2", 49188, &http(&[]))),
            ],
        ),
        service("db", &[instance("444a99dbf0c6", "10.0.0.2", 49170, &[("listen-port", "5432")])]),
    ];
    let (files, held_back) = compose(&with_streams(r#", "tcp-bind": "127.0.0.1""#), &services);
    assert!(held_back.is_empty());
    for (name, first) in [("nginx.conf", "prefix"), ("http.conf", "For the http"), ("stream.conf", "For the stream")] {
        assert_eq!(shown(first), files[name], "{name}");
    }
}

#[test]
fn weights_and_draining() {
    let facts = [("protocol", "http"), ("domain", "a.example")];
    let mut light = instance("a", "10.0.0.1", 80, &facts);
    light.weight = Some(0);
    let mut heavy = instance("b", "::1", 80, &facts);
    heavy.weight = Some(65535);
    let web = service("web", &[light.clone(), heavy.clone(), draining(heavy.clone())]);
    let text = |service| text(&settings("{}"), service, "http.conf");
    let expected = "
upstream web.waypost {
    server 10.0.0.1:80 max_fails=1 fail_timeout=2s down; # a
    server [::1]:80 max_fails=1 fail_timeout=2s weight=65535; # b
    server [::1]:80 max_fails=1 fail_timeout=2s down; # b
    keepalive 32;
    keepalive_timeout 4s;
}
";
    assert!(text(&web).starts_with(expected), "{}", text(&web));
    assert!(text(&web).contains("    location / { proxy_pass http://web.waypost; }\n"), "{}", text(&web));
    let nobody = service("web", &[light, draining(heavy)]);
    assert!(text(&nobody).contains("    location / { return 503; } # web.waypost\n"), "{}", text(&nobody));
}

#[test]
fn datagrams() {
    let port = [("listen-port", "53"), ("protocol", "udp")];
    let dns = service("dns", &[over_udp(instance("a", "10.0.0.1", 1053, &port))]);
    let expected = "
upstream dns.waypost-udp {
    server 10.0.0.1:1053 max_fails=1 fail_timeout=2s; # a
}

server {
    listen 127.0.0.1:53 udp reuseport;
    listen [::1]:53 udp reuseport;
    proxy_pass dns.waypost-udp;
    proxy_timeout 30s;
    proxy_responses 1;
}
";
    let settings = with_streams(r#", "tcp-bind": "127.0.0.1,::1", "udp-responses": 1"#);
    assert_eq!(text(&settings, &dns, "stream.conf"), expected);
}

#[test]
fn one_service_by_tcp_and_udp() {
    let port = [("listen-port", "53")];
    let tcp = instance("a", "10.0.0.1", 1053, &port);
    let text = text(&with_streams(""), &service("dns", &[tcp.clone(), over_udp(tcp)]), "stream.conf");
    assert!(text.contains("\n    listen *:53;\n    proxy_pass dns.waypost;\n"), "{text}");
    assert!(text.contains("\n    listen *:53 udp reuseport;\n    proxy_pass dns.waypost-udp;\n"), "{text}");
    let http = instance("a", "10.0.0.1", 443, &[("protocol", "http"), ("domain", "a.example")]);
    let quic = over_udp(instance("b", "10.0.0.1", 443, &[("protocol", "udp")]));
    let web = super::text(&with_streams(""), &service("web", &[http, quic]), "http.conf");
    assert!(web.contains("proxy_pass http://web.waypost;"), "the udp side has no port, and http goes on: {web}");
}

#[test]
fn domains() {
    let facts = [("protocol", "http"), ("domain", "*.Example.com,shop.example.com")];
    let text = text(&settings("{}"), &service("web", &[instance("a", "10.0.0.1", 80, &facts)]), "http.conf");
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("    server_name ")).collect();
    assert_eq!(names, ["shop.example.com;", r"~^[^.]+\.example\.com$;"]);
}
