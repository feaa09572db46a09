//! Random catalogs: good ones that meet in names, ports and domains, and hostile ones.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use waypost_plugin_sdk::{Instance, Readiness, Service, Transport, attributes};

use super::{settings as parsed, with_streams};
use crate::Settings;

/// What a container may write to get a line of its own into the file.
const HOSTILE: &[&str] = &[
    "a b",
    "a.x; return 200 pwned;",
    "a;}server{listen 1;",
    "a\nreturn 200;",
    "a\r\nreturn 200;",
    "# x",
    "a#b",
    "\"a\"",
    "'a'",
    "a\\ b",
    "a\\",
    "$host",
    "${host}",
    "~^.*$",
    "^~ /",
    "= /",
    "../a",
    "/",
    "",
    "é",
    "\u{2028}return",
    "\0",
    "\t",
    "unix:/run/x",
    "unix:/run/x:",
    "*",
    "a,b",
    "{ }",
    "}",
    "{",
    ";",
    "0",
    "::",
    "backup",
    "default_server",
    "_",
    ".example.com",
    "www.*",
    "hash:x",
    "a|b",
    "%2e",
    "a\\nb",
];
const NAMES: &[&str] = &[
    "web",
    "db",
    "shop",
    "team/app",
    "team_app",
    "Team/App",
    "a.b-c:d",
    "reg:5000/x/y",
    "WEB",
    "1",
    ".",
    "waypost",
    "waypost-web",
    "udp-web",
    "server",
    "upstream",
    "ghost.example.web.dev.app1.internal",
    "whoami",
    "whoami-8000",
    "api",
    "x.example.com",
    "example.com",
    "or",
    "cache",
];
const IDS: &[&str] = &["a", "web-1:app:80", "x.y_z", "-", ".", "check", "444a99dbf0c6"];
const ADDRESSES: &[&str] =
    &["10.0.0.1", "10.0.0.2", "::1", "2001:db8::1", "fe80::1", "127.0.0.1", "localhost", "255.255.255.255"];
const DOMAINS: &[&str] = &[
    "web",
    "a.example.com",
    "*.example.com",
    "Example.COM, b.example.com",
    "or",
    "x_y.test",
    "*.a.example.com",
    "*.x-1.a.example.com",
    "",
    "c.test",
    "_",
    "localhost",
    "a-domain-of-forty-seven-characters.example.test",
    "f.test,g.test",
    "*.test",
];
const PATHS: &[&str] = &["/", "/api", "/api/", "/api/v2,/api", "/~me/v1.0", "", "/~", "/-", "/_"];
const PORTS: &[&str] = &["8000", "8001", "8002", "9000", "9001", "5432", "3306", "6379", "65535", "1", "80", "1936"];

fn text(good: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        40 => select(good).prop_map(str::to_owned),
        1 => select(HOSTILE).prop_map(str::to_owned),
        1 => "[a-z0-9._/:-]{1,12}",
        1 => any::<String>(),
    ]
}

fn instance() -> impl Strategy<Value = Instance> {
    let protocol = prop_oneof![20 => Just(Some("http")), 15 => Just(Some("tcp")), 5 => Just(None), 3 => Just(Some("udp")), 1 => Just(Some("grpc"))];
    let facts = (protocol, weighted(0.8, text(PORTS)), weighted(0.5, text(DOMAINS)), weighted(0.4, text(PATHS)));
    let id = prop_oneof![8 => "[0-9a-f]{12}".boxed(), 1 => text(IDS).boxed()];
    let transport = prop_oneof![20 => Just(Transport::Tcp), 4 => Just(Transport::Udp), 1 => Just(Transport::Sctp)];
    let readiness =
        prop_oneof![12 => Just(Readiness::Ready), 6 => Just(Readiness::Draining), 1 => Just(Readiness::Gone)];
    let weight = weighted(0.3, 0..270_u16);
    (id, text(ADDRESSES), 0..3000_u16, transport, readiness, weight, facts).prop_map(
        |(id, address, port, transport, readiness, weight, (protocol, listen_port, domain, path))| {
            let facts = [
                ("protocol", protocol.map(str::to_owned)),
                ("listen-port", listen_port),
                ("domain", domain),
                ("path", path),
            ];
            let attributes = attributes::sorted(facts.into_iter().filter_map(|(name, value)| Some((name, value?))));
            Instance { service: String::new(), id, address, port, transport, readiness, weight, attributes }
        },
    )
}

/// Up to twenty services; names, ports and domains repeat often.
pub(super) fn catalog() -> impl Strategy<Value = Vec<Service>> {
    let service = (text(NAMES), vec(instance(), 0..6), 0..12).prop_map(|(name, mut instances, left)| {
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        if left == 0 {
            instances.iter_mut().for_each(|instance| instance.readiness = Readiness::Gone);
        }
        for instance in &mut instances {
            instance.service.clone_from(&name);
        }
        Service { name, instances, denied: Vec::new() }
    });
    vec(service, 0..20).prop_map(|mut services| {
        services.sort_by(|a, b| a.name.cmp(&b.name));
        services.dedup_by(|a, b| a.name == b.name);
        services
    })
}

/// With and without what can be switched off.
pub(super) fn settings() -> impl Strategy<Value = Settings> {
    let forms = [
        parsed("{}"),
        with_streams(""),
        with_streams(r#", "tcp-bind": "127.0.0.1,::1", "http-bind": "127.0.0.1:80", "balance": "leastconn""#),
        with_streams(r#", "http-bind": "off", "udp-responses": 1, "keepalive": 0"#),
        with_streams(r#", "http-bind": "*:80,[::]:80", "default-status": 404, "balance": "random""#),
        parsed(r#"{"default-server": false, "max-fails": 0, "client-max-body-size": "0"}"#),
        with_streams(r#", "server-lines": ["proxy_read_timeout 1h;"], "http-lines": ["gzip on;"]"#),
        with_streams(r#", "default-service": "web""#),
        with_streams(
            r#", "server-lines": ["location /.well-known/acme-challenge/ { root /var/www; }", "error_page 503 /gone.html;"]"#,
        ),
    ];
    select(forms.to_vec())
}
