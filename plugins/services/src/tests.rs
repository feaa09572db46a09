use proptest::prelude::*;
use waypost_plugin_sdk::sample::{arbitrary, entries, instance_at, node};

use super::*;

const SETTINGS: &Nothing = &Nothing {};

fn stored(key: &str, value: &str) -> Entry {
    Entry { key: key.to_owned(), value: value.to_owned() }
}

fn announced(path: &str, attributes: &[(&str, &str)], id: &str, address: &str, port: u16) -> Instance {
    let names: Vec<&str> = path.trim_start_matches('/').split('/').rev().collect();
    let attributes: Vec<_> = attributes.iter().copied().chain([("announce-path", path)]).collect();
    let service = names.join(".").to_ascii_lowercase();
    Instance { service, ..instance_at(id, address, port, &attributes) }
}

fn encoded(instance: &Instance) -> Vec<Entry> {
    entries(encode(SETTINGS, &node(), instance).unwrap())
}

#[test]
fn a_tcp_service_is_written_as_in_the_article() {
    let attributes = [("container-port", "5432"), ("listen-port", "5432"), ("protocol", "tcp")];
    let instance =
        announced("/internal/app1/dev/db/ghost.example", &attributes, "444a99dbf0c6", "10.250.136.243", 49178);
    let place = "internal/app1/dev/db/ghost.example/444a99dbf0c6";
    let expected = [
        stored(
            &format!("/announce/{place}"),
            r#"{"ID":"444a99dbf0c6","APP":"app1","ENV":"dev","SERVICE":"db","NAME":"ghost.example","PORT":"5432","TYPE":"TCP"}"#,
        ),
        stored(
            &format!("/services/{place}"),
            r#"{"ID":"444a99dbf0c6","APP":"app1","ENV":"dev","SERVICE":"db","NAME":"ghost.example","IP":"10.250.136.243","EXT_PORT":"49178","TYPE":"TCP"}"#,
        ),
    ];
    assert_eq!(encoded(&instance), expected);
}

#[test]
fn an_http_service_is_written_and_read_as_in_the_article() {
    let attributes =
        [("container-port", "80"), ("domain", "ghost.example.web.dev.app1.internal"), ("protocol", "http")];
    let instance =
        announced("/internal/app1/dev/web/ghost.example", &attributes, "0ce60d000eac", "10.250.136.243", 49178);
    let entries = encoded(&instance);
    assert_eq!(entries[1].key, "/services/internal/app1/dev/web/ghost.example/0ce60d000eac");
    assert_eq!(
        entries[1].value,
        r#"{"ID":"0ce60d000eac","APP":"app1","ENV":"dev","SERVICE":"web","NAME":"ghost.example","IP":"10.250.136.243","EXT_PORT":"49178","TYPE":"HTTP"}"#
    );
    let read =
        announced("/internal/app1/dev/web/ghost.example", &attributes[1..], "0ce60d000eac", "10.250.136.243", 49178);
    assert_eq!(decode(SETTINGS, &entries[1..]), Ok(vec![read]));
    assert_eq!(decode(SETTINGS, &entries[..1]), Ok(vec![]));
}

#[test]
fn keys_keep_the_case_of_the_path_and_names_do_not() {
    let instance = announced("/internal/App1/DEV/web/Ghost", &[("protocol", "tcp")], "Id", "fd00::1", 1);
    let entries = encoded(&instance);
    assert_eq!(entries[1].key, "/services/internal/App1/DEV/web/Ghost/Id");
    assert_eq!(decode(SETTINGS, &entries[1..]), Ok(vec![instance]));
}

#[test]
fn what_these_keys_cannot_say_is_not_written() {
    let plain = announced("/a/b/c/d/e", &[], "x", "10.0.0.1", 1);
    assert_eq!(encoded(&Instance { attributes: vec![], ..plain.clone() }), []);
    assert_eq!(encoded(&Instance { readiness: Readiness::Draining, ..plain.clone() }), []);
    assert_eq!(encoded(&Instance { transport: Transport::Udp, ..plain.clone() }), []);
    for path in ["", "a/b/c/d/e", "/a/b/c/d", "/a/b/c/d/e/f", "/a/../c/d/e", "/a/b/c/d/é"] {
        let instance = Instance { attributes: sorted([("announce-path", path)]), ..plain.clone() };
        assert!(matches!(encode(SETTINGS, &node(), &instance), Err(PluginError::InvalidInput(_))), "{path}");
    }
    assert!(encode(SETTINGS, &node(), &Instance { id: "a/b".to_owned(), ..plain }).is_err());
}

#[test]
fn an_unreadable_entry_hides_no_other() {
    let good = stored("/services/a/b/c/d/e/x", r#"{"IP":"10.0.0.1","EXT_PORT":"1","TYPE":"TCP","MORE":{}}"#);
    let huge = "x".repeat(1 << 20);
    for value in [
        "",
        "[]",
        r#"{"IP":"10.0.0.1","EXT_PORT":1,"TYPE":"TCP"}"#,
        r#"{"IP":"10.0.0.1","EXT_PORT":"0","TYPE":"TCP"}"#,
        r#"{"IP":"a b","EXT_PORT":"1","TYPE":"TCP"}"#,
        r#"{"IP":"10.0.0.1","EXT_PORT":"1","TYPE":"tls"}"#,
        r#"{"IP":"10.0.0.1"}"#,
        &huge,
    ] {
        let entries = [stored("/services/a/b/c/d/e/bad", value), good.clone()];
        let read = decode(SETTINGS, &entries).unwrap();
        assert_eq!(read, [announced("/a/b/c/d/e", &[("protocol", "tcp")], "x", "10.0.0.1", 1)], "{value:.60}");
    }
    let short = stored("/services/a/b/x", &good.value);
    assert_eq!(decode(SETTINGS, &[short]), Ok(vec![]));
}

proptest! {
    #[test]
    fn decode_inverts_encode(
        instance in arbitrary::instance(),
        path in prop::collection::vec(arbitrary::segment(), 5),
        is_http in any::<bool>(),
    ) {
        let path = format!("/{}", path.join("/"));
        let plain = announced(&path, &[], &instance.id, &instance.address, instance.port);
        let own = if is_http { vec![("protocol", "http"), ("domain", plain.service.as_str())] } else { vec![("protocol", "tcp")] };
        let expected = Instance { attributes: sorted(own.into_iter().chain([("announce-path", path.as_str())])), ..plain.clone() };
        let instance = Instance { transport: Transport::Tcp, readiness: Readiness::Ready, ..expected.clone() };
        let entries = encoded(&instance);
        prop_assert_eq!(decode(SETTINGS, &entries[1..]), Ok(vec![expected]));
    }

    #[test]
    fn decode_never_panics(key in ".*", value in ".*") {
        let _read = decode(SETTINGS, &[stored(&key, &value), stored(&format!("{SERVICES}a/b/c/d/e/{key}"), &value)]);
    }
}
