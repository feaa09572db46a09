//! Our values to the guest's and back. Arguments borrow, so that a call copies each string once.

use std::sync::Arc;

use super::bindings::exports::waypost::plugin::{grouping, layout, live, output};
use super::bindings::waypost::plugin::types as wit;
use crate::model::{
    Attributes, Change, Claim, Container, Entry, Fragment, Health, Instance, LeaseKind, LivePlan, Node, Readiness,
    Rendering, Role, Service, Transport,
};

pub(super) type Pairs<'a> = Vec<(&'a str, &'a str)>;

pub(super) fn pairs(attributes: &Attributes) -> Pairs<'_> {
    attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

pub(super) fn node<'a>(node: &'a Node, attributes: &'a Pairs<'a>) -> wit::Node<'a> {
    wit::Node { name: &node.name, address: &node.address, attributes }
}

fn transport(transport: Transport) -> wit::Transport {
    match transport {
        Transport::Tcp => wit::Transport::Tcp,
        Transport::Udp => wit::Transport::Udp,
        Transport::Sctp => wit::Transport::Sctp,
    }
}

pub(super) fn instance<'a>(instance: &'a Instance, attributes: &'a Pairs<'a>) -> wit::InstanceParam<'a> {
    wit::InstanceParam {
        service: &instance.service,
        id: &instance.id,
        address: &instance.address,
        port: instance.port,
        transport: transport(instance.transport),
        readiness: match instance.readiness {
            Readiness::Ready => wit::Readiness::Ready,
            Readiness::Draining => wit::Readiness::Draining,
            Readiness::Gone => wit::Readiness::Gone,
        },
        weight: instance.weight,
        attributes,
    }
}

/// The attributes of a service's instances, to be borrowed by [`instances`].
pub(super) fn service_pairs(service: &Service) -> Vec<Pairs<'_>> {
    service.instances.iter().map(|instance| pairs(&instance.attributes)).collect()
}

pub(super) fn instances<'a>(
    instances: &'a [Arc<Instance>],
    attributes: &'a [Pairs<'a>],
) -> Vec<wit::InstanceParam<'a>> {
    instances.iter().zip(attributes).map(|(one, attributes)| instance(one, attributes)).collect()
}

/// The claims that a service is denied, to be borrowed by [`service`].
pub(super) fn denied(service: &Service) -> Vec<&str> {
    service.denied.iter().map(|claim| &**claim).collect()
}

pub(super) fn service<'a>(
    service: &'a Service,
    instances: &'a [wit::InstanceParam<'a>],
    denied: &'a [&'a str],
) -> wit::Service<'a> {
    wit::Service { name: &service.name, instances, denied }
}

/// Both sides of changes, in order: attributes of the instances, to be borrowed by [`changes`].
pub(super) fn sides(changes: &[Change]) -> Vec<Vec<Pairs<'_>>> {
    both(changes).map(|side| side.map(|service| service_pairs(service)).unwrap_or_default()).collect()
}

/// The claims that both sides of changes are denied, in order, to be borrowed by [`borrowed`].
pub(super) fn denied_sides(changes: &[Change]) -> Vec<Vec<&str>> {
    both(changes).map(|side| side.map(|service| denied(service)).unwrap_or_default()).collect()
}

/// Instances of both sides of changes, in order, to be borrowed by [`borrowed`].
pub(super) fn changes<'a>(changes: &'a [Change], sides: &'a [Vec<Pairs<'a>>]) -> Vec<Vec<wit::InstanceParam<'a>>> {
    let sides = both(changes).zip(sides);
    sides.map(|(side, pairs)| side.map(|found| instances(&found.instances, pairs)).unwrap_or_default()).collect()
}

pub(super) fn borrowed<'a>(
    changes: &'a [Change],
    instances: &'a [Vec<wit::InstanceParam<'a>>],
    denied: &'a [Vec<&'a str>],
) -> Vec<live::Change<'a>> {
    let mut records = both(changes)
        .zip(instances.iter().zip(denied))
        .map(|(side, (instances, denied))| side.map(|found| service(found, instances, denied)));
    let mut next = || records.next().flatten();
    changes.iter().map(|_| live::Change { before: next(), after: next() }).collect()
}

fn both(changes: &[Change]) -> impl Iterator<Item = Option<&Arc<Service>>> {
    changes.iter().flat_map(|change| [change.before.as_ref(), change.after.as_ref()])
}

pub(super) fn live_plan_back(plan: live::LivePlan) -> LivePlan {
    match plan {
        live::LivePlan::Commands(commands) => LivePlan::Commands { commands, reload_soon: false },
        live::LivePlan::CommandsAndReload(commands) => LivePlan::Commands { commands, reload_soon: true },
        live::LivePlan::Reload => LivePlan::Reload,
    }
}

pub(super) fn entry<'a>(key: &'a str, value: &'a str) -> layout::Entry<'a> {
    layout::Entry { key, value }
}

/// Everything of a container that its record borrows.
pub(super) struct ContainerParts<'a> {
    labels: Pairs<'a>,
    environment: Pairs<'a>,
    ports: Vec<wit::Port<'a>>,
    addresses: Vec<Vec<&'a str>>,
}

/// `declared` are the variables the plugin asked for; it is shown no others.
pub(super) fn container_parts<'a>(container: &'a Container, declared: &[String]) -> ContainerParts<'a> {
    let asked = |name: &str| {
        declared.iter().any(|want| match want.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == want,
        })
    };
    ContainerParts {
        labels: pairs(&container.labels),
        environment: pairs(&container.environment).into_iter().filter(|(name, _)| asked(name)).collect(),
        ports: container
            .ports
            .iter()
            .map(|port| wit::Port {
                container_port: port.container_port,
                transport: transport(port.transport),
                host_address: port.host_address.as_deref(),
                host_port: port.host_port,
            })
            .collect(),
        addresses: container.attachments.iter().map(|net| net.addresses.iter().map(String::as_str).collect()).collect(),
    }
}

impl<'a> ContainerParts<'a> {
    pub(super) fn attachments(&'a self, container: &'a Container) -> Vec<wit::Attachment<'a>> {
        let networks = container.attachments.iter().zip(&self.addresses);
        networks.map(|(net, addresses)| wit::Attachment { network: &net.network, addresses }).collect()
    }

    pub(super) fn record(
        &'a self,
        container: &'a Container,
        attachments: &'a [wit::Attachment<'a>],
    ) -> wit::Container<'a> {
        wit::Container {
            id: &container.id,
            name: &container.name,
            hostname: &container.hostname,
            image: &container.image,
            network_mode: &container.network_mode,
            labels: &self.labels,
            environment: &self.environment,
            ports: &self.ports,
            attachments,
            health: match container.health {
                Health::Unchecked => wit::Health::Unchecked,
                Health::Starting => wit::Health::Starting,
                Health::Healthy => wit::Health::Healthy,
                Health::Unhealthy => wit::Health::Unhealthy,
            },
            started_at: container.started_at,
            attributes: &[],
        }
    }
}

pub(super) fn instance_back(from: wit::InstanceResult) -> Instance {
    Instance {
        service: from.service,
        id: from.id,
        address: from.address,
        port: from.port,
        transport: match from.transport {
            wit::Transport::Tcp => Transport::Tcp,
            wit::Transport::Udp => Transport::Udp,
            wit::Transport::Sctp => Transport::Sctp,
        },
        readiness: match from.readiness {
            wit::Readiness::Ready => Readiness::Ready,
            wit::Readiness::Draining => Readiness::Draining,
            wit::Readiness::Gone => Readiness::Gone,
        },
        weight: from.weight,
        attributes: from.attributes.into_iter().collect(),
    }
}

pub(super) fn role_back(from: grouping::Role) -> Role {
    Role { provides: from.provides.into_iter().map(instance_back).collect(), consumes: from.consumes }
}

pub(super) fn registration_back(from: layout::Registration) -> Entry {
    let lease = match from.lease {
        layout::LeaseKind::Host => LeaseKind::Host,
        layout::LeaseKind::Shared => LeaseKind::Shared,
    };
    Entry { key: from.key, value: from.value, lease }
}

pub(super) fn rendering_back(from: output::Rendering) -> Rendering {
    let mut claims: Vec<Claim> = from.claims.into_iter().map(Claim::from).collect();
    claims.sort();
    claims.dedup();
    Rendering { fragments: from.fragments.into_iter().map(fragment_back).collect(), claims }
}

pub(super) fn fragment_back(from: output::Fragment) -> Fragment {
    Fragment { path: from.path, key: from.key, text: from.text }
}

pub(super) fn refusal(error: wit::PluginError) -> String {
    match error {
        wit::PluginError::InvalidSettings(text) => format!("invalid settings: {text}"),
        wit::PluginError::InvalidInput(text) | wit::PluginError::Other(text) => text,
    }
}
