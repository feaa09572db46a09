use proptest::prelude::*;
use waypost_plugin_sdk::sample::{arbitrary, entries, instance, node};

use super::*;

const SETTINGS: &Nothing = &Nothing {};

fn stored(key: &str, value: &str) -> Entry {
    Entry { key: key.to_owned(), value: value.to_owned() }
}

#[test]
fn all_that_an_instance_has_is_written() {
    let instance = Instance { weight: Some(7), readiness: Readiness::Draining, ..instance() };
    let value = r#"{"address":"10.0.0.1","port":49153,"transport":"tcp","readiness":"draining","weight":7,"attributes":{"container":"whoami-1","container-port":"8000","hostname":"736ab83847bb","image":"jwilder/whoami:latest","listen-port":"8000","node":"web-1","protocol":"tcp"}}"#;
    let expected = stored("/waypost/services/whoami/736ab83847bb", value);
    assert_eq!(encode(SETTINGS, &node(), &instance).map(entries), Ok(vec![expected.clone()]));
    assert_eq!(decode(SETTINGS, &[expected]), Ok(vec![instance]));
}

#[test]
fn unknown_fields_are_ignored_and_missing_ones_have_defaults() {
    let value = r#"{"port":80,"zone":{"a":[1]},"address":"fd00::1"}"#;
    let read = decode(SETTINGS, &[stored("/waypost/services/team/app/x1", value)]).unwrap();
    let expected = Instance {
        service: "team/app".to_owned(),
        id: "x1".to_owned(),
        address: "fd00::1".to_owned(),
        port: 80,
        attributes: vec![],
        ..instance()
    };
    assert_eq!(read, [expected]);
}

#[test]
fn an_unreadable_entry_hides_no_other() {
    let good = entries(encode(SETTINGS, &node(), &instance()).unwrap()).remove(0);
    let huge = "x".repeat(1 << 20);
    for value in [
        "",
        "{",
        "7",
        "null",
        "[]",
        r#"{"address":"a","port":"80"}"#,
        r#"{"address":"a","port":80,"transport":"quic"}"#,
        r#"{"address":"a","port":80,"weight":-1}"#,
        r#"{"address":"a","port":80,"attributes":{"x":1}}"#,
        &huge,
    ] {
        let entries = [stored("/waypost/services/whoami/bad", value), good.clone()];
        assert_eq!(decode(SETTINGS, &entries), Ok(vec![instance()]), "{value:.60}");
    }
    let entries = [stored("/waypost/services/x", &good.value), stored("/other/x/y", &good.value), good];
    assert_eq!(decode(SETTINGS, &entries), Ok(vec![instance()]));
}

#[test]
fn an_id_with_a_slash_is_refused() {
    let instance = Instance { id: "a/b".to_owned(), ..instance() };
    assert!(matches!(encode(SETTINGS, &node(), &instance), Err(PluginError::InvalidInput(_))));
}

proptest! {
    #[test]
    fn decode_inverts_encode(instances in prop::collection::vec(arbitrary::instance(), 1..5)) {
        for instance in instances {
            let entries = entries(encode(SETTINGS, &node(), &instance).unwrap());
            prop_assert!(entries.iter().all(|entry| entry.key.starts_with(PREFIX)));
            prop_assert_eq!(decode(SETTINGS, &entries), Ok(vec![instance]));
        }
    }

    #[test]
    fn decode_never_panics(key in ".*", value in ".*") {
        let _read = decode(SETTINGS, &[stored(&key, &value), stored(&format!("{PREFIX}a/{key}"), &value)]);
    }
}
