//! nginx itself accepts what is rendered.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use waypost_plugin_sdk::Service;

use super::nginx::{test, write};
use super::random::{catalog, settings};
use super::{compose, draining, gone, instance, over_udp, service, settings as read, with_streams};
use crate::Settings;

const CATALOGS: usize = 400;

/// Panics with the files unless `nginx -t` accepts them without a warning about names; gives what it says.
fn check(dir: &Path, settings: &Settings, services: &[Service]) {
    let (files, _) = compose(settings, services);
    write(dir, &files);
    let output = test(dir);
    let said = String::from_utf8_lossy(&output.stderr);
    let accepted = output.status.success() && !said.contains("conflicting server name");
    assert!(accepted, "{}\n{said}\n{files:#?}\n{services:#?}", output.status);
    std::fs::remove_file(dir.join("stream.conf")).ok();
}

#[test]
fn hundreds_of_random_catalogs() {
    let mut runner = TestRunner::deterministic();
    let strategy = (settings(), catalog());
    let catalogs: Vec<(Settings, Vec<Service>)> =
        (0..CATALOGS).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let rendered = catalogs.iter().map(|(settings, services)| {
        let (files, _) = compose(settings, services);
        files.values().map(|text| text.matches("\n    server ").count()).sum::<usize>()
    });
    let rendered = rendered.sum::<usize>();
    assert!(rendered > 4 * CATALOGS, "only {rendered} servers in {CATALOGS} catalogs");

    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                let dir = tempfile::tempdir().unwrap();
                while let Some((settings, services)) = catalogs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    check(dir.path(), settings, services);
                }
            });
        }
    });
}

#[test]
fn an_empty_catalog() {
    let dir = tempfile::tempdir().unwrap();
    for settings in [
        read("{}"),
        with_streams(""),
        read(r#"{"http-bind": "off"}"#),
        read(r#"{"default-server": false, "http-bind": "*:8080,[::]:8080"}"#),
    ] {
        check(dir.path(), &settings, &[]);
    }
}

#[test]
fn nobody_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let facts = [("protocol", "http"), ("domain", "a.example")];
    let port = [("listen-port", "5432")];
    let services = [
        service("web", &[draining(instance("a", "10.0.0.1", 80, &facts))]),
        service("db", &[draining(instance("a", "10.0.0.1", 80, &port))]),
        service("dns", &[draining(over_udp(instance("a", "10.0.0.1", 80, &port)))]),
    ];
    let left = services.clone().map(|mut service| {
        service.instances.iter_mut().for_each(|instance| *instance = gone(instance.clone()));
        service
    });
    for (balance, services) in
        [("roundrobin", &services), ("leastconn", &services), ("random", &services), ("random", &left)]
    {
        check(dir.path(), &with_streams(&format!(r#", "balance": "{balance}""#)), services);
    }
}

#[test]
fn a_host_name_that_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let facts = [("protocol", "http")];
    let web = service("web", &[instance("a", "localhost", 80, &facts)]);
    let settings = read(r#"{"host-names": true}"#);
    assert!(compose(&settings, std::slice::from_ref(&web)).0["http.conf"].contains("server localhost:80 "));
    check(dir.path(), &settings, &[web]);
}

#[test]
fn the_longest_names() {
    let dir = tempfile::tempdir().unwrap();
    let label = "a".repeat(63);
    let domain = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    let path = format!("/{}", "c".repeat(253));
    for (domain, path) in [(&domain, &path), (&format!("*.{}", &domain[2..]), &path)] {
        let facts = [("protocol", "http"), ("domain", domain.as_str()), ("path", path.as_str())];
        let services: Vec<Service> = (0..3)
            .map(|n| service(&format!("{domain}{n}").replace('*', "x")[3..], &[instance("a", "10.0.0.1", 80, &facts)]))
            .collect();
        check(dir.path(), &read("{}"), &services);
    }
    // The longest that stand in nginx's table by themselves.
    for length in [45, 46, 47] {
        let facts = [("protocol", "http"), ("domain", &format!("{}.example", "d".repeat(length - 8)))];
        check(dir.path(), &read("{}"), &[service("web", &[instance("a", "10.0.0.1", 80, &facts)])]);
    }
}

#[test]
fn lines_of_the_operators_replace_ours() {
    let dir = tempfile::tempdir().unwrap();
    let settings = with_streams(
        r#", "main-lines": ["worker_processes 2;", "worker_rlimit_nofile 100;", "error_log stderr debug;"],
             "http-lines": ["access_log /dev/null;", "proxy_temp_path proxy 1 2;"],
             "server-lines": ["client_max_body_size 0;", "proxy_connect_timeout 9s;", "proxy_set_header host x;", "listen 127.0.0.1:8443;"]"#,
    );
    let facts = [("protocol", "http")];
    check(dir.path(), &settings, &[service("web", &[instance("a", "10.0.0.1", 80, &facts)])]);
    let (files, _) = compose(&settings, &[service("web", &[instance("a", "10.0.0.1", 80, &facts)])]);
    assert!(!files["http.conf"].contains("proxy_set_header Host"), "{}", files["http.conf"]);
    assert!(files["http.conf"].contains("X-Real-IP"), "{}", files["http.conf"]);
    assert!(!files["nginx.conf"].contains("auto"), "{}", files["nginx.conf"]);
}
