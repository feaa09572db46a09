//! Random catalogs: good ones that meet in names, ports and domains, and hostile ones.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use waypost_plugin_sdk::{Instance, Readiness, Service, Transport, attributes};

use crate::Settings;

/// What a container may write to get a line of its own into the file.
const HOSTILE: &[&str] = &[
    "a b",
    "a\nbackend evil",
    "a\r\nbackend evil",
    "# x",
    "a#b",
    "\"a\"",
    "'a'",
    "a\\ b",
    "$HOME",
    "${HOME}",
    "%[src]",
    "../a",
    "/",
    "",
    "é",
    "\u{2028}backend",
    "\0",
    "\t",
    "a if TRUE",
    "unix@/run/x",
    "abns@x",
    "fd@3",
    "*",
    "a,b",
    "{ path / }",
    "!",
    "0",
    "::",
    "or",
    "if",
    "-i",
    "-f/etc/passwd",
    "from",
    "http-in",
    "waypost-stats",
    "stats",
    "defaults",
    "a;b",
    "a|b",
    "^.*$",
];
const NAMES: &[&str] = &[
    "web",
    "db",
    "shop",
    "team/app",
    "team_app",
    "a.b-c:d",
    "reg:5000/x/y",
    "WEB",
    "1",
    ".",
    "if",
    "unless",
    "TRUE",
    "waypost",
    "listen",
    "ghost.example.web.dev.app1.internal",
    "whoami",
    "whoami-8000",
    "api",
    "stats",
    "x.example.com",
    "example.com",
    "or",
    "from",
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
    "if",
    "x_y.test",
    "*.a.example.com",
    "",
    "c.test",
    "d.test",
    "e.test",
    "f.test,g.test",
    "h.test",
    "*.test",
];
const PATHS: &[&str] = &["/", "/api", "/api/", "/api/v2,/api", "/~me/v1.0", ""];
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
    let protocol =
        prop_oneof![20 => Just(Some("http")), 15 => Just(Some("tcp")), 5 => Just(None), 1 => Just(Some("grpc"))];
    let facts = (protocol, weighted(0.8, text(PORTS)), weighted(0.5, text(DOMAINS)), weighted(0.4, text(PATHS)));
    let id = prop_oneof![8 => "[0-9a-f]{12}".boxed(), 1 => text(IDS).boxed()];
    let transport = prop_oneof![20 => Just(Transport::Tcp), 1 => Just(Transport::Udp)];
    let readiness =
        prop_oneof![4 => Just(Readiness::Ready), 1 => Just(Readiness::Draining), 1 => Just(Readiness::Gone)];
    let weight = weighted(0.3, prop_oneof![9 => 0..270_u16, 1 => any::<u16>()]);
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
pub(crate) fn catalog() -> impl Strategy<Value = Vec<Service>> {
    let service = (text(NAMES), vec(instance(), 0..6)).prop_map(|(name, mut instances)| {
        instances.sort_by(|a, b| a.id.cmp(&b.id));
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

/// Every form of routing, with and without what can be switched off.
pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    let forms = [
        "{}",
        r#"{"routing": "acl"}"#,
        r#"{"routing": "acl", "default-service": "web", "socket": "/run/haproxy.sock"}"#,
        r#"{"default-service": "team/app", "stats-bind": "off"}"#,
        r#"{"check": false, "balance": "leastconn", "tcp-bind": "127.0.0.1,::1", "http-bind": "127.0.0.1:80"}"#,
        r#"{"socket": "/run/haproxy.sock", "stats-bind": "off", "hard-stop-after": "off", "maxconn": 100}"#,
        r#"{"socket": "/run/haproxy.sock", "standby-backends": 12, "slots": 2, "global-lines": ["log 127.0.0.1:514 local0"]}"#,
        r#"{"routing": "acl", "http-bind": "off", "balance": "random", "resolvers": "default"}"#,
        r#"{"global-lines": ["log 127.0.0.1:514 local0"], "defaults-lines": ["timeout client 2m"], "http-lines": ["option httplog"]}"#,
    ];
    select(forms.to_vec()).prop_map(super::settings)
}
