//! From a container to instances.

use crate::reach::{Endpoint, transport_name};
use crate::{Container, Instance, Node, Readiness, Transport, attributes};

/// The first twelve digits of the container's id, by which people know it.
pub fn short_id(container: &Container) -> &str {
    container.id.get(..12).unwrap_or(&container.id)
}

/// An instance at `endpoint`, with the attributes that every grouping sets and `own` ones.
pub fn instance(
    node: &Node,
    container: &Container,
    endpoint: Endpoint,
    (service, id): (String, String),
    own: Vec<(&str, String)>,
) -> Instance {
    let common = [
        ("node", node.name.clone()),
        ("container", container.name.clone()),
        ("image", container.image.clone()),
        ("hostname", container.hostname.clone()),
        ("container-port", endpoint.container_port.to_string()),
    ];
    Instance {
        service,
        id,
        address: endpoint.address,
        port: endpoint.port,
        transport: endpoint.transport,
        readiness: Readiness::Ready,
        weight: None,
        attributes: attributes::sorted(common.into_iter().chain(own)),
    }
}

/// The `protocol` and `listen-port` of a port about which nothing more is known; SCTP has no protocol.
pub fn plain_attributes(endpoint: &Endpoint) -> Vec<(&'static str, String)> {
    let mut plain = vec![("listen-port", endpoint.container_port.to_string())];
    if endpoint.transport != Transport::Sctp {
        plain.push(("protocol", transport_name(endpoint.transport).to_owned()));
    }
    plain
}
