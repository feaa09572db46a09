//! Where other hosts reach a port of a container.

use std::net::IpAddr;

use serde::Deserialize;

use crate::{Container, Node, PluginError, Port, Transport, log, refuse, settings};

/// Which address and port of a container are registered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Reach {
    /// Whose address it is.
    pub address: Address,
    /// With [`Address::Container`]: the network whose address counts; the first by name when absent.
    pub network: Option<String>,
}

/// Whose address and port are registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// The host's, where the port is published.
    #[default]
    Published,
    /// The container's own.
    Container,
}

/// The `properties` of [`Reach`] in a JSON Schema.
#[macro_export]
macro_rules! reach_properties {
    () => {
        r#""address":{"enum":["published","container"],"default":"published"},"network":{"type":"string"}"#
    };
}

/// Where one port of a container is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// IP address or host name.
    pub address: String,
    /// Port at that address.
    pub port: u16,
    /// Port inside the container.
    pub container_port: u16,
    /// Transport of both ports.
    pub transport: Transport,
}

impl Endpoint {
    /// Tells the ports of one container apart: `53`, or `53-udp` when it is not TCP.
    pub fn label(&self) -> String {
        match self.transport {
            Transport::Tcp => self.container_port.to_string(),
            other => format!("{}-{}", self.container_port, transport_name(other)),
        }
    }
}

/// `tcp`, `udp` or `sctp`.
pub fn transport_name(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
        Transport::Sctp => "sctp",
    }
}

impl settings::Settings for Reach {
    fn check(&self) -> Result<(), String> {
        if self.network.is_some() && self.address == Address::Published {
            return Err("network: has no meaning without address = \"container\"".to_owned());
        }
        Ok(())
    }
}

impl Reach {
    /// JSON Schema of these settings.
    pub const SCHEMA: &'static str =
        concat!(r#"{"type":"object","properties":{"#, reach_properties!(), r#"},"additionalProperties":false}"#);

    /// All ports that other hosts can reach, sorted; one endpoint each however often a port is published.
    ///
    /// # Errors
    /// `invalid-input` when there are ports but none of them can be reached.
    pub fn endpoints(&self, node: &Node, container: &Container) -> Result<Vec<Endpoint>, PluginError> {
        let counts = |port: &&Port| self.address == Address::Container || port.host_port.is_some();
        let mut ports: Vec<&Port> = container.ports.iter().filter(counts).collect();
        ports.sort_unstable_by_key(|port| key(port));
        let mut reachable = Vec::new();
        let mut unreachable = None;
        for bindings in ports.chunk_by(|a, b| key(a) == key(b)) {
            match self.choose(node, container, key(bindings[0]), bindings) {
                Ok(endpoint) => reachable.push(endpoint),
                Err(why) => {
                    log::debug(&format!("container {}: {why}", container.name));
                    unreachable.get_or_insert(why);
                }
            }
        }
        match unreachable {
            Some(why) if reachable.is_empty() => refuse(why),
            _ => Ok(reachable),
        }
    }

    /// Where one port is reached.
    ///
    /// # Errors
    /// A sentence that says why it cannot be reached and what to do.
    pub fn endpoint(
        &self,
        node: &Node,
        container: &Container,
        port: u16,
        transport: Transport,
    ) -> Result<Endpoint, String> {
        let bindings: Vec<&Port> = container.ports.iter().filter(|binding| key(binding) == (port, transport)).collect();
        self.choose(node, container, (port, transport), &bindings)
    }

    fn choose(
        &self,
        node: &Node,
        container: &Container,
        (container_port, transport): (u16, Transport),
        bindings: &[&Port],
    ) -> Result<Endpoint, String> {
        let (address, port) = if container.network_mode == "host" {
            (node.address.clone(), container_port)
        } else if self.address == Address::Container {
            (self.own_address(container)?, container_port)
        } else {
            published(node, bindings).map_err(|loopback| {
                let port = format!("port {container_port}/{}", transport_name(transport));
                match loopback {
                    Some(address) => format!(
                        "{port} is published on {address} only, which other hosts cannot reach; publish it on an \
                         address of the host"
                    ),
                    None => format!("{port} is not published; published are: {}", list(&published_ports(container))),
                }
            })?
        };
        Ok(Endpoint { address, port, container_port, transport })
    }

    fn own_address(&self, container: &Container) -> Result<String, String> {
        let attached = container.attachments.iter().filter(|attachment| !attachment.addresses.is_empty());
        let attachment = match &self.network {
            Some(name) => attached.clone().find(|attachment| attachment.network == *name),
            None => attached.clone().min_by_key(|attachment| &attachment.network),
        };
        let Some(attachment) = attachment else {
            let names: Vec<&str> = attached.map(|attachment| attachment.network.as_str()).collect();
            let wanted = self.network.as_deref().unwrap_or("any network");
            return Err(format!("it has no address on {wanted}; it has one on: {}", list(&names)));
        };
        let addresses = &attachment.addresses;
        let first_v4 = addresses.iter().find(|address| matches!(address.parse(), Ok(IpAddr::V4(_))));
        Ok(first_v4.unwrap_or(&addresses[0]).clone())
    }
}

fn key(port: &Port) -> (u16, Transport) {
    (port.container_port, port.transport)
}

/// The binding that most hosts can reach: wildcards of the node's own address family first, then single addresses, then
/// other wildcards. The error is the loopback address when there is nothing else, or nothing when nothing is published.
fn published(node: &Node, bindings: &[&Port]) -> Result<(String, u16), Option<String>> {
    let node_ip: Option<IpAddr> = node.address.parse().ok();
    let loopback = |ip: Option<IpAddr>| ip.is_some_and(|ip| ip.is_loopback());
    let v6 = |ip: Option<IpAddr>| ip.is_some_and(|ip| ip.is_ipv6());
    let mut unreachable = None;
    let mut reachable = Vec::new();
    for binding in bindings {
        let Some(port) = binding.host_port else { continue };
        let address = binding.host_address.as_deref().unwrap_or_default();
        let ip: Option<IpAddr> = address.parse().ok();
        let wildcard = address.is_empty() || ip.is_some_and(|ip| ip.is_unspecified());
        if loopback(ip) && !loopback(node_ip) {
            unreachable = Some(address.to_owned());
        } else if !wildcard {
            reachable.push((1, port, address));
        } else if address.is_empty() || v6(ip) == v6(node_ip) {
            reachable.push((0, port, node.address.as_str()));
        } else {
            reachable.push((2, port, node.address.as_str()));
        }
    }
    let best = reachable.into_iter().min().map(|(_, port, address)| (address.to_owned(), port));
    best.ok_or(unreachable)
}

fn published_ports(container: &Container) -> Vec<String> {
    let ports = container.ports.iter().filter(|port| port.host_port.is_some());
    let mut names: Vec<_> = ports.map(|p| format!("{}/{}", p.container_port, transport_name(p.transport))).collect();
    names.dedup();
    names.truncate(10);
    names
}

fn list(names: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
