//! What the two articles show, and the files of both together.

use waypost_plugin_sdk::Readiness;

use super::{compose, instance, service, settings, text};

const DRURY: &str = "ghost.example.web.dev.app1.internal";

#[test]
fn wilder_listener() {
    let whoami = service("whoami", &[instance("736ab83847bb", "10.0.0.1", 49153, &[("listen-port", "8000")])]);
    let expected = "
# Ports of tcp services
# 8000 whoami

listen whoami
    bind *:8000
    mode tcp
    server 736ab83847bb 10.0.0.1:49153 check inter 2s rise 3 fall 2
";
    assert_eq!(text(&settings("{}"), &whoami, "haproxy.cfg"), expected);
    assert_eq!(text(&settings("{}"), &whoami, "routes.map"), "");
}

#[test]
fn drury_http_in_the_form_of_the_article() {
    let http = [("protocol", "http")];
    let web = service(
        DRURY,
        &[
            instance("0ce60d000eac", "10.250.136.243", 49176, &http),
            instance("7874ghGD121s", "10.250.136.221", 49188, &http),
        ],
    );
    let article = settings(r#"{"routing": "acl", "check": false}"#);
    let own = "    acl ghost.example.web.dev.app1.internal hdr_dom(host) -i ghost.example.web.dev.app1.internal
    use_backend ghost.example.web.dev.app1.internal if ghost.example.web.dev.app1.internal

backend ghost.example.web.dev.app1.internal
    log global
    server 0ce60d000eac 10.250.136.243:49176
    server 7874ghGD121s 10.250.136.221:49188
";
    assert_eq!(text(&article, &web, "haproxy.cfg"), own);
    assert_eq!(text(&article, &web, "routes.map"), "");
    let front = "
frontend http-in
    bind *:80
    option idle-close-on-response
    option forwardfor
    http-request disable-l7-retry unless METH_GET
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request del-header X-Forwarded-Host
    http-request set-header X-Forwarded-Host %[req.fhdr(host)] if { req.fhdr(host) -m found }
    http-request set-header X-Real-IP %[src]
    http-request deny deny_status 400 unless { req.fhdr(host) -m reg ^[]A-Za-z0-9._:[-]+$ } || HTTP_1.0 !{ req.fhdr(host) -m found }
    http-request set-var(txn.host) req.fhdr(host),regsub(:[0-9]*$,),regsub([.]$,),lower
    http-request set-var(txn.path) path,url_dec,concat(/),regsub(/+,/,g)
    http-request set-var(txn.path) str(/) unless { path -m found }
    http-request deny deny_status 400 if { path -m sub %00 } || !{ var(txn.path) -m found } || { var(txn.path) -m sub /./ /../ } || { var(txn.host) -m len 0 } { req.fhdr(host) -m found }
    http-request set-var(txn.wildcard) var(txn.host),regsub(^[^.]+,*)
";
    let (files, _) = compose(&article, &[web]);
    assert!(files["haproxy.cfg"].ends_with(&format!("{front}{own}")), "{}", files["haproxy.cfg"]);
}

#[test]
fn drury_tcp_on_the_local_port() {
    let db = service(
        "ghost.example.db.dev.app1.internal",
        &[instance("444a99dbf0c6", "10.250.136.243", 49170, &[("listen-port", "5432"), ("protocol", "tcp")])],
    );
    let expected = "
# Ports of tcp services
# 5432 ghost.example.db.dev.app1.internal

listen ghost.example.db.dev.app1.internal
    bind 127.0.0.1:5432
    mode tcp
    server 444a99dbf0c6 10.250.136.243:49170 check inter 2s rise 3 fall 2
";
    assert_eq!(text(&settings(r#"{"tcp-bind": "127.0.0.1"}"#), &db, "haproxy.cfg"), expected);
}

#[test]
fn whole_files() {
    let mut leaving = instance("b2", "2001:db8::7", 8081, &[("protocol", "http")]);
    leaving.readiness = Readiness::Draining;
    let mut heavy = instance(
        "a1",
        "10.0.0.1",
        8080,
        &[("domain", "Shop.example.com,*.shop.test"), ("path", "/api,/"), ("protocol", "http")],
    );
    heavy.weight = Some(20);
    let services = [
        service("team/shop", &[heavy, leaving]),
        service("db", &[instance("c3", "db-1.internal", 5432, &[("listen-port", "5432")])]),
    ];
    let operator = settings(
        r#"{"socket": "/run/haproxy.sock", "maxconn": 5000, "hard-stop-after": "10m", "stats-bind": "127.0.0.1:1936",
            "global-lines": ["log stdout format raw local0"], "defaults-lines": ["option dontlognull"], "http-lines": ["option httplog"],
            "http-bind": "*:80,[::]:80", "balance": "leastconn", "standby-backends": 2, "slots": 3}"#,
    );
    let (files, held_back) = compose(&operator, &services);
    assert_eq!(held_back, Vec::<String>::new());
    assert_eq!(files["haproxy.cfg"], include_str!("expected.cfg"));
    assert_eq!(files["routes.map"], include_str!("expected.map"));
    assert!(files["standby.map"].lines().all(|line| line.starts_with('#')));
}

#[test]
fn an_empty_catalog_is_the_base() {
    let (files, _) = compose(&settings("{}"), &[]);
    let statistics = "listen waypost-stats\n    bind *:1936\n    option idle-close-on-response\n    stats enable\n    stats uri /\n    stats hide-version\n";
    let (before, front) = files["haproxy.cfg"].split_once("\nfrontend http-in\n    bind *:80\n").unwrap();
    assert!(before.ends_with(statistics), "{before}");
    assert!(front.ends_with("\n    use_backend %[var(txn.backend)]\n"), "{front}");
    assert_eq!(files["routes.map"].lines().count(), 1);
    let (files, _) = compose(&settings(r#"{"routing": "acl"}"#), &[]);
    assert!(!files.contains_key("routes.map"));
    assert!(files["haproxy.cfg"].contains("\nfrontend http-in\n    bind *:80\n"));
    let (files, _) = compose(&settings(r#"{"http-bind": "off"}"#), &[]);
    assert!(files["haproxy.cfg"].ends_with(statistics), "{}", files["haproxy.cfg"]);
}

#[test]
fn the_readme_shows_what_is_rendered() {
    let domain = [("domain", "shop.example.com"), ("path", "/,/basket"), ("protocol", "http")];
    let mut leaving = instance("7874b121c0de", "10.0.0.2", 49188, &domain);
    leaving.readiness = Readiness::Draining;
    let services = [
        service("shop", &[instance("0ce60d000eac", "10.0.0.1", 49176, &domain), leaving]),
        service("db", &[instance("444a99dbf0c6", "10.0.0.2", 49170, &[("listen-port", "5432")])]),
    ];
    let (files, _) = compose(&settings(r#"{"tcp-bind": "127.0.0.1"}"#), &services);
    let readme = include_str!("../../README.md");
    for (name, text) in files {
        assert!(readme.contains(&format!("\n{text}```\n")), "{name}:\n{text}");
    }
}
