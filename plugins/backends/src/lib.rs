//! The keys of docker-register: `/backends/<service>/<id>` is an address, `/backends/<service>/port` where consumers connect.

use waypost_plugin_sdk::attributes::get;
use waypost_plugin_sdk::layout::{
    authority, checked_id, parse_authority, read_entries, registration, split_key, warn_skipped,
};
use waypost_plugin_sdk::settings::Nothing;
use waypost_plugin_sdk::{
    Entry, Instance, LeaseKind, Node, Plugin, PluginError, Readiness, Registration, Transport, check, refuse, show,
};

#[cfg(test)]
mod tests;

const PREFIX: &str = "/backends/";
/// Last segment of the key that all instances of a service share.
const PORT: &str = "port";

/// The plugin `backends`.
pub struct Backends;

impl Plugin for Backends {
    type Settings = Nothing;
    const NAME: &'static str = "backends";
    const SUMMARY: &'static str = "Keeps addresses under /backends/<service>/<id>, as docker-register does.";
    const SCHEMA: &'static str = "";
}

/// Where this layout's keys are.
pub fn prefixes(_: &Nothing) -> Vec<String> {
    vec![PREFIX.to_owned()]
}

/// The address of the instance and the port of its service; nothing for a draining instance or one that is not TCP,
/// since these keys cannot say so.
///
/// # Errors
/// `invalid-input` when the id holds a `/` or is `port`.
pub fn encode(_: &Nothing, _: &Node, instance: &Instance) -> Result<Vec<Registration>, PluginError> {
    if instance.readiness != Readiness::Ready || instance.transport != Transport::Tcp {
        return Ok(Vec::new());
    }
    let id = checked_id(instance)?;
    if id == PORT {
        return refuse(format!(
            "the id of an instance of {} is `port`, which this layout uses itself",
            instance.service
        ));
    }
    let directory = format!("{PREFIX}{}/", instance.service);
    let mut entries = vec![registration(format!("{directory}{id}"), authority(&instance.address, instance.port))];
    let port = get(&instance.attributes, "listen-port").or_else(|| get(&instance.attributes, "container-port"));
    if let Some(port) = port {
        entries.push(Registration { key: directory + PORT, value: port.to_owned(), lease: LeaseKind::Shared });
    }
    Ok(entries)
}

/// The instances of one directory, with the service's `listen-port` when it is there.
///
/// # Errors
/// None today: an entry that cannot be read is logged and left out.
pub fn decode(_: &Nothing, entries: &[Entry]) -> Result<Vec<Instance>, PluginError> {
    let is_port = |entry: &&Entry| entry.key.rsplit('/').next() == Some(PORT);
    let listen_port = entries.iter().find(is_port).and_then(listen_port);
    Ok(read_entries(entries.iter().filter(|entry| !is_port(entry)), |entry| read(entry, listen_port)))
}

fn listen_port(entry: &Entry) -> Option<u16> {
    let port = check::parse_port(entry.value.trim());
    if port.is_none() {
        warn_skipped(entry, &format!("the value is {}, expected a port number from 1 to 65535", show(&entry.value)));
    }
    port
}

fn read(entry: &Entry, listen_port: Option<u16>) -> Result<Instance, String> {
    let (service, id) = split_key(&entry.key, PREFIX)?;
    let (address, port) = parse_authority(&entry.value)?;
    let listen_port = listen_port.map(|port| ("listen-port".to_owned(), port.to_string()));
    Ok(Instance {
        service: service.to_owned(),
        id: id.to_owned(),
        address,
        port,
        transport: Transport::Tcp,
        readiness: Readiness::Ready,
        weight: None,
        attributes: listen_port.into_iter().collect(),
    })
}

waypost_plugin_sdk::layout!(Backends, prefixes, encode, decode);
