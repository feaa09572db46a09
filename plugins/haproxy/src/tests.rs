mod accepted;
mod articles;
mod claims;
pub(crate) mod random;
mod refused;
mod reload;
mod requests;
mod running;
mod shapes;
mod sharing;

use std::collections::{BTreeMap, BTreeSet};

use waypost_plugin_sdk::{Fragment, Node, Plugin, PluginError, Service, settings};

pub(crate) use waypost_plugin_sdk::sample::{instance_at as instance, service};

use crate::{Haproxy, Settings, base, render};

pub(crate) fn settings(json: &str) -> Settings {
    settings::parse(json).unwrap()
}

pub(crate) fn node() -> Node {
    Node { name: "web-1".into(), address: "10.0.0.5".into(), attributes: Vec::new() }
}

/// The whole files, as the agent composes them, and the services that were denied something: the first by name has it.
fn compose(settings: &Settings, services: &[Service]) -> (BTreeMap<String, String>, Vec<String>) {
    let mut fragments: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut held: BTreeSet<String> = BTreeSet::new();
    let mut without = Vec::new();
    let mut services: Vec<Service> = services.to_vec();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    let mut add = |fragment: Fragment| {
        let text = fragments.entry((fragment.path, fragment.key.clone())).or_insert_with(|| fragment.text.clone());
        assert_eq!(*text, fragment.text, "what only one can have is claimed: {}", fragment.key);
    };
    base(settings, &node()).unwrap().into_iter().for_each(&mut add);
    for mut service in services {
        let Ok(own) = render(settings, &node(), &service) else { continue };
        service.denied = own.claims.iter().filter(|claim| held.contains(*claim)).cloned().collect();
        if !service.denied.is_empty() {
            without.push(service.name.clone());
        }
        let Ok(left) = render(settings, &node(), &service) else { continue };
        assert_eq!(left.claims, own.claims, "the same claims whatever is denied");
        held.extend(own.claims);
        left.fragments.into_iter().for_each(&mut add);
    }
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for ((path, _), text) in fragments {
        files.entry(path).or_default().push_str(&text);
    }
    (files, without)
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
    let schema: serde_json::Value = serde_json::from_str(<Haproxy as Plugin>::SCHEMA).unwrap();
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
