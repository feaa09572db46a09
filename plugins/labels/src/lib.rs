//! Containers say in labels what they offer: `waypost.service` and its companions.

mod read;

use std::collections::{BTreeMap, BTreeSet};

use read::{Labels, Protocol, Values};
use waypost_plugin_sdk::attributes::get;
use waypost_plugin_sdk::grouping::{instance, short_id};
use waypost_plugin_sdk::reach::{Endpoint, Reach};
use waypost_plugin_sdk::{Container, Instance, Node, Plugin, PluginError, Role, Transport, refuse};

#[cfg(test)]
mod tests;

/// The plugin `labels`.
pub struct FromLabels;

impl Plugin for FromLabels {
    type Settings = Reach;
    const NAME: &'static str = "labels";
    const SUMMARY: &'static str = "Groups containers by their labels waypost.service, waypost.port and others.";
    const SCHEMA: &'static str = Reach::SCHEMA;
}

/// The instances that the labels ask for.
///
/// # Errors
/// `invalid-input`, naming the label, what was found and what is expected.
pub fn group(reach: &Reach, node: &Node, container: &Container) -> Result<Role, PluginError> {
    if ignored(container) {
        return Ok(Role::default());
    }
    let labels = Labels::read(&container.labels)?;
    if labels.is_silent() {
        return Ok(Role::default());
    }
    let endpoints = endpoints(&labels, reach, node, container)?;
    let services = services(&labels, &endpoints)?;
    let mut sizes: BTreeMap<&String, usize> = BTreeMap::new();
    for service in &services {
        *sizes.entry(service).or_default() += 1;
    }
    let mut instances = Vec::new();
    for (endpoint, service) in endpoints.into_iter().zip(&services) {
        let short = short_id(container);
        let id = if sizes[service] == 1 { short.to_owned() } else { format!("{short}-{}", endpoint.label()) };
        let values = labels.of(endpoint.container_port);
        let weight = values.weight;
        let own = attributes(values, &endpoint);
        let offer = instance(node, container, endpoint, (service.clone(), id), own);
        instances.push(Instance { weight, ..offer });
    }
    Ok(Role { provides: instances, consumes: Vec::new() })
}

/// Whether `waypost.ignore` has any value but `false`, `0` and nothing.
fn ignored(container: &Container) -> bool {
    let value = get(&container.labels, "waypost.ignore").unwrap_or_default().trim();
    !matches!(value.to_ascii_lowercase().as_str(), "" | "0" | "false")
}

/// The ports that count: those that labels name, and all of them when a service is named but no port for it.
fn endpoints(labels: &Labels, reach: &Reach, node: &Node, container: &Container) -> Result<Vec<Endpoint>, PluginError> {
    let reachable = reach.endpoints(node, container)?;
    let mut ports: BTreeSet<u16> = labels.ports.keys().copied().chain(labels.port).collect();
    if labels.port.is_none() && labels.common.service.is_some() {
        ports.extend(reachable.iter().map(|endpoint| endpoint.container_port));
    }
    let mut endpoints = Vec::new();
    for port in ports {
        let transport = labels.of(port).protocol.map(Protocol::transport);
        let meant = |e: &&Endpoint| e.container_port == port && transport.is_none_or(|wanted| e.transport == wanted);
        let before = endpoints.len();
        endpoints.extend(reachable.iter().filter(meant).cloned());
        if endpoints.len() == before {
            let endpoint = reach.endpoint(node, container, port, transport.unwrap_or(Transport::Tcp));
            endpoints.push(endpoint.or_else(|why| refuse(format!("its waypost labels name a port, but {why}")))?);
        }
    }
    if endpoints.is_empty() {
        return refuse("it has waypost labels but publishes no port; publish one, or name it in label waypost.port");
    }
    Ok(endpoints)
}

/// The service of each endpoint; ports without a service of their own share the common name, told apart when several.
fn services(labels: &Labels, endpoints: &[Endpoint]) -> Result<Vec<String>, PluginError> {
    let own =
        |endpoint: &Endpoint| labels.ports.get(&endpoint.container_port).and_then(|values| values.service.as_ref());
    let alone = endpoints.iter().filter(|endpoint| own(endpoint).is_none()).count() == 1;
    let service = |endpoint: &Endpoint| match (own(endpoint), &labels.common.service) {
        (Some(name), _) => Ok(name.clone()),
        (None, Some(name)) if alone => Ok(name.clone()),
        (None, Some(name)) => Ok(format!("{name}-{}", endpoint.label())),
        (None, None) => {
            let port = endpoint.container_port;
            refuse(format!("label waypost.service or waypost.{port}.service is missing, expected a service name"))
        }
    };
    endpoints.iter().map(service).collect()
}

fn attributes(values: Values, endpoint: &Endpoint) -> Vec<(&'static str, String)> {
    let web = values.domain.is_some() || values.path.is_some();
    let protocol = values.protocol.or(match endpoint.transport {
        Transport::Tcp if web => Some(Protocol::Http),
        Transport::Tcp => Some(Protocol::Tcp),
        Transport::Udp => Some(Protocol::Udp),
        Transport::Sctp => None,
    });
    let by_default = (protocol != Some(Protocol::Http)).then_some(endpoint.container_port);
    let listen_port = values.listen_port.or(by_default);
    let named = [
        ("protocol", protocol.map(|protocol| protocol.name().to_owned())),
        ("listen-port", listen_port.map(|port| port.to_string())),
        ("domain", values.domain),
        ("path", values.path),
        ("tags", values.tags),
    ];
    named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

waypost_plugin_sdk::grouping!(FromLabels, group);
