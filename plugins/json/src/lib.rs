//! All that an instance has, as one JSON value under `/waypost/services/<service>/<id>`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use waypost_plugin_sdk::layout::{checked_id, read_entries, registration, split_key};
use waypost_plugin_sdk::settings::Nothing;
use waypost_plugin_sdk::{Entry, Instance, Node, Plugin, PluginError, Readiness, Registration, Transport};

mod attributes;
#[cfg(test)]
mod tests;

const PREFIX: &str = "/waypost/services/";

/// The plugin `json`.
pub struct Json;

impl Plugin for Json {
    type Settings = Nothing;
    const NAME: &'static str = "json";
    const SUMMARY: &'static str = "Keeps all that an instance has, as JSON under /waypost/services/<service>/<id>.";
    const SCHEMA: &'static str = "";
}

/// A value as it stands in the registry; fields that it does not know are ignored, so that versions can mix.
#[derive(Serialize, Deserialize)]
struct Value<'a> {
    address: Cow<'a, str>,
    port: u16,
    #[serde(with = "TransportName", default = "tcp")]
    transport: Transport,
    #[serde(with = "ReadinessName", default = "ready")]
    readiness: Readiness,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u16>,
    #[serde(with = "attributes", default)]
    attributes: Cow<'a, [(String, String)]>,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Transport", rename_all = "lowercase")]
enum TransportName {
    Tcp,
    Udp,
    Sctp,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Readiness", rename_all = "lowercase")]
enum ReadinessName {
    Ready,
    Draining,
    #[serde(skip)]
    Gone,
}

fn tcp() -> Transport {
    Transport::Tcp
}

fn ready() -> Readiness {
    Readiness::Ready
}

/// Where this layout's keys are.
pub fn prefixes(_: &Nothing) -> Vec<String> {
    vec![PREFIX.to_owned()]
}

/// One entry, also for a draining instance.
///
/// # Errors
/// `invalid-input` when the id holds a `/`.
pub fn encode(_: &Nothing, _: &Node, instance: &Instance) -> Result<Vec<Registration>, PluginError> {
    let id = checked_id(instance)?;
    let value = Value {
        address: instance.address.as_str().into(),
        port: instance.port,
        transport: instance.transport,
        readiness: instance.readiness,
        weight: instance.weight,
        attributes: instance.attributes.as_slice().into(),
    };
    let value = serde_json::to_string(&value).map_err(|error| PluginError::Other(error.to_string()))?;
    Ok(vec![registration(format!("{PREFIX}{}/{id}", instance.service), value)])
}

/// The instances of one directory.
///
/// # Errors
/// None today: an entry that cannot be read is logged and left out.
pub fn decode(_: &Nothing, entries: &[Entry]) -> Result<Vec<Instance>, PluginError> {
    Ok(read_entries(entries, read))
}

fn read(entry: &Entry) -> Result<Instance, String> {
    let (service, id) = split_key(&entry.key, PREFIX)?;
    let value: Value = serde_json::from_str(&entry.value).map_err(|error| error.to_string())?;
    Ok(Instance {
        service: service.to_owned(),
        id: id.to_owned(),
        address: value.address.into_owned(),
        port: value.port,
        transport: value.transport,
        readiness: value.readiness,
        weight: value.weight,
        attributes: value.attributes.into_owned(),
    })
}

waypost_plugin_sdk::layout!(Json, prefixes, encode, decode);
