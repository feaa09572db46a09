//! Selects the instances of a service that HAProxy can proxy.

use std::collections::BTreeSet;

use waypost_plugin_sdk::proxy::instances::{self, TcpInstances};
use waypost_plugin_sdk::{Instance, Readiness, Service, Transport, attributes};

use crate::route;
use crate::server::Server;
use crate::settings::Settings;

/// Highest weight of a server in HAProxy.
const WEIGHT_LIMIT: u16 = 256;

/// Selects the instances that HAProxy can proxy, and calls `skip` for bad ones. A draining instance decides on the protocol
/// only where all drain. HAProxy proxies neither datagrams nor SCTP.
pub(crate) fn select(settings: &Settings, service: &Service, skip: &mut dyn FnMut(&str, &str)) -> TcpInstances<Server> {
    let is_tcp = |instance: &&Instance| {
        instance.transport == Transport::Tcp && attributes::get(&instance.attributes, "protocol") != Some("udp")
    };
    let mut instances: Vec<&Instance> = instances::present(service).filter(is_tcp).collect();
    instances.sort_by_key(|instance| instance.readiness == Readiness::Draining);
    let mut ids = BTreeSet::new();
    let selected = instances::select(
        instances,
        |instance| route::read(settings, service, instance),
        |instance| match Server::read(instance)? {
            server if ids.insert(&instance.id) => Ok(server),
            _ => Err("an instance before it has the same id".to_owned()),
        },
        skip,
    );
    selected.tcp
}

/// Sorts the servers of the section by id, and removes all of them when the service is gone. Scales the weights in
/// proportion when one exceeds HAProxy's limit; no positive weight becomes 0.
pub(crate) fn settle(service: &Service, servers: &mut Vec<Server>) {
    if instances::is_gone(service) {
        servers.clear();
    }
    servers.sort_by(|a, b| a.id.cmp(&b.id));
    let limit = u32::from(WEIGHT_LIMIT);
    let largest = servers.iter().filter_map(|server| server.weight).max().map_or(0, u32::from);
    if largest <= limit {
        return;
    }
    for weight in servers.iter_mut().filter_map(|server| server.weight.as_mut()) {
        let scaled = (u32::from(*weight) * limit + largest / 2) / largest;
        *weight = u16::try_from(scaled.max(u32::from(*weight > 0))).unwrap_or(WEIGHT_LIMIT);
    }
}
