//! Lines of the operator's beside ours.

use waypost_test_support::free_port;

use super::super::nginx::Running;
use super::super::{compose, draining, service};
use super::peers::{ask, web};
use super::{front, http};
use crate::Settings;
use crate::settings::Line;

#[test]
fn their_locations_and_error_pages_act_in_every_server() {
    let port = free_port();
    let lines = [
        r#"location /.well-known/acme-challenge/ { return 200 "token"; }"#,
        "error_page 503 /maintenance.html;",
        r#"location = /maintenance.html { internal; return 200 "back soon"; }"#,
    ];
    let lines: Vec<Line> = lines.map(|line| Line(line.to_owned())).into();
    let leaving = http("leaving", web("leaving"), "leaving.example", "/");
    let services = [
        http("shop", web("shop"), "shop.example", "/"),
        http("only", web("only"), "only.example", "/app"),
        service("leaving", &[draining(leaving.instances[0].clone())]),
    ];
    for default in [None, Some("nobody".to_owned())] {
        let settings = Settings { server_lines: lines.clone(), default_service: default, ..front(port) };
        let _nginx = Running::start(&compose(&settings, &services).0);
        let answer = |host: &str, path: &str| {
            let (status, body) = ask(port, "GET", host, path);
            (status, body.lines().next().unwrap_or_default().to_owned())
        };
        let waits = (503, "back soon".to_owned());
        for host in ["shop.example", "only.example", "leaving.example", "nobody.test"] {
            assert_eq!(answer(host, "/.well-known/acme-challenge/x"), (200, "token".to_owned()), "{host}");
            assert_eq!(answer(host, "/x/../y").0, 400, "{host}");
        }
        for host in ["only.example", "leaving.example", "nobody.test"] {
            assert_eq!(answer(host, "/x"), waits, "{host}");
        }
        assert_eq!(answer("shop.example", "/x"), (200, "shop".to_owned()));
    }
}

#[test]
fn their_location_for_all_unknown_domains_replaces_ours() {
    let port = free_port();
    let lines = vec![Line("location / { return 404; }".to_owned())];
    let settings = Settings { server_lines: lines, ..front(port) };
    let files = compose(&settings, &[http("only", web("only"), "only.example", "/app")]).0;
    let _nginx = Running::start(&files);
    assert_eq!(ask(port, "GET", "nobody.test", "/").0, 404);
    assert_eq!(ask(port, "GET", "only.example", "/").0, 404);
    assert_eq!(ask(port, "GET", "only.example", "/app").0, 200);
    // A line that nginx refuses is known by its number, so it shares it with nothing.
    assert!(files["http.conf"].lines().any(|line| line == "    location / { return 404; }"), "{files:?}");
}
