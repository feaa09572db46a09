use crate::proxy::bind::{Bind, List, first_taken};
use crate::reach::{Address, Endpoint, Reach};
use crate::sample::{container, node, port};
use crate::settings::{Cell, parse};
use crate::{Attachment, Container, Node, PluginError, Transport, attributes, check, layout};

fn endpoint(address: &str, port: u16, container_port: u16, transport: Transport) -> Endpoint {
    Endpoint { address: address.to_owned(), port, container_port, transport }
}

fn with_bindings(bindings: &[(&str, u16)]) -> Container {
    let ports = bindings.iter().map(|&binding| port(80, Transport::Tcp, Some(binding))).collect();
    Container { ports, ..container() }
}

fn published_at(bindings: &[(&str, u16)]) -> Result<(String, u16), String> {
    Reach::default().endpoint(&node(), &with_bindings(bindings), 80, Transport::Tcp).map(|e| (e.address, e.port))
}

#[test]
fn one_endpoint_stands_for_all_bindings_of_a_port() {
    let at = |address: &str, port| Ok((address.to_owned(), port));
    assert_eq!(published_at(&[("::", 5000), ("0.0.0.0", 5001)]), at("10.0.0.1", 5001));
    assert_eq!(published_at(&[("::", 5000)]), at("10.0.0.1", 5000));
    assert_eq!(published_at(&[("", 5000)]), at("10.0.0.1", 5000));
    assert_eq!(published_at(&[("192.0.2.7", 5000)]), at("192.0.2.7", 5000));
    assert_eq!(published_at(&[("127.0.0.1", 4000), ("192.0.2.7", 5000)]), at("192.0.2.7", 5000));
    assert_eq!(published_at(&[("0.0.0.0", 5002), ("0.0.0.0", 5001)]), at("10.0.0.1", 5001));
}

#[test]
fn a_node_with_an_ipv6_address_prefers_the_ipv6_binding() {
    let node = Node { address: "2001:db8::1".to_owned(), ..node() };
    let found = Reach::default().endpoints(&node, &with_bindings(&[("0.0.0.0", 5001), ("::", 5000)])).unwrap();
    assert_eq!(found, [endpoint("2001:db8::1", 5000, 80, Transport::Tcp)]);
}

#[test]
fn a_loopback_binding_counts_only_where_the_node_is_loopback_too() {
    let refused = published_at(&[("127.0.0.1", 5000)]).unwrap_err();
    assert!(refused.contains("port 80/tcp is published on 127.0.0.1 only"), "{refused}");
    let node = Node { address: "127.0.0.1".to_owned(), ..node() };
    let found = Reach::default().endpoints(&node, &with_bindings(&[("127.0.0.1", 5000)])).unwrap();
    assert_eq!(found, [endpoint("127.0.0.1", 5000, 80, Transport::Tcp)]);
}

#[test]
fn an_unreachable_port_hides_no_other() {
    let mut container = with_bindings(&[("127.0.0.1", 5000)]);
    assert!(matches!(Reach::default().endpoints(&node(), &container), Err(PluginError::InvalidInput(_))));
    container.ports.push(port(53, Transport::Udp, Some(("0.0.0.0", 5353))));
    container.ports.push(port(9000, Transport::Tcp, None));
    let found = Reach::default().endpoints(&node(), &container).unwrap();
    assert_eq!(found, [endpoint("10.0.0.1", 5353, 53, Transport::Udp)]);
    assert_eq!(found[0].label(), "53-udp");
}

#[test]
fn a_port_that_is_not_published_is_refused_by_name() {
    let refused = Reach::default().endpoint(&node(), &container(), 9000, Transport::Tcp).unwrap_err();
    assert_eq!(refused, "port 9000/tcp is not published; published are: 8000/tcp");
}

#[test]
fn container_addresses_come_from_the_named_network() {
    let attachment = |network: &str, addresses: &[&str]| Attachment {
        network: network.to_owned(),
        addresses: addresses.iter().map(|&address| address.to_owned()).collect(),
    };
    let attachments = vec![
        attachment("front", &["fd00::2", "172.20.0.2"]),
        attachment("back", &["172.21.0.2"]),
        attachment("a", &[]),
    ];
    let container = Container { attachments, ..container() };
    let reach = |network: Option<&str>| Reach { address: Address::Container, network: network.map(str::to_owned) };
    let at = |network| reach(network).endpoint(&node(), &container, 80, Transport::Tcp).map(|e| (e.address, e.port));
    assert_eq!(at(None), Ok(("172.21.0.2".to_owned(), 80)));
    assert_eq!(at(Some("front")), Ok(("172.20.0.2".to_owned(), 80)));
    assert_eq!(at(Some("none")), Err("it has no address on none; it has one on: front, back".to_owned()));
}

#[test]
fn a_container_on_the_host_network_is_at_the_node() {
    let container = Container { network_mode: "host".to_owned(), ports: vec![], ..container() };
    assert_eq!(Reach::default().endpoints(&node(), &container).unwrap(), []);
    let found = Reach::default().endpoint(&node(), &container, 80, Transport::Tcp).unwrap();
    assert_eq!(found, endpoint("10.0.0.1", 80, 80, Transport::Tcp));
}

#[test]
fn settings_errors_name_the_key() {
    let refused = |json: &str| match parse::<Reach>(json) {
        Err(PluginError::InvalidSettings(text)) => text,
        other => panic!("{other:?}"),
    };
    assert!(parse::<Reach>("{}").is_ok());
    assert_eq!(refused(r#"{"adress":"x"}"#), "adress: unknown field `adress`, expected `address` or `network`");
    assert_eq!(refused(r#"{"address":"x"}"#), "address: unknown variant `x`, expected `published` or `container`");
    assert_eq!(refused(r#"{"network":7}"#), "network: invalid type: integer `7`, expected a string");
    assert_eq!(refused(r#"{"network":"a"}"#), "network: has no meaning without address = \"container\"");
}

#[test]
fn a_plugin_is_configured_once_and_before_its_calls() {
    let cell: Cell<Reach> = Cell::new();
    assert!(matches!(cell.get(), Err(PluginError::Other(_))));
    assert!(cell.configure("{").is_err());
    assert_eq!(cell.configure("{}"), Ok(()));
    assert_eq!(cell.get().unwrap().address, Address::Published);
    assert!(cell.configure("{}").is_err());
}

#[test]
fn attributes_are_unique_and_sorted() {
    let sorted = attributes::sorted([("b", "1"), ("a", "2"), ("b", "3")]);
    assert_eq!(sorted, [("a".to_owned(), "2".to_owned()), ("b".to_owned(), "3".to_owned())]);
    assert_eq!(attributes::get(&sorted, "b"), Some("3"));
    assert_eq!(attributes::get(&sorted, "c"), None);
    assert_eq!(attributes::items(" a, ,b,").collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn names_are_checked() {
    let long = "a".repeat(254);
    for bad in ["", ".", "..", "a/../b", "a//b", "a b", "a\nb", "ä", "a#b", "/a", "a/", &long] {
        assert!(check::service("label x", bad).is_err(), "{bad}");
    }
    for good in ["web", "team/app", "A.b_c-d.9"] {
        assert_eq!(check::service("label x", good), Ok(()));
    }
    let text = match check::segment("label x", "é\nß") {
        Err(PluginError::InvalidInput(text)) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(text, "label x is \"é\\nß\", expected ASCII letters, digits, `.`, `_` and `-`");
    assert!(check::is_host("::1") && check::is_host("a.example") && !check::is_host("*.a") && !check::is_host("a b"));
    assert!(check::is_domain("*.a.example") && !check::is_domain("a..b") && !check::is_domain(""));
}

#[test]
fn authorities_are_read_back() {
    for (address, port, text) in
        [("10.0.0.1", 80, "10.0.0.1:80"), ("fd00::1", 80, "[fd00::1]:80"), ("h.example", 1, "h.example:1")]
    {
        assert_eq!(layout::authority(address, port), text);
        assert_eq!(layout::parse_authority(text), Ok((address.to_owned(), port)));
    }
    for bad in ["", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:70000", ":80", "fd00::1:80", "[10.0.0.1]:80", "a b:80", "x:é"]
    {
        assert!(layout::parse_authority(bad).is_err(), "{bad}");
    }
}

#[test]
fn places_are_taken_from_keys() {
    assert_eq!(layout::split_key("/backends/team/app/0ce6", "/backends/"), Ok(("team/app", "0ce6")));
    for bad in ["/backends/port", "/backends//x", "/backends/x/", "/other/x/y", ""] {
        assert!(layout::split_key(bad, "/backends/").is_err(), "{bad}");
    }
}

#[test]
fn a_distinct_list_has_no_address_twice() {
    let distinct = |text: &str| List::<Bind, true>::try_from(text.to_owned()).map(|binds| binds.to_string());
    assert_eq!(distinct("0.0.0.0:80, [::]:80"), Ok("*:80,[::]:80".to_owned()));
    let refused = distinct("0.0.0.0:80,*:80").unwrap_err();
    assert!(refused.starts_with("found \"0.0.0.0:80,*:80\", expected different addresses such as"), "{refused}");
    let any = |text: &str| List::<Bind, false>::try_from(text.to_owned()).map(|binds| binds.to_string());
    assert_eq!(any("0.0.0.0:80,*:80"), Ok("0.0.0.0:80,*:80".to_owned()));
    assert!(any("::1:80").unwrap_err().contains("expected addresses such as"));
}

#[test]
fn the_unspecified_ipv6_address_takes_the_ipv4_ones_on_a_dual_stack() {
    let binds = |text: &str| List::<Bind, false>::try_from(text.to_owned()).unwrap().0;
    for (one, other, dual_stack, single_stack) in [
        ("[::]:80", "10.0.0.1:80", true, false),
        ("[::]:80", "*:80", true, false),
        ("[::]:80", "[::1]:80", true, true),
        ("*:80", "10.0.0.1:80", true, true),
        ("*:80", "[::1]:80", false, false),
        ("*:80", "*:81", false, false),
    ] {
        for (binds, taken) in [(binds(one), binds(other)), (binds(other), binds(one))] {
            assert_eq!(first_taken(&binds, &taken, true).is_some(), dual_stack, "{one} {other}");
            assert_eq!(first_taken(&binds, &taken, false).is_some(), single_stack, "{one} {other}");
        }
    }
}
