//! DNS records as CoreDNS and SkyDNS read them: the labels of the name reversed as a path, one leaf for each instance.

use serde::{Deserialize, Serialize};
use waypost_plugin_sdk::layout::{read_entries, registration, split_key};
use waypost_plugin_sdk::{
    Entry, Instance, Node, Plugin, PluginError, Readiness, Registration, Transport, check, refuse, show,
};

mod settings;
#[cfg(test)]
mod tests;

pub use settings::Settings;

/// Longest DNS name, in bytes.
const NAME_LIMIT: usize = 253;

/// The plugin `skydns`.
pub struct Skydns;

impl Plugin for Skydns {
    type Settings = Settings;
    const NAME: &'static str = "skydns";
    const SUMMARY: &'static str = "Keeps DNS records as CoreDNS and SkyDNS read them.";
    const SCHEMA: &'static str = concat!(
        r#"{"type":"object","properties":{"zone":{"type":"string"},"ttl":{"type":"integer","minimum":1,"default":30},"#,
        r#""host":{"type":"string"},"prefix":{"type":"string","default":"skydns"}},"additionalProperties":false}"#
    );
}

/// A record; SkyDNS knows more fields, which are ignored.
#[derive(Serialize, Deserialize)]
struct Record {
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u32>,
}

/// Where this layout's keys are: below the zone when there is one.
pub fn prefixes(settings: &Settings) -> Vec<String> {
    let zone = settings.zone.as_deref().map(|zone| path(zone) + "/").unwrap_or_default();
    vec![format!("/{}/{zone}", settings.prefix)]
}

/// One record; none for an instance that is draining or has the weight 0, since a record attracts clients.
///
/// # Errors
/// `invalid-input` when the service is no DNS name or the id no label of one.
pub fn encode(settings: &Settings, _: &Node, instance: &Instance) -> Result<Vec<Registration>, PluginError> {
    if instance.readiness != Readiness::Ready || instance.weight == Some(0) {
        return Ok(Vec::new());
    }
    let name = name(settings, &instance.service)?;
    let leaf = instance.id.to_ascii_lowercase();
    if !check::is_label(&leaf) || leaf.len() + 1 + name.len() > NAME_LIMIT {
        return refuse(format!(
            "the id {} of an instance of {} cannot be the first label of a DNS name: expected up to 63 letters, digits, \
             `_` and inner `-`",
            show(&instance.id),
            instance.service
        ));
    }
    let ttl = Some(settings.ttl);
    let record = match &settings.host {
        Some(host) => Record { host: host.clone(), port: None, weight: None, ttl },
        None => Record { host: instance.address.clone(), port: Some(instance.port), weight: instance.weight, ttl },
    };
    let value = serde_json::to_string(&record).map_err(|error| PluginError::Other(error.to_string()))?;
    Ok(vec![registration(format!("/{}/{}/{leaf}", settings.prefix, path(&name)), value)])
}

/// The DNS name of a service, in lower case and inside the zone.
fn name(settings: &Settings, service: &str) -> Result<String, PluginError> {
    let mut name = service.to_ascii_lowercase();
    if let Some(zone) = &settings.zone
        && !name.strip_suffix(zone.as_str()).is_some_and(|rest| rest.ends_with('.'))
    {
        name = format!("{name}.{zone}");
    }
    if name.len() > NAME_LIMIT || !name.split('.').all(check::is_label) {
        return refuse(format!(
            "service {} is no DNS name: expected labels of up to 63 letters, digits, `_` and inner `-`, separated by `.`",
            show(service)
        ));
    }
    Ok(name)
}

/// `web.internal` as `internal/web`.
fn path(name: &str) -> String {
    name.split('.').rev().collect::<Vec<_>>().join("/")
}

/// The instances of one directory; none when all names answer one address, since records then are no instances.
///
/// # Errors
/// None today: an entry that cannot be read is logged and left out.
pub fn decode(settings: &Settings, entries: &[Entry]) -> Result<Vec<Instance>, PluginError> {
    if settings.host.is_some() {
        return Ok(Vec::new());
    }
    let prefix = format!("/{}/", settings.prefix);
    Ok(read_entries(entries, |entry| read(&prefix, entry)))
}

fn read(prefix: &str, entry: &Entry) -> Result<Instance, String> {
    let (directory, id) = split_key(&entry.key, prefix)?;
    let labels: Vec<&str> = directory.split('/').rev().collect();
    if !labels.iter().chain([&id]).all(|label| check::is_label(label)) {
        return Err("a segment of the key is no label of a DNS name".to_owned());
    }
    let record: Record = serde_json::from_str(&entry.value).map_err(|error| error.to_string())?;
    if !check::is_host(&record.host) {
        return Err(format!("host is {}, expected an address", show(&record.host)));
    }
    let Some(port) = record.port.filter(|&port| port > 0) else {
        return Err("it has no port, so it is no instance".to_owned());
    };
    Ok(Instance {
        service: labels.join("."),
        id: id.to_owned(),
        address: record.host,
        port,
        transport: Transport::Tcp,
        readiness: Readiness::Ready,
        weight: record.weight,
        attributes: Vec::new(),
    })
}

waypost_plugin_sdk::layout!(Skydns, prefixes, encode, decode);
