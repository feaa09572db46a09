//! Which service a request goes to, and what it is told of the client, by a real HAProxy.

use waypost_plugin_sdk::{Change, Readiness, Service};
use waypost_test_support::free_port;

use super::running::{Running, http, http_instance};
use super::{instance, service};

const BOTH: [&str; 2] = ["", r#", "routing": "acl""#];

fn shop() -> Vec<Service> {
    vec![
        http("shop", &[("domain", "shop.example")]),
        http("api", &[("domain", "shop.example"), ("path", "/api")]),
        http("deep", &[("domain", "shop.example"), ("path", "/api/v2")]),
        http("only", &[("domain", "only.b.example"), ("path", "/api")]),
        http("wild", &[("domain", "*.b.example")]),
        http("fragment", &[("domain", "*.c.example"), ("path", "/x")]),
        http("home", &[("domain", "home.test")]),
    ]
}

#[test]
fn the_domain_is_chosen_before_the_path() {
    for form in BOTH {
        let haproxy = Running::start(form, &shop());
        let found = Running::start(&format!(r#"{form}, "default-service": "home""#), &shop());
        for (host, path, who) in [
            ("shop.example", "/", "shop"),
            ("shop.example", "/apix", "shop"),
            ("shop.example", "/api", "api"),
            ("shop.example", "/api/v2x", "api"),
            ("shop.example", "/api/v2/x", "deep"),
            ("only.b.example", "/api/x", "only"),
            ("only.b.example", "/", "503"),
            ("only.b.example", "/apix", "503"),
            ("x.b.example", "/api", "wild"),
            ("x.c.example", "/x/y", "fragment"),
            ("x.c.example", "/y", "503"),
        ] {
            assert_eq!(haproxy.who(host, path), who, "{form} {host}{path}");
            assert_eq!(found.who(host, path), who, "{form} {host}{path}");
        }
        for host in ["b.example", "y.x.b.example", ".b.example", "c.example", "localhost", "a.example", "*.b.example"] {
            let bad = host.contains('*');
            assert_eq!(haproxy.who(host, "/x"), if bad { "400" } else { "503" }, "{form} {host}");
            assert_eq!(found.who(host, "/x"), if bad { "400" } else { "home" }, "{form} {host}");
        }
    }
    let (map, acl) = (Running::start(BOTH[0], &shop()), Running::start(BOTH[1], &shop()));
    for host in ["shop.example.org", "x.shop.example", "x.shop.example.org"] {
        assert_eq!(map.who(host, "/"), "503", "{host}");
        assert_eq!(acl.who(host, "/"), "shop", "`hdr_dom` of the article's form takes {host} as well");
    }
    assert_eq!(map.who("only.b.example.org", "/api"), "503");
}

#[test]
fn a_host_is_compared_without_port_case_and_final_dot() {
    for form in BOTH {
        let haproxy = Running::start(form, &shop());
        for host in ["shop.example.", "shop.example:80", "shop.example.:80", "SHOP.Example:8080", "shop.example:"] {
            assert_eq!(haproxy.who(host, "/"), "shop", "{form} {host}");
        }
        for host in ["X.b.example.:80", "x.b.example."] {
            assert_eq!(haproxy.who(host, "/"), "wild", "{form} {host}");
        }
        for host in ["[::1]", "[::1]:80", "::1", "other.example", "shop.example_"] {
            assert_eq!(haproxy.who(host, "/"), "503", "{form} {host}");
        }
        for host in [
            "",
            ":80",
            ".",
            ".:80",
            "shop.example/",
            "shop.example,shop.example",
            "shop example",
            "shop%2eexample",
            "é.example",
        ] {
            assert_eq!(haproxy.who(host, "/"), "400", "{form} {host}");
        }
    }
    let haproxy = Running::start("", &shop());
    assert_eq!(haproxy.who("shop.example..", "/"), "503", "one dot");
    let status = |request: &str| haproxy.ask(request.as_bytes()).0;
    assert_eq!(status("GET / HTTP/1.1\r\nConnection: close\r\n\r\n"), "400");
    assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), "503", "an unknown domain");
    assert_eq!(status("GET / HTTP/1.0\r\nHost: a/b\r\n\r\n"), "400");
    assert_eq!(
        status("GET http://shop.example/api HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"),
        "200"
    );
    assert_eq!(status("OPTIONS * HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n"), "200");
}

#[test]
fn a_path_is_compared_as_it_is_meant() {
    for form in BOTH {
        let haproxy = Running::start(form, &shop());
        for path in ["//api", "/%61pi", "/api%2Fx", "/%2Fapi", "/api?x", "/api/?/../%00", "///api///x", "/api/..."] {
            assert_eq!(haproxy.who("shop.example", path), "api", "{form} {path}");
        }
        for path in ["/API", "/apix", "/?/api", "/%252Fapi", "/api%3Fx", "/%2561pi", "/api+", "/%FF", "/...", "/x%0a"] {
            assert_eq!(haproxy.who("shop.example", path), "shop", "{form} {path}");
        }
        assert_eq!(haproxy.who("shop.example", "/api//v2"), "deep", "{form}");
        let bad =
            ["/.", "/..", "/api/../x", "/api/%2e%2E/x", "/a%2F..%2Fb", "/a//./b", "/%00", "/a%00b", "/%zz", "/a%2"];
        for path in bad {
            assert_eq!(haproxy.who("shop.example", path), "400", "{form} {path}");
        }
    }
}

#[test]
fn what_the_service_is_told() {
    for form in BOTH {
        let haproxy = Running::start(form, &shop());
        let request = "GET //%61pi/?a=%2F&b HTTP/1.1\r\nHost: Shop.Example.:80\r\nX-Forwarded-For: 192.0.2.7\r\n\
            X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Host: evil\r\nX-Real-IP: 192.0.2.8\r\n\
            Connection: close\r\n\r\n";
        let (_, said) = haproxy.ask(request.as_bytes());
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[..3], ["api", "GET //%61pi/?a=%2F&b HTTP/1.1", "host: Shop.Example.:80"], "unchanged");
        let values = |name: &str| -> Vec<&str> {
            lines.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
        };
        assert_eq!(values("x-forwarded-for"), ["192.0.2.7", "127.0.0.1"]);
        assert_eq!(values("x-forwarded-proto"), ["http"]);
        assert_eq!(values("x-forwarded-host"), ["Shop.Example.:80"]);
        assert_eq!(values("x-real-ip"), ["127.0.0.1"]);
    }
    let haproxy = Running::start(r#", "default-service": "home""#, &shop());
    let (_, said) = haproxy.ask(b"GET / HTTP/1.0\r\nX-Forwarded-Host: evil\r\n\r\n");
    assert!(said.starts_with("home\n") && !said.contains("x-forwarded-host"), "{said}");
}

#[test]
fn a_default_service_that_is_none_costs_nothing() {
    let port = free_port().to_string();
    let tcp = [("listen-port", port.as_str())];
    let mut services = shop();
    services.push(service("db", &[instance("a", "127.0.0.1", 9, &tcp)]));
    services.push(service("late/home", &[http_instance("late/home", &[])]));
    for form in BOTH {
        for (name, expected) in [("none", "503"), ("db", "503"), ("late/home", "late/home")] {
            let haproxy = Running::start(&format!(r#"{form}, "default-service": "{name}""#), &services);
            assert_eq!(haproxy.who("unknown.test", "/"), expected, "{form} {name}");
            assert_eq!(haproxy.who("shop.example", "/"), "shop", "{form} {name}");
        }
    }
}

const SOCKET: &str = r#", "socket": "{dir}/socket", "dynamic-backends": false"#;

#[test]
fn the_first_services_and_the_default_service_need_no_reload() {
    let haproxy = Running::start(&format!(r#"{SOCKET}, "default-service": "home""#), &[]);
    assert_eq!(haproxy.who("unknown.test", "/"), "503");
    let services = shop();
    for index in [0, 6] {
        haproxy.follow(Change { before: None, after: Some(services[index].clone()) });
    }
    assert!(haproxy.say("show map standby.map").contains(" home waypost-standby-"));
    assert_eq!(haproxy.who("unknown.test", "/"), "home");
    assert_eq!(haproxy.who("shop.example", "/"), "shop");
    haproxy.follow(Change { before: Some(services[6].clone()), after: None });
    assert_eq!(haproxy.who("unknown.test", "/"), "503");
}

#[test]
fn a_domain_is_marked_and_unmarked_at_run_time() {
    let haproxy = Running::start(SOCKET, &shop());
    assert_eq!(haproxy.who("new.b.example", "/y"), "wild");
    assert_eq!(haproxy.say("add map routes.map new.b.example// .").trim(), "");
    assert_eq!(haproxy.who("new.b.example", "/y"), "503");
    assert_eq!(haproxy.who("new.b.example.org", "/y"), "503", "no other domain begins with it");
    let found = haproxy.say("get map routes.map new.b.example//");
    assert!(found.contains(r#"key="new.b.example//", value=".""#), "{found}");
    assert_eq!(haproxy.say("del map routes.map new.b.example//").trim(), "");
    assert_eq!(haproxy.who("new.b.example", "/y"), "wild");
}

#[test]
fn a_service_that_is_gone_keeps_its_domains() {
    let mut services = shop();
    services[3].instances[0].readiness = Readiness::Gone;
    services[6].instances[0].readiness = Readiness::Gone;
    for form in BOTH {
        let haproxy = Running::start(&format!(r#"{form}, "default-service": "shop""#), &services);
        for (host, path, who) in [
            ("only.b.example", "/api", "503"),
            ("x.b.example", "/api", "wild"),
            ("home.test", "/", "503"),
            ("z.test", "/", "shop"),
        ] {
            assert_eq!(haproxy.who(host, path), who, "{form} {host}{path}");
        }
    }
}

#[test]
fn nobody_is_there_at_first() {
    for form in BOTH {
        let haproxy = Running::start(form, &[]);
        assert_eq!(haproxy.who("shop.example", "/"), "503", "{form}");
        assert_eq!(haproxy.who("", "/"), "400", "{form}");
    }
}
