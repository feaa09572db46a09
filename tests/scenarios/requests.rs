//! One table of requests, and who is to answer each: HAProxy and nginx decide alike, whatever clients write.

mod front;
mod random;

use harness::Network;

use front::{Front, HAPROXY, NGINX, Proxy};

/// Whoever answers for domains that nobody has: 503, or the default service.
const NOBODY: &str = "nobody";

/// Parent of an exact domain of 240 characters, and of a wildcard beside it.
fn parent() -> String {
    ["a", "b", "c"].map(|letter| letter.repeat(63)).join(".") + ".example"
}

fn long() -> String {
    format!("{}.{}", "d".repeat(40), parent())
}

/// Name, domains, paths and readiness of each service.
fn services() -> Vec<(&'static str, String, &'static str, &'static str)> {
    let plain = |name, domain: &str, path| (name, domain.to_owned(), path, "ready");
    vec![
        plain("shop", "shop.example", "/"),
        plain("api", "shop.example", "/api"),
        plain("only", "only.example", "/app"),
        plain("deep", "*.deep.example", "/"),
        plain("fallback", "fallback.test", "/"),
        ("long", long(), "/", "ready"),
        ("wild", format!("*.example,*.{}", parent()), "/", "ready"),
        // Nobody of theirs takes requests.
        ("leaving", "leaving.example".to_owned(), "/", "draining"),
        ("left", "shop.example".to_owned(), "/left", "draining"),
    ]
}

/// The host that a request asks for, and who is to answer.
const HOSTS: &[(&str, &str)] = &[
    ("shop.example", "shop"),
    ("SHOP.Example", "shop"),
    ("shop.example:80", "shop"),
    ("shop.example:8080", "shop"),
    ("shop.example:", "shop"),
    ("shop.example.", "shop"),
    ("Shop.Example.:80", "shop"),
    ("a.example", "wild"),
    ("A.example.:80", "wild"),
    ("a.b.example", NOBODY),
    ("example", NOBODY),
    ("xshop.example.org", NOBODY),
    ("deep.example", "wild"),
    ("a.deep.example", "deep"),
    ("a.b.deep.example", NOBODY),
    ("my_shop.example", "wild"),
    ("xn--bcher-kva.example", "wild"),
    ("leaving.example", "503"),
    ("only.example", "503"),
    ("nobody.test", NOBODY),
    ("fallback.test", "fallback"),
    ("10.1.2.3", NOBODY),
    ("10.1.2.3:80", NOBODY),
    ("[2001:db8::1]", NOBODY),
    ("[::1]:80", NOBODY),
    ("shop.example/api", "400"),
    ("shop.example,a.example", "400"),
    ("a,b.example", "400"),
    ("shop.example a.example", "400"),
    ("a\tb.example", "400"),
    ("shop%2eexample", "400"),
    ("someone@shop.example", "400"),
    ("*.example", "400"),
    (".", "400"),
    (":80", "400"),
    ("", "400"),
    ("shop.example\r\nHost: a.example", "400"),
];

/// What a request asks shop.example for, and who is to answer.
const PATHS: &[(&str, &str)] = &[
    ("/", "shop"),
    ("/api", "api"),
    ("/api/", "api"),
    ("/api/x", "api"),
    ("/apix", "shop"),
    ("/API", "shop"),
    ("/x/api", "shop"),
    ("/left", "503"),
    ("/left/x?y", "503"),
    ("//api", "api"),
    ("///api///x", "api"),
    ("/api//x", "api"),
    ("//", "shop"),
    ("/%61pi", "api"),
    ("/%61%70%69/x", "api"),
    ("/%2561pi", "shop"),
    ("/api%2Fx", "api"),
    ("/api%2fx", "api"),
    ("/%2Fapi", "api"),
    ("/api%3Fx", "shop"),
    ("/api%23x", "shop"),
    ("/api%20x", "shop"),
    ("/api?x=/../", "api"),
    ("/api?", "api"),
    ("/?/api", "shop"),
    ("/x?/./%2e%2e/%00", "shop"),
    ("/.well-known/acme-challenge/x", "shop"),
    ("/api/...", "api"),
    ("/..x/x../.x", "shop"),
    ("/%252e%252e/api", "shop"),
    ("/..", "400"),
    ("/.", "400"),
    ("/../api", "400"),
    ("/%2e%2e/api", "400"),
    ("/%2E./api", "400"),
    ("/x/../api", "400"),
    ("/x/..?y", "400"),
    ("/x%2F..%2fapi", "400"),
    ("/./api", "400"),
    ("/api/.", "400"),
    ("/api/%2e", "400"),
    ("//../api", "400"),
    ("/api/%00", "400"),
    ("/%00", "400"),
    ("/api#x", "400"),
    ("/api?x#y", "400"),
    ("http://shop.example/api/x", "api"),
    ("HTTP://Shop.Example:80/", "shop"),
    ("http://shop.example/x/../api", "400"),
    ("http://a.example/", "400"),
];

/// Further heads of requests, and who is to answer.
const HEADS: &[(&str, &str)] = &[
    ("GET / HTTP/1.0\r\n", NOBODY),
    ("GET /api HTTP/1.0\r\n", NOBODY),
    ("GET /api HTTP/1.0\r\nHost: shop.example\r\n", "api"),
    ("GET / HTTP/1.1\r\n", "400"),
    ("GET /app HTTP/1.1\r\nHost: only.example\r\n", "only"),
    ("GET /app/x HTTP/1.1\r\nHost: only.example\r\n", "only"),
    ("GET /application HTTP/1.1\r\nHost: only.example\r\n", "503"),
    ("GET /api HTTP/1.1\r\nHost: a.example\r\n", "wild"),
    ("GET /../x HTTP/1.1\r\nHost: nobody.test\r\n", "400"),
    ("GET /x HTTP/1.1\r\nHost: nobody,test\r\n", "400"),
    ("GET /.. HTTP/1.1\r\nHost: leaving.example\r\n", "400"),
    ("DELETE /api HTTP/1.1\r\nHost: shop.example\r\n", "api"),
    ("POST / HTTP/1.1\r\nHost: nobody.test\r\nContent-Length: 0\r\n", NOBODY),
];

/// Heads of requests, and who is to answer each.
fn table() -> Vec<(String, &'static str)> {
    let of = |host: &str, path: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
    let hosts = HOSTS.iter().map(|(host, who)| (of(host, "/"), *who));
    let paths = PATHS.iter().map(|(path, who)| (of("shop.example", path), *who));
    let heads = HEADS.iter().map(|(head, who)| ((*head).to_owned(), *who));
    let grown = [
        (of(&long(), "/"), "long"),
        (of(&format!("{}.:80", long().to_uppercase()), "/x"), "long"),
        (of(&format!("x.{}", parent()), "/"), "wild"),
        (of(&format!("x{}", long()), "/"), "wild"),
        (of(&format!("x.{}", long()), "/"), NOBODY),
        (of("shop.example", &format!("/api/{}", "x".repeat(4096))), "api"),
        (of("shop.example", &format!("/{}", "x".repeat(4096))), "shop"),
        (of("shop.example", &format!("/{}../api", "x/".repeat(2048))), "400"),
    ];
    hosts.chain(paths).chain(heads).chain(grown).collect()
}

fn decides_by_the_table(proxy: &Proxy) {
    for default_service in [false, true] {
        let lab = Network::new();
        let host = lab.host("web");
        let front = Front::start(&lab, &host, proxy, default_service);
        let wrong = table().into_iter().filter_map(|(head, who)| {
            let short: String = head.chars().take(120).collect();
            Some(format!("{short:?}: {}", front.wrong(&head, who)?))
        });
        let wrong: Vec<String> = wrong.collect();
        let with = if default_service { "with" } else { "without" };
        assert!(wrong.is_empty(), "{with} a default service: {wrong:#?}");
    }
}

fn tells_the_service_of_its_client(proxy: &Proxy) {
    let lab = Network::new();
    let host = lab.host("web");
    let front = Front::start(&lab, &host, proxy, true);
    let client = host.address().to_string();
    let spoofed = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: bank.example\r\nX-Real-IP: 9.9.9.9\r\n";
    for (asked, who) in [("Shop.Example:80", "shop"), ("shop.example.", "shop"), ("nobody.test", "fallback")] {
        for (more, before) in [("", ""), (spoofed, ""), ("X-Forwarded-For: 9.9.9.9\r\n", "9.9.9.9, ")] {
            let seen = front.ask(&format!("GET / HTTP/1.1\r\nHost: {asked}\r\n{more}")).unwrap();
            let facts = [
                ("Host", asked.to_owned()),
                ("X-Forwarded-For", format!("{before}{client}")),
                ("X-Forwarded-Proto", "http".to_owned()),
                ("X-Forwarded-Host", asked.to_owned()),
                ("X-Real-IP", client.clone()),
            ];
            assert_eq!(seen.who, who);
            for (name, expected) in facts {
                assert_eq!(seen.header(name), expected, "{name} of {asked} with {more:?}");
            }
        }
    }
}

#[test]
fn nginx_decides_by_the_table() {
    decides_by_the_table(&NGINX);
}

#[test]
fn haproxy_decides_by_the_table() {
    decides_by_the_table(&HAPROXY);
}

#[test]
fn nginx_tells_the_service_of_its_client() {
    tells_the_service_of_its_client(&NGINX);
}

#[test]
fn haproxy_tells_the_service_of_its_client() {
    tells_the_service_of_its_client(&HAPROXY);
}
