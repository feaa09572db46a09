use waypost_plugin_sdk::sample::{container, instance, node, port};
use waypost_plugin_sdk::settings::parse;
use waypost_plugin_sdk::{Container, PluginError, Role, Transport, attributes};

use super::*;

fn names(settings: &Settings, container: &Container) -> Vec<(String, String)> {
    let role = group(settings, &node(), container).unwrap();
    role.provides.into_iter().map(|offer| (offer.service, format!("{}:{}", offer.address, offer.port))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|&(service, at)| (service.to_owned(), at.to_owned())).collect()
}

#[test]
fn the_service_is_the_repository() {
    let role = group(&Settings::default(), &node(), &container()).unwrap();
    assert_eq!(role, Role { provides: vec![instance()], consumes: vec![] });
}

#[test]
fn image_names_are_split_both_ways() {
    let digest = format!("@sha256:{}", "a".repeat(64));
    for (image, first_segment, host_like) in [
        ("whoami", "whoami", "whoami"),
        ("jwilder/whoami:latest", "whoami", "jwilder/whoami"),
        ("reg:5000/team/app:1", "team/app", "team/app"),
        ("reg:5000/app", "app", "app"),
        ("localhost/app:2", "app", "app"),
        ("docker.io/library/nginx", "library/nginx", "library/nginx"),
        ("team/sub/app:1", "sub/app", "team/sub/app"),
        (&format!("jwilder/whoami{digest}"), "whoami", "jwilder/whoami"),
        (&format!("reg:5000/team/app:1{digest}"), "team/app", "team/app"),
    ] {
        assert_eq!(repository(image, Registry::FirstSegment), Ok(first_segment), "{image}");
        assert_eq!(repository(image, Registry::HostLike), Ok(host_like), "{image}");
    }
}

#[test]
fn image_names_that_name_nothing_are_refused() {
    let long = format!("x/{}", "a".repeat(100_000));
    let id = "a".repeat(64);
    for image in ["", "/", "a/", ":1", "@x", "a/../b", "a/b c", "a/b\nc", "a/ä:ö", "sha256:0123", &id, &long] {
        let refused = repository(image, Registry::FirstSegment);
        let Err(PluginError::InvalidInput(text)) = refused else { panic!("{image}: {refused:?}") };
        assert!(text.contains("image") && text.len() < 500, "{text}");
    }
}

#[test]
fn several_ports_are_several_services() {
    let ports = vec![
        port(53, Transport::Tcp, Some(("0.0.0.0", 5001))),
        port(53, Transport::Udp, Some(("0.0.0.0", 5002))),
        port(80, Transport::Tcp, Some(("0.0.0.0", 5003))),
        port(9000, Transport::Tcp, None),
    ];
    let container = Container { ports, ..container() };
    let expected = [("whoami-53", "10.0.0.1:5001"), ("whoami-53-udp", "10.0.0.1:5002"), ("whoami-80", "10.0.0.1:5003")];
    assert_eq!(names(&Settings::default(), &container), pairs(&expected));
    let role = group(&Settings::default(), &node(), &container).unwrap();
    assert_eq!(attributes::get(&role.provides[1].attributes, "protocol"), Some("udp"));
    assert_eq!(attributes::get(&role.provides[1].attributes, "listen-port"), Some("53"));
}

#[test]
fn container_addresses_by_setting() {
    let settings: Settings = parse(r#"{"address":"container","registry":"host-like"}"#).unwrap();
    assert_eq!(names(&settings, &container()), pairs(&[("jwilder/whoami", "172.17.0.2:8000")]));
    assert!(parse::<Settings>(r#"{"network":"front"}"#).is_err());
}

#[test]
fn a_container_that_publishes_nothing_offers_nothing() {
    let container =
        Container { ports: vec![port(80, Transport::Tcp, None)], image: "sha256:1".to_owned(), ..container() };
    assert_eq!(group(&Settings::default(), &node(), &container), Ok(Role::default()));
}
