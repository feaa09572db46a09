use proptest::prelude::*;
use waypost_plugin_sdk::sample::{arbitrary, entries, instance, node};
use waypost_plugin_sdk::settings::parse;

use super::*;

fn in_zone() -> Settings {
    parse(r#"{"zone":"internal"}"#).unwrap()
}

fn stored(key: &str, value: &str) -> Entry {
    Entry { key: key.to_owned(), value: value.to_owned() }
}

fn service(name: &str, id: &str) -> Instance {
    Instance { service: name.to_owned(), id: id.to_owned(), attributes: vec![], ..instance() }
}

fn encoded(settings: &Settings, instance: &Instance) -> Vec<Entry> {
    entries(encode(settings, &node(), instance).unwrap())
}

#[test]
fn a_name_is_a_path_of_reversed_labels_with_a_leaf_for_each_instance() {
    let ghost = service("ghost.example.web.dev.app1.internal", "0CE60d000eac");
    let expected = stored(
        "/skydns/internal/app1/dev/web/example/ghost/0ce60d000eac",
        r#"{"host":"10.0.0.1","port":49153,"ttl":30}"#,
    );
    assert_eq!(encoded(&in_zone(), &ghost), std::slice::from_ref(&expected));
    assert_eq!(encoded(&Settings::default(), &ghost), [expected]);
}

#[test]
fn a_name_outside_the_zone_gets_it_appended() {
    let key = |name: &str| encoded(&in_zone(), &service(name, "x"))[0].key.clone();
    assert_eq!(key("Whoami"), "/skydns/internal/whoami/x");
    assert_eq!(key("web.internal"), "/skydns/internal/web/x");
    assert_eq!(key("notinternal"), "/skydns/internal/notinternal/x");
    assert_eq!(key("internal"), "/skydns/internal/internal/x");
    let deep: Settings = parse(r#"{"zone":"a.example","prefix":"dns"}"#).unwrap();
    assert_eq!(encoded(&deep, &service("web", "x"))[0].key, "/dns/example/a/web/x");
    assert_eq!(prefixes(&deep), ["/dns/example/a/"]);
    assert_eq!(prefixes(&Settings::default()), ["/skydns/"]);
}

#[test]
fn weight_and_ttl_are_written() {
    let settings: Settings = parse(r#"{"ttl":5}"#).unwrap();
    let weighted = Instance { weight: Some(7), ..service("web", "x") };
    assert_eq!(encoded(&settings, &weighted)[0].value, r#"{"host":"10.0.0.1","port":49153,"weight":7,"ttl":5}"#);
}

#[test]
fn a_fixed_host_answers_for_all() {
    let settings: Settings = parse(r#"{"host":"10.0.0.80"}"#).unwrap();
    let entries = encoded(&settings, &service("web.internal", "x"));
    assert_eq!(entries[0].value, r#"{"host":"10.0.0.80","ttl":30}"#);
    assert_eq!(decode(&settings, &entries), Ok(vec![]));
}

#[test]
fn an_instance_that_wants_no_clients_has_no_record() {
    let web = service("web", "x");
    assert_eq!(encoded(&in_zone(), &Instance { readiness: Readiness::Draining, ..web.clone() }), []);
    assert_eq!(encoded(&in_zone(), &Instance { weight: Some(0), ..web }), []);
}

#[test]
fn what_is_no_dns_name_is_refused() {
    let label = "a".repeat(64);
    let name = vec!["a".repeat(60); 5].join(".");
    for (name, id) in [
        ("team/app", "x"),
        ("a..b", "x"),
        ("-a", "x"),
        ("", "x"),
        ("ä", "x"),
        (&label, "x"),
        (&name, "x"),
        ("web", "db.example"),
        ("web", "a/b"),
        ("web", ""),
        ("web", &label),
    ] {
        let refused = encode(&in_zone(), &node(), &service(name, id));
        assert!(matches!(refused, Err(PluginError::InvalidInput(_))), "{name} {id}: {refused:?}");
    }
}

#[test]
fn wrong_settings_name_their_key() {
    for (key, json) in [
        ("zone", r#"{"zone":"Internal."}"#),
        ("zone", r#"{"zone":""}"#),
        ("ttl", r#"{"ttl":0}"#),
        ("ttl", r#"{"ttl":"30s"}"#),
        ("host", r#"{"host":"a b"}"#),
        ("prefix", r#"{"prefix":"a/b"}"#),
    ] {
        let Err(PluginError::InvalidSettings(text)) = parse::<Settings>(json) else { panic!("{json}") };
        assert!(text.starts_with(&format!("{key}: ")), "{text}");
    }
}

#[test]
fn an_unreadable_entry_hides_no_other() {
    let good = stored("/skydns/internal/web/x", r#"{"host":"fd00::1","port":80,"priority":10,"mail":false}"#);
    let huge = "x".repeat(1 << 20);
    for value in [
        "",
        "[]",
        "{}",
        r#"{"host":"10.0.0.1"}"#,
        r#"{"host":"10.0.0.1","port":"80"}"#,
        r#"{"host":"10.0.0.1","port":0}"#,
        r#"{"host":"a b","port":80}"#,
        &huge,
    ] {
        let read = decode(&in_zone(), &[stored("/skydns/internal/web/bad", value), good.clone()]).unwrap();
        let expected = Instance { address: "fd00::1".to_owned(), port: 80, ..service("web.internal", "x") };
        assert_eq!(read, [expected], "{value:.60}");
    }
    assert_eq!(
        decode(&Settings::default(), &[stored("/skydns/config", r#"{"host":"10.0.0.1","port":80}"#)]),
        Ok(vec![])
    );
}

proptest! {
    #[test]
    fn decode_inverts_encode(
        instance in arbitrary::instance(),
        labels in prop::collection::vec("[a-z0-9]([a-z0-9_-]{0,14}[a-z0-9])?", 1..5),
        id in "[a-z0-9]{1,20}",
    ) {
        let service = format!("{}.internal", labels.join("."));
        let instance = Instance { service, id, transport: Transport::Tcp, attributes: vec![], ..instance };
        let entries = encoded(&in_zone(), &instance);
        prop_assert!(entries.iter().all(|entry| entry.key.starts_with(&prefixes(&in_zone())[0])));
        let carries = instance.readiness == Readiness::Ready && instance.weight != Some(0);
        prop_assert_eq!(decode(&in_zone(), &entries), Ok(if carries { vec![instance] } else { vec![] }));
    }

    #[test]
    fn decode_never_panics(key in ".*", value in ".*") {
        let _read = decode(&in_zone(), &[stored(&key, &value), stored(&format!("/skydns/a/{key}"), &value)]);
    }
}
