use waypost_plugin_sdk::attributes::sorted;
use waypost_plugin_sdk::sample::{container, node, port};

use super::*;

/// Publishes 80/tcp on 5080, 443/tcp on 5443, 53/tcp and 53/udp on 5053.
fn labelled(labels: &[(&str, &str)]) -> Container {
    let ports = vec![
        port(53, Transport::Tcp, Some(("0.0.0.0", 5053))),
        port(53, Transport::Udp, Some(("0.0.0.0", 5053))),
        port(80, Transport::Tcp, Some(("0.0.0.0", 5080))),
        port(443, Transport::Tcp, Some(("0.0.0.0", 5443))),
    ];
    Container { labels: sorted(labels.iter().copied()), ports, ..container() }
}

fn grouped(labels: &[(&str, &str)]) -> Vec<Instance> {
    group(&Reach::default(), &node(), &labelled(labels)).unwrap().provides
}

/// Service, id and port of each instance.
fn found(labels: &[(&str, &str)]) -> Vec<String> {
    grouped(labels).iter().map(|offer| format!("{} {} {}", offer.service, offer.id, offer.port)).collect()
}

fn refusal(container: &Container) -> String {
    match group(&Reach::default(), &node(), container) {
        Err(PluginError::InvalidInput(text)) => text,
        other => panic!("{:?}: {other:?}", container.labels),
    }
}

fn attribute<'a>(offer: &'a Instance, name: &str) -> Option<&'a str> {
    get(&offer.attributes, name)
}

#[test]
fn one_port_is_one_service() {
    let instances = grouped(&[("waypost.service", "web"), ("waypost.port", "80"), ("waypost.weight", "7")]);
    let [offer] = &instances[..] else { panic!("{instances:?}") };
    assert_eq!((offer.service.as_str(), offer.id.as_str()), ("web", "736ab83847bb"));
    assert_eq!((offer.address.as_str(), offer.port, offer.weight), ("10.0.0.1", 5080, Some(7)));
    assert_eq!(attribute(offer, "protocol"), Some("tcp"));
    assert_eq!(attribute(offer, "listen-port"), Some("80"));
    assert_eq!(attribute(offer, "container"), Some("whoami-1"));
}

#[test]
fn a_domain_or_a_path_makes_it_http() {
    let instances = grouped(&[
        ("waypost.service", "web"),
        ("waypost.port", "80"),
        ("waypost.domain", "A.example, *.b.example"),
        ("waypost.path", "/api,/v1/x"),
        ("waypost.tags", "blue, canary"),
    ]);
    assert_eq!(attribute(&instances[0], "protocol"), Some("http"));
    assert_eq!(attribute(&instances[0], "listen-port"), None);
    assert_eq!(attribute(&instances[0], "domain"), Some("a.example,*.b.example"));
    assert_eq!(attribute(&instances[0], "path"), Some("/api,/v1/x"));
    assert_eq!(attribute(&instances[0], "tags"), Some("blue,canary"));
}

#[test]
fn all_ports_count_when_none_is_named() {
    let expected =
        ["x-53 736ab83847bb 5053", "x-53-udp 736ab83847bb 5053", "x-80 736ab83847bb 5080", "x-443 736ab83847bb 5443"];
    assert_eq!(found(&[("waypost.service", "x")]), expected);
}

#[test]
fn a_port_with_a_name_of_its_own_leaves_the_common_name_to_the_others() {
    let labels = [("waypost.service", "x"), ("waypost.port", "80"), ("waypost.443.service", "tls")];
    assert_eq!(found(&labels), ["x 736ab83847bb 5080", "tls 736ab83847bb 5443"]);
    let labels = [("waypost.443.service", "tls"), ("waypost.80.service", "web")];
    assert_eq!(found(&labels), ["web 736ab83847bb 5080", "tls 736ab83847bb 5443"]);
}

#[test]
fn several_instances_in_one_service_have_the_port_in_their_id() {
    let labels = [("waypost.443.service", "web"), ("waypost.80.service", "web")];
    assert_eq!(found(&labels), ["web 736ab83847bb-80 5080", "web 736ab83847bb-443 5443"]);
    assert_eq!(found(&[("waypost.53.service", "dns")]), ["dns 736ab83847bb-53 5053", "dns 736ab83847bb-53-udp 5053"]);
}

#[test]
fn the_protocol_chooses_the_transport() {
    let instances = grouped(&[("waypost.53.service", "dns"), ("waypost.53.protocol", "UDP")]);
    let [offer] = &instances[..] else { panic!("{instances:?}") };
    assert_eq!(offer.transport, Transport::Udp);
    assert_eq!(attribute(offer, "protocol"), Some("udp"));
    assert_eq!(attribute(offer, "listen-port"), Some("53"));
}

#[test]
fn a_label_of_one_port_beats_that_of_all() {
    let instances = grouped(&[
        ("waypost.80.service", "web"),
        ("waypost.443.service", "tls"),
        ("waypost.domain", "a.example"),
        ("waypost.443.protocol", "tcp"),
        ("waypost.443.listen-port", "8443"),
    ]);
    assert_eq!(attribute(&instances[0], "protocol"), Some("http"));
    assert_eq!(attribute(&instances[1], "protocol"), Some("tcp"));
    assert_eq!(attribute(&instances[1], "listen-port"), Some("8443"));
}

#[test]
fn a_container_on_the_host_network_names_its_port() {
    let labels = sorted([("waypost.service", "web"), ("waypost.port", "8080")]);
    let container = Container { labels, network_mode: "host".to_owned(), ports: vec![], ..container() };
    let instances = group(&Reach::default(), &node(), &container).unwrap().provides;
    assert_eq!((instances[0].address.as_str(), instances[0].port), ("10.0.0.1", 8080));
}

#[test]
fn containers_can_be_ignored_or_silent() {
    for value in ["true", "1", "yes", "False-ish"] {
        assert_eq!(found(&[("waypost.service", "\n"), ("waypost.ignore", value)]), [""; 0]);
    }
    for value in ["false", "FALSE", "0", ""] {
        assert_eq!(found(&[("waypost.80.service", "x"), ("waypost.ignore", value)]).len(), 1);
    }
    assert_eq!(found(&[("other", "x"), ("waypost.check.path", "/"), ("waypost.note", "é\n")]), [""; 0]);
}

#[test]
fn wrong_values_are_refused_by_label() {
    let huge = "é".repeat(50_000);
    for (label, value) in [
        ("waypost.service", ""),
        ("waypost.service", "../x"),
        ("waypost.service", "a\nb"),
        ("waypost.service", "a b#"),
        ("waypost.service", "dïs"),
        ("waypost.service", &huge),
        ("waypost.port", "eighty"),
        ("waypost.port", "65536"),
        ("waypost.80.protocol", "quic"),
        ("waypost.80.listen-port", "0"),
        ("waypost.80.weight", "-1"),
        ("waypost.80.domain", "a b"),
        ("waypost.80.domain", ","),
        ("waypost.80.path", "api"),
        ("waypost.80.path", "/a b"),
        ("waypost.80.path", "/\"x"),
        ("waypost.80.tags", "é"),
        ("waypost.80.tags", &huge),
    ] {
        let text = refusal(&labelled(&[("waypost.80.service", "web"), (label, value)]));
        assert!(text.starts_with(&format!("label {label} ")) && text.contains("expected"), "{text}");
        assert!(text.len() < 500 && !text.contains('\n'), "{text}");
    }
    let text = refusal(&labelled(&[("waypost.99999.service", "x")]));
    assert_eq!(text, "the port in label waypost.99999.service is \"99999\", expected a port number from 1 to 65535");
}

#[test]
fn what_cannot_be_reached_is_refused() {
    let text = refusal(&labelled(&[("waypost.service", "x"), ("waypost.port", "81")]));
    assert!(text.contains("port 81/tcp is not published; published are: 53/tcp"), "{text}");
    let text = refusal(&labelled(&[("waypost.80.domain", "a.example")]));
    assert!(text.contains("label waypost.service or waypost.80.service is missing"), "{text}");
    let silent = Container { ports: vec![], ..labelled(&[("waypost.service", "x")]) };
    assert!(refusal(&silent).contains("publishes no port"));
}
