mod absent;
mod accepted;
mod claimed;
mod nginx;
mod random;
mod refused;
mod served;
mod shapes;
mod sharing;
mod texts;

use std::collections::{BTreeMap, BTreeSet};

use waypost_plugin_sdk::{Fragment, Instance, Node, Plugin, PluginError, Readiness, Service, Transport, settings};

use waypost_plugin_sdk::sample::{instance_at as instance, service};

use crate::{Nginx, Settings, base, render};

/// Debian's stream module.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

fn settings(json: &str) -> Settings {
    settings::parse(json).unwrap()
}

/// These settings, with streams.
fn with_streams(more: &str) -> Settings {
    settings(&format!(r#"{{"stream": "{MODULE}"{more}}}"#))
}

fn node() -> Node {
    Node { name: "web-1".into(), address: "10.0.0.5".into(), attributes: Vec::new() }
}

fn draining(mut instance: Instance) -> Instance {
    instance.readiness = Readiness::Draining;
    instance
}

fn gone(mut instance: Instance) -> Instance {
    instance.readiness = Readiness::Gone;
    instance
}

fn over_udp(mut instance: Instance) -> Instance {
    instance.transport = Transport::Udp;
    instance
}

/// The whole files, as the agent composes them, and the services that were held back: the first by name has what it claims.
fn compose(settings: &Settings, services: &[Service]) -> (BTreeMap<String, String>, Vec<String>) {
    let mut fragments: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut held_back = Vec::new();
    let mut services: Vec<&Service> = services.iter().collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let keyed = |fragment: Fragment| ((fragment.path, fragment.key), fragment.text);
    fragments.extend(base(settings, &node()).unwrap().into_iter().map(keyed));
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for service in services {
        let Ok(wish) = render(settings, &node(), service) else { continue };
        let denied: Vec<String> = wish.claims.iter().filter(|claim| taken.contains(*claim)).cloned().collect();
        let Ok(own) = render(settings, &node(), &Service { denied, ..service.clone() }) else {
            held_back.push(service.name.clone());
            continue;
        };
        assert_eq!(own.claims, wish.claims, "claims do not depend on what is denied");
        taken.extend(own.claims);
        for (key, text) in own.fragments.into_iter().map(keyed) {
            let before = fragments.insert(key.clone(), text.clone());
            assert!(
                before.as_ref().is_none_or(|before| *before == text),
                "{key:?} of {}: {before:?}, {text:?}",
                service.name
            );
        }
    }
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for ((path, _), text) in fragments {
        files.entry(path).or_default().push_str(&text);
    }
    (files, held_back)
}

/// The text of one service's fragments in one file.
fn text(settings: &Settings, service: &Service, path: &str) -> String {
    let mut fragments = render(settings, &node(), service).unwrap().fragments;
    fragments.sort_by(|a, b| a.key.cmp(&b.key));
    fragments.into_iter().filter(|fragment| fragment.path == path).map(|fragment| fragment.text).collect()
}

fn refusal(settings: &Settings, service: &Service) -> String {
    match render(settings, &node(), service) {
        Err(PluginError::InvalidInput(text)) => text,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[test]
fn the_schema_names_all_settings_and_their_defaults() {
    let schema: serde_json::Value = serde_json::from_str(<Nginx as Plugin>::SCHEMA).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    let defaults: serde_json::Map<String, serde_json::Value> =
        properties.iter().filter_map(|(key, property)| Some((key.clone(), property.get("default")?.clone()))).collect();
    let read = settings(&serde_json::Value::Object(defaults).to_string());
    assert_eq!(format!("{read:?}"), format!("{:?}", Settings::default()));

    let Err(PluginError::InvalidSettings(all)) = settings::parse::<Settings>(r#"{"x": 1}"#) else { panic!() };
    let named: Vec<&str> = all.split('`').skip(3).step_by(2).collect();
    assert_eq!(named.len(), properties.len(), "{all}");
    assert!(named.iter().all(|name| properties.contains_key(*name)), "{all}");
}
