//! `/announce` and `/services` as in Des Drury's article: where `ANNOUNCE_PATH` says, a description in JSON.

use serde::{Deserialize, Serialize};
use waypost_plugin_sdk::attributes::{get, sorted};
use waypost_plugin_sdk::layout::{checked_id, read_entries, registration, split_key};
use waypost_plugin_sdk::settings::Nothing;
use waypost_plugin_sdk::{
    Entry, Instance, Node, Plugin, PluginError, Readiness, Registration, Transport, check, refuse, show,
};

#[cfg(test)]
mod tests;

const ANNOUNCE: &str = "/announce/";
const SERVICES: &str = "/services/";

/// The plugin `services`.
pub struct Services;

impl Plugin for Services {
    type Settings = Nothing;
    const NAME: &'static str = "services";
    const SUMMARY: &'static str = "Keeps announced services under /announce and /services, as in Drury's article.";
    const SCHEMA: &'static str = "";
}

/// A value, with its fields in the order of the article; those of the path stand in it for people, the path decides.
#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Value<'a> {
    id: &'a str,
    app: &'a str,
    env: &'a str,
    service: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ext_port: Option<&'a str>,
    r#type: &'a str,
}

/// What is read of a value below `/services`.
#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Endpoint {
    ip: String,
    ext_port: String,
    r#type: String,
}

/// Where this layout's keys are.
pub fn prefixes(_: &Nothing) -> Vec<String> {
    vec![ANNOUNCE.to_owned(), SERVICES.to_owned()]
}

/// Two entries for an instance that has an `announce-path`; nothing for the others, for a draining one, or for one that
/// is not TCP.
///
/// # Errors
/// `invalid-input` when the path has not five segments or the id holds a `/`.
pub fn encode(_: &Nothing, _: &Node, instance: &Instance) -> Result<Vec<Registration>, PluginError> {
    let Some(path) = get(&instance.attributes, "announce-path") else { return Ok(Vec::new()) };
    if instance.readiness != Readiness::Ready || instance.transport != Transport::Tcp {
        return Ok(Vec::new());
    }
    let id = checked_id(instance)?;
    let ext_port = instance.port.to_string();
    let Some([domain, app, env, service, name]) = path.strip_prefix('/').and_then(segments) else {
        return refuse(format!("announce-path is {}, expected /<domain>/<APP>/<ENV>/<SERVICE>/<NAME>", show(path)));
    };
    let is_http = get(&instance.attributes, "protocol") == Some("http");
    let r#type = if is_http { "HTTP" } else { "TCP" };
    let announced = Value {
        id,
        app,
        env,
        service,
        name,
        port: Some(get(&instance.attributes, "container-port").unwrap_or(&ext_port)),
        ip: None,
        ext_port: None,
        r#type,
    };
    let registered = Value { port: None, ip: Some(&instance.address), ext_port: Some(&ext_port), ..announced };
    let place = format!("{domain}/{app}/{env}/{service}/{name}/{id}");
    Ok(vec![
        registration(format!("{ANNOUNCE}{place}"), text(&announced)?),
        registration(format!("{SERVICES}{place}"), text(&registered)?),
    ])
}

fn text(value: &Value) -> Result<String, PluginError> {
    serde_json::to_string(value).map_err(|error| PluginError::Other(error.to_string()))
}

/// The instances of one directory below `/services`; an announcement is no instance yet.
///
/// # Errors
/// None today: an entry that cannot be read is logged and left out.
pub fn decode(_: &Nothing, entries: &[Entry]) -> Result<Vec<Instance>, PluginError> {
    Ok(read_entries(entries.iter().filter(|entry| !entry.key.starts_with(ANNOUNCE)), read))
}

fn read(entry: &Entry) -> Result<Instance, String> {
    let expected = || format!("expected a key {SERVICES}<domain>/<APP>/<ENV>/<SERVICE>/<NAME>/<ID>");
    let (path, id) = split_key(&entry.key, SERVICES).map_err(|_| expected())?;
    let mut names = segments(path).ok_or_else(expected)?;
    let value: Endpoint = serde_json::from_str(&entry.value).map_err(|error| error.to_string())?;
    let Some(port) = check::parse_port(&value.ext_port) else {
        return Err(format!("EXT_PORT is {}, expected a port number from 1 to 65535", show(&value.ext_port)));
    };
    if !check::is_host(&value.ip) {
        return Err(format!("IP is {}, expected an address", show(&value.ip)));
    }
    names.reverse();
    let service = names.join(".").to_ascii_lowercase();
    let path = format!("/{path}");
    let attributes = match value.r#type.as_str() {
        "HTTP" => sorted([("announce-path", path.as_str()), ("domain", &service), ("protocol", "http")]),
        "TCP" => sorted([("announce-path", path.as_str()), ("protocol", "tcp")]),
        other => return Err(format!("TYPE is {}, expected HTTP or TCP", show(other))),
    };
    Ok(Instance {
        service,
        id: id.to_owned(),
        address: value.ip,
        port,
        transport: Transport::Tcp,
        readiness: Readiness::Ready,
        weight: None,
        attributes,
    })
}

/// Exactly five segments, none of them empty.
fn segments(path: &str) -> Option<[&str; 5]> {
    let segments: [&str; 5] = path.split('/').collect::<Vec<_>>().try_into().ok()?;
    segments.iter().all(|segment| check::is_segment(segment)).then_some(segments)
}

waypost_plugin_sdk::layout!(Services, prefixes, encode, decode);
