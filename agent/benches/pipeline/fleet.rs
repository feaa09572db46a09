//! A registry full of instances, and one change in it.

use std::sync::Arc;

use waypost::model::{Attributes, Container, Entries, Health, Instance, Node, Port, Readiness, Stored, Transport};
use waypost_plugin_sdk::sample;
use waypost_plugin_sdk::settings::Nothing;

use crate::native;

/// Entries in the layout `json`, and what is changed in them.
pub(crate) struct Fleet {
    pub(crate) instances: usize,
    pub(crate) services: usize,
    pub(crate) entries: Entries,
    /// The key that [`Fleet::change`] writes, and its two values.
    key: Arc<str>,
    values: [Stored; 2],
}

impl Fleet {
    /// `instances` spread evenly over `services`.
    pub(crate) fn new(instances: usize, services: usize) -> Self {
        let entries = (0..instances).map(|number| entry(&instance(number, services))).collect();
        // The last service's first instance: a service of the smaller size, wherever the fleet ends.
        let mut changed = instance(services - 1, services);
        let (key, before) = entry(&changed);
        changed.port += 1;
        let values = [before, entry(&changed).1];
        Fleet { instances, services, entries, key, values }
    }

    /// What a registry shows after one instance changed its port; every turn differs from the one before.
    pub(crate) fn change(&mut self, turn: usize) -> &Entries {
        self.entries.insert(Arc::clone(&self.key), self.values[(turn + 1) % 2].clone());
        &self.entries
    }
}

pub(crate) fn node() -> Arc<Node> {
    Arc::new(Node { name: "web-1".into(), address: "10.0.0.1".into(), attributes: Attributes::new() })
}

/// An http instance with all attributes that the shipped groupings set.
pub(crate) fn instance(number: usize, services: usize) -> Instance {
    let service = format!("service-{:05}", number % services);
    let (host, id) = (number / 20, format!("{:012x}", number * 2_654_435_761));
    let attributes = [
        ("container", format!("{service}.{number}")),
        ("container-port", "8000".to_owned()),
        ("domain", format!("{service}.example.com")),
        ("hostname", id.clone()),
        ("image", format!("registry.example.com/team/{service}:1.2.3")),
        ("node", format!("host-{host}")),
        ("protocol", "http".to_owned()),
    ];
    Instance {
        address: format!("10.{}.{}.{}", host >> 16, host >> 8 & 255, host & 255),
        port: u16::try_from(32_768 + number % 20_000).unwrap(),
        transport: Transport::Tcp,
        readiness: Readiness::Ready,
        weight: None,
        attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        service,
        id,
    }
}

/// The key and value that the layout `json` gives an instance.
fn entry(instance: &Instance) -> (Arc<str>, Stored) {
    let entries = waypost_plugin_json::encode(&Nothing {}, &native::node(&node()), &native::instance(instance));
    let entry = entries.unwrap().remove(0);
    (entry.key.into(), Stored { value: entry.value.into(), created: 1 })
}

/// What [`sample::container`] is to the agent.
pub(crate) fn container() -> Arc<Container> {
    let from = sample::container();
    let ports = from.ports.iter().map(|port| Port {
        container_port: port.container_port,
        transport: Transport::Tcp,
        host_address: port.host_address.clone(),
        host_port: port.host_port,
    });
    Arc::new(Container {
        ports: ports.collect(),
        id: from.id,
        name: from.name,
        hostname: from.hostname,
        image: from.image,
        network_mode: from.network_mode,
        labels: from.labels.into_iter().collect(),
        environment: from.environment.into_iter().collect(),
        attachments: Vec::new(),
        health: Health::Unchecked,
        started_at: from.started_at,
        paused: false,
        stopping: false,
    })
}
