//! Values to start from in tests and benchmarks; no plugin contains them.

use crate::{
    Attachment, Container, Entry, Health, Instance, Node, Port, Readiness, Registration, Service, Transport, attributes,
};

#[cfg(feature = "proptest")]
pub mod arbitrary;

/// The host `web-1` at 10.0.0.1.
pub fn node() -> Node {
    Node { name: "web-1".to_owned(), address: "10.0.0.1".to_owned(), attributes: Vec::new() }
}

/// What a registry has after these registrations.
pub fn entries(registrations: Vec<Registration>) -> Vec<Entry> {
    registrations.into_iter().map(|one| Entry { key: one.key, value: one.value }).collect()
}

/// A container of `jwilder/whoami:latest` that publishes its port 8000 on 49153, on IPv4 and IPv6.
pub fn container() -> Container {
    Container {
        id: "736ab83847bb12dddd8b09969433f3a02d64d5b0be48f7a5c59a594e3a6a3541".to_owned(),
        name: "whoami-1".to_owned(),
        hostname: "736ab83847bb".to_owned(),
        image: "jwilder/whoami:latest".to_owned(),
        network_mode: "bridge".to_owned(),
        labels: Vec::new(),
        environment: Vec::new(),
        ports: vec![
            port(8000, Transport::Tcp, Some(("0.0.0.0", 49153))),
            port(8000, Transport::Tcp, Some(("::", 49153))),
        ],
        attachments: vec![Attachment { network: "bridge".to_owned(), addresses: vec!["172.17.0.2".to_owned()] }],
        health: Health::Unchecked,
        started_at: 0,
        attributes: Vec::new(),
    }
}

/// A port, and where it is published.
pub fn port(container_port: u16, transport: Transport, published: Option<(&str, u16)>) -> Port {
    Port {
        container_port,
        transport,
        host_address: published.map(|(address, _)| address.to_owned()),
        host_port: published.map(|(_, port)| port),
    }
}

/// What the grouping `image` makes of [`container`].
pub fn instance() -> Instance {
    let container = container();
    Instance {
        service: "whoami".to_owned(),
        id: "736ab83847bb".to_owned(),
        address: "10.0.0.1".to_owned(),
        port: 49153,
        transport: Transport::Tcp,
        readiness: Readiness::Ready,
        weight: None,
        attributes: attributes::sorted([
            ("container", container.name.as_str()),
            ("container-port", "8000"),
            ("hostname", &container.hostname),
            ("image", &container.image),
            ("listen-port", "8000"),
            ("node", "web-1"),
            ("protocol", "tcp"),
        ]),
    }
}

/// A ready instance on TCP, for a [`service`].
pub fn instance_at(id: &str, address: &str, port: u16, attributes: &[(&str, &str)]) -> Instance {
    Instance {
        service: String::new(),
        id: id.to_owned(),
        address: address.to_owned(),
        port,
        transport: Transport::Tcp,
        readiness: Readiness::Ready,
        weight: None,
        attributes: attributes::sorted(attributes.iter().copied()),
    }
}

/// A service with these instances, to which nothing is denied.
pub fn service(name: &str, instances: &[Instance]) -> Service {
    let mut instances = instances.to_vec();
    for instance in &mut instances {
        name.clone_into(&mut instance.service);
    }
    Service { name: name.to_owned(), instances, denied: Vec::new() }
}
