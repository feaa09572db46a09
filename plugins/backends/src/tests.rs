use proptest::prelude::*;
use waypost_plugin_sdk::sample::{arbitrary, entries, instance, node};

use super::*;

const SETTINGS: &Nothing = &Nothing {};

fn stored(key: &str, value: &str) -> Entry {
    Entry { key: key.to_owned(), value: value.to_owned() }
}

/// What these keys carry of an instance.
fn carried(instance: Instance) -> Instance {
    let kept = |(name, _): &(String, String)| name == "listen-port";
    let attributes = instance.attributes.into_iter().filter(kept).collect();
    Instance { weight: None, attributes, ..instance }
}

#[test]
fn the_keys_are_those_of_docker_register() {
    let encoded = encode(SETTINGS, &node(), &instance()).unwrap();
    let leases: Vec<_> = encoded.iter().map(|one| one.lease).collect();
    assert_eq!(leases, [LeaseKind::Host, LeaseKind::Shared]);
    let entries = entries(encoded);
    assert_eq!(
        entries,
        [stored("/backends/whoami/736ab83847bb", "10.0.0.1:49153"), stored("/backends/whoami/port", "8000")]
    );
    assert_eq!(decode(SETTINGS, &entries), Ok(vec![carried(instance())]));
}

#[test]
fn consumers_connect_to_the_container_port_unless_another_is_wanted() {
    let port = |attributes: &[(&str, &str)]| {
        let attributes = attributes.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        let instance = Instance { attributes, ..instance() };
        encode(SETTINGS, &node(), &instance).unwrap().get(1).map(|entry| entry.value.clone())
    };
    assert_eq!(port(&[("container-port", "80")]), Some("80".to_owned()));
    assert_eq!(port(&[("container-port", "80"), ("listen-port", "8080")]), Some("8080".to_owned()));
    assert_eq!(port(&[]), None);
}

#[test]
fn what_the_keys_cannot_say_is_not_written() {
    let draining = Instance { readiness: Readiness::Draining, ..instance() };
    let udp = Instance { transport: Transport::Udp, ..instance() };
    assert_eq!(encode(SETTINGS, &node(), &draining), Ok(vec![]));
    assert_eq!(encode(SETTINGS, &node(), &udp), Ok(vec![]));
    for id in ["port", "a/b", ""] {
        let instance = Instance { id: id.to_owned(), ..instance() };
        assert!(matches!(encode(SETTINGS, &node(), &instance), Err(PluginError::InvalidInput(_))), "{id}");
    }
}

#[test]
fn instances_are_there_without_a_port_key_and_beside_bad_entries() {
    let good = stored("/backends/team/app/x1", "[fd00::1]:80");
    let huge = "x".repeat(1 << 20);
    let bad = ["", "10.0.0.1", "10.0.0.1:", ":80", "10.0.0.1:99999", "{}", "a b:1", "é:1", &huge];
    let mut entries: Vec<Entry> = bad.iter().map(|value| stored("/backends/team/app/bad", value)).collect();
    entries.push(stored("/backends/team/app/port", "eighty"));
    entries.push(good);
    let read = decode(SETTINGS, &entries).unwrap();
    let [instance] = &read[..] else { panic!("{read:?}") };
    assert_eq!((instance.service.as_str(), instance.id.as_str()), ("team/app", "x1"));
    assert_eq!((instance.address.as_str(), instance.port), ("fd00::1", 80));
    assert_eq!(instance.attributes, []);
}

proptest! {
    #[test]
    fn decode_inverts_encode(instance in arbitrary::instance(), port in prop::option::of(1..=u16::MAX)) {
        let listen_port = port.map(|port| ("listen-port".to_owned(), port.to_string()));
        let instance = Instance { attributes: listen_port.into_iter().collect(), ..instance };
        let entries = entries(encode(SETTINGS, &node(), &instance).unwrap());
        let carries = instance.readiness == Readiness::Ready && instance.transport == Transport::Tcp;
        let expected = if carries { vec![carried(instance)] } else { vec![] };
        prop_assert_eq!(decode(SETTINGS, &entries), Ok(expected));
    }

    #[test]
    fn decode_never_panics(key in ".*", value in ".*") {
        let _read = decode(SETTINGS, &[stored(&key, &value), stored(&format!("{PREFIX}a/{key}"), &value)]);
    }
}
