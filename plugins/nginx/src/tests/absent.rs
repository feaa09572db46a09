//! Services whose instances have left or take nothing: their routes and ports stay theirs.

use waypost_plugin_sdk::Service;

use super::{compose, draining, gone, instance, over_udp, service, settings, text, with_streams};

const HTTP: &[(&str, &str)] = &[("protocol", "http"), ("domain", "a.example"), ("path", "/api")];
const PORT: &[(&str, &str)] = &[("listen-port", "53")];

#[test]
fn those_that_have_left_do_not_count_beside_others() {
    let (here, left) = (instance("b", "10.0.0.1", 80, HTTP), gone(instance("a", "10.0.0.9", 80, PORT)));
    let both = service("web", &[left, here.clone()]);
    for path in ["http.conf", "stream.conf"] {
        let alone = text(&with_streams(""), &service("web", std::slice::from_ref(&here)), path);
        assert_eq!(text(&with_streams(""), &both, path), alone);
    }
    let closing = service("web", &[draining(here.clone()), gone(here)]);
    assert!(
        text(&settings("{}"), &closing, "http.conf").contains("max_fails=1 fail_timeout=2s down; # b\n    keepalive")
    );
}

#[test]
fn routes_stay_and_say_that_nobody_is_there() {
    let found = text(&settings("{}"), &service("web", &[gone(instance("a", "10.0.0.1", 80, HTTP))]), "http.conf");
    assert!(!found.contains("upstream web"), "nginx refuses one without servers: {found}");
    assert!(found.contains("    server_name a.example;\n"), "{found}");
    let locations =
        "    location = /api { return 503; } # web.waypost\n    location /api/ { return 503; } # web.waypost\n}\n";
    assert!(found.ends_with(locations), "{found}");
}

#[test]
fn ports_stay_and_close_what_connects() {
    let by_tcp = gone(instance("a", "10.0.0.1", 53, PORT));
    let found = text(&with_streams(""), &service("dns", &[by_tcp.clone(), over_udp(by_tcp)]), "stream.conf");
    let expected = "
server {
    listen *:53;
    return \"\";
}

server {
    listen *:53 udp reuseport;
    return \"\";
}
";
    assert_eq!(found, expected);
}

#[test]
fn a_default_service_that_is_not_there_costs_nobody_anything() {
    let settings = settings(r#"{"default-service": "web", "default-status": 404}"#);
    let other = service("other", &[instance("a", "10.0.0.1", 80, &[("protocol", "http")])]);
    let found = |services: &[Service]| {
        let (files, held_back) = compose(&settings, &[services, std::slice::from_ref(&other)].concat());
        assert_eq!(held_back, Vec::<String>::new());
        assert!(files["http.conf"].contains("proxy_pass http://other.waypost;"));
        let server = files["http.conf"].split("default_server;\n").nth(1).unwrap().split("\n}\n").next().unwrap();
        server
            .lines()
            .filter(|line| line.contains("404") || line.contains("location"))
            .map(str::trim)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let plain = instance("a", "10.0.0.1", 80, &[("protocol", "http")]);
    let tries = "try_files /.nobody =404;";
    assert_eq!(found(&[]), tries);
    assert_eq!(found(&[service("web", &[gone(plain.clone())])]), tries);
    assert_eq!(found(&[service("web", &[over_udp(instance("a", "10.0.0.1", 80, PORT))])]), tries);
    assert_eq!(
        found(&[service("web", &[draining(plain.clone())])]),
        format!("{tries} location / {{ return 503; }} # web.waypost")
    );
    assert_eq!(found(&[service("web", &[plain])]), format!("{tries} location / {{ proxy_pass http://web.waypost; }}"));
}
