//! HAProxy itself accepts what is rendered.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use waypost_plugin_sdk::Service;

use super::random::{catalog, settings};
use super::{compose, node, settings as read};
use crate::{Settings, base};

const CATALOGS: usize = 1000;

/// Panics with the file unless `haproxy -c` has nothing to say against it; an `[ALERT]` counts, as HAProxy 3.4 gives
/// some with exit code 0.
fn check(dir: &Path, settings: &Settings, services: &[Service]) {
    verify(dir, &compose(settings, services).0, services);
}

fn verify(dir: &Path, files: &BTreeMap<String, String>, services: &[Service]) {
    for (name, text) in files {
        fs::write(dir.join(name), text).unwrap();
    }
    let output = Command::new("haproxy")
        .args(["-c", "-f"])
        .arg(dir.join("haproxy.cfg"))
        .output()
        .expect("this test runs `haproxy -c`: install HAProxy 2.6 or later (apt-get install haproxy)");
    let said = String::from_utf8_lossy(&output.stderr);
    let accepted = output.status.success() && !said.contains("[ALERT]");
    assert!(accepted, "{}\n{said}\n{}\n{services:#?}", output.status, files["haproxy.cfg"]);
}

#[test]
fn a_thousand_random_catalogs() {
    let mut runner = TestRunner::deterministic();
    let strategy = (settings(), catalog());
    let catalogs: Vec<(Settings, Vec<Service>)> =
        (0..CATALOGS).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect();
    let rendered = catalogs
        .iter()
        .map(|(settings, services)| compose(settings, services).0["haproxy.cfg"].matches("\n    server ").count());
    assert!(rendered.sum::<usize>() > 5 * CATALOGS, "the catalogs put several servers into a file");

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
    for json in ["{}", r#"{"routing": "acl"}"#, r#"{"stats-bind": "off", "socket": "/run/haproxy.sock"}"#] {
        check(dir.path(), &read(json), &[]);
    }
}

/// As the agent leaves it out while another process has its port; the rules of services must not end up elsewhere then.
#[test]
fn the_front_end_can_be_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let web = |name| super::service(name, &[super::instance("a", "10.0.0.1", 80, &[("protocol", "http")])]);
    for (json, key, left) in [
        (r#"{"socket": "/run/haproxy.sock"}"#, "40 http", "\n# For services that come before the next reload\n"),
        (r#"{"routing": "acl"}"#, "40 http bind", "\nfrontend http-in\n    option idle-close-on-response\n"),
    ] {
        let settings = read(json);
        let fragment = base(&settings, &node()).unwrap().into_iter().find(|fragment| fragment.key == key).unwrap();
        assert!(fragment.text.contains("    bind *:80\n"), "{}", fragment.text);
        let services = [web("web"), web("shop")];
        let (mut files, _) = compose(&settings, &services);
        let whole = files["haproxy.cfg"].replace(&fragment.text, "");
        assert!(whole.contains(left) && !whole.contains("    bind *:80\n"), "{whole}");
        files.insert("haproxy.cfg".to_owned(), whole);
        verify(dir.path(), &files, &services);
    }
}

#[test]
fn a_name_that_nobody_knows_breaks_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let db = super::service("db", &[super::instance("a", "db.invalid", 5432, &[("listen-port", "5432")])]);
    check(dir.path(), &read("{}"), &[db]);
}
