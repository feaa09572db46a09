use waypost_plugin_sdk::sample::{container, node, port};
use waypost_plugin_sdk::settings::parse;
use waypost_plugin_sdk::{Container, PluginError, Transport, attributes};

use super::*;

fn announcing(environment: &[(&str, &str)]) -> Container {
    let ports = vec![port(5432, Transport::Tcp, Some(("0.0.0.0", 49178)))];
    Container { environment: attributes::sorted(environment.iter().copied()), ports, ..container() }
}

fn grouped(environment: &[(&str, &str)]) -> Result<Role, PluginError> {
    group(&Reach::default(), &node(), &announcing(environment))
}

fn refusal(environment: &[(&str, &str)]) -> String {
    match grouped(environment) {
        Err(PluginError::InvalidInput(text)) => text,
        other => panic!("{environment:?}: {other:?}"),
    }
}

const PATH: (&str, &str) = ("ANNOUNCE_PATH", "/internal/App1/dev/db/ghost.Example");

#[test]
fn a_tcp_service_is_announced() {
    let role = grouped(&[PATH, ("PORT", "5432"), ("TYPE", "TCP")]).unwrap();
    let [offer] = &role.provides[..] else { panic!("{role:?}") };
    assert_eq!(offer.service, "ghost.example.db.dev.app1.internal");
    assert_eq!((offer.id.as_str(), offer.address.as_str(), offer.port), ("736ab83847bb", "10.0.0.1", 49178));
    let attribute = |name| get(&offer.attributes, name);
    assert_eq!(attribute("announce-path"), Some("/internal/App1/dev/db/ghost.Example"));
    assert_eq!(attribute("protocol"), Some("tcp"));
    assert_eq!(attribute("listen-port"), Some("5432"));
    assert_eq!(attribute("container-port"), Some("5432"));
    assert_eq!(attribute("domain"), None);
    assert_eq!(role.consumes, [""; 0]);
}

#[test]
fn an_http_service_is_reached_by_its_name() {
    let role = grouped(&[PATH, ("PORT", "5432"), ("TYPE", "http")]).unwrap();
    let attribute = |name| get(&role.provides[0].attributes, name);
    assert_eq!(attribute("protocol"), Some("http"));
    assert_eq!(attribute("domain"), Some("ghost.example.db.dev.app1.internal"));
    assert_eq!(attribute("listen-port"), None);
}

#[test]
fn the_container_address_is_taken_by_setting() {
    let settings: Reach = parse(r#"{"address":"container"}"#).unwrap();
    let container = announcing(&[PATH, ("PORT", "80"), ("TYPE", "HTTP")]);
    let role = group(&settings, &node(), &container).unwrap();
    assert_eq!((role.provides[0].address.as_str(), role.provides[0].port), ("172.17.0.2", 80));
}

#[test]
fn a_container_on_the_host_network_is_announced_at_the_node() {
    let container = announcing(&[PATH, ("PORT", "80"), ("TYPE", "HTTP")]);
    let container = Container { network_mode: "host".to_owned(), ports: vec![], ..container };
    let role = group(&Reach::default(), &node(), &container).unwrap();
    assert_eq!((role.provides[0].address.as_str(), role.provides[0].port), ("10.0.0.1", 80));
}

#[test]
fn listen_paths_become_wants() {
    let paths =
        "/services/internal/app1/dev, /services/internal/App1/sit/db,/services/internal/app1/dev/db/ghost.example";
    let role = grouped(&[("LISTEN_PATH", paths)]).unwrap();
    assert_eq!(role.consumes, ["*.dev.app1.internal", "*.db.sit.app1.internal", "ghost.example.db.dev.app1.internal"]);
    assert_eq!(role.provides, []);
}

#[test]
fn a_container_without_the_variables_means_nothing() {
    assert_eq!(grouped(&[("PORT", "no number"), ("TYPE", "?")]), Ok(Role::default()));
}

#[test]
fn wrong_values_are_refused_by_name() {
    let long = format!("/{}", "é/".repeat(50_000));
    for path in [
        "internal/a/b/c/d",
        "/internal/a/b/c",
        "/a/b/c/d/e/f",
        "/a/b/../d/e",
        "/a/b/c/d/e..f",
        "/a/b/c/d/x y",
        "/a/b\n/c/d/e",
        "/a/b/c/d/é",
        &long,
    ] {
        let text = refusal(&[("ANNOUNCE_PATH", path), ("PORT", "5432"), ("TYPE", "TCP")]);
        assert!(text.starts_with("ANNOUNCE_PATH is ") && text.len() < 500, "{text}");
    }
    let endless = format!("/a/b/c/d/{}", "e".repeat(300));
    let text = refusal(&[("ANNOUNCE_PATH", &endless), ("PORT", "5432"), ("TYPE", "TCP")]);
    assert!(text.contains("the name that ANNOUNCE_PATH gives has 308 bytes"), "{text}");
    for (port, expected) in [
        ("", "PORT is \"\", expected a port number from 1 to 65535"),
        ("80\n", "PORT is \"80\\n\", expected a port number from 1 to 65535"),
        ("0", "PORT is \"0\", expected a port number from 1 to 65535"),
        ("80", "PORT is 80, but port 80/tcp is not published; published are: 5432/tcp"),
    ] {
        assert_eq!(refusal(&[PATH, ("PORT", port), ("TYPE", "TCP")]), expected);
    }
    assert_eq!(refusal(&[PATH, ("PORT", "5432")]), "TYPE is \"\", expected HTTP or TCP");
    assert_eq!(refusal(&[PATH, ("PORT", "5432"), ("TYPE", "UDP")]), "TYPE is \"UDP\", expected HTTP or TCP");
    for path in
        ["/internal/app1/dev", "/services/internal/app1", "/services/a/b/c/d/e/f", "/services/a/b/ä", "/services/a/b/*"]
    {
        assert!(refusal(&[("LISTEN_PATH", path)]).starts_with("LISTEN_PATH has "), "{path}");
    }
}

#[test]
fn an_odd_host_name_is_refused() {
    let container = announcing(&[PATH, ("PORT", "5432"), ("TYPE", "TCP")]);
    let container = Container { hostname: "../x".to_owned(), ..container };
    assert!(group(&Reach::default(), &node(), &container).is_err());
}
