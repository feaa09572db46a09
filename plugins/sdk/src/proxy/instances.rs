//! Selects the instances of a service that a proxy can serve.

use super::route::Route;
use crate::{Instance, Readiness, Service, Transport, attributes, log, show};

/// The protocol of an instance, and what it asks for.
enum Protocol {
    Http(Vec<Route>),
    Tcp(Option<u16>),
    Udp(Option<u16>),
}

/// The selected instances of a service, each as a server `S` of the proxy's own type.
pub struct Instances<S> {
    /// Instances on TCP.
    pub tcp: TcpInstances<S>,
    /// Instances on UDP, each with the port that it names for its consumers.
    pub udp: Vec<(S, Option<u16>)>,
}

/// The selected instances on TCP, which all speak the protocol of their service.
pub enum TcpInstances<S> {
    /// Servers, each with the routes that it asks for; none without a domain.
    Http(Vec<(S, Vec<Route>)>),
    /// Servers, each with the port that it names for its consumers.
    Plain(Vec<(S, Option<u16>)>),
    /// No instance.
    None,
}

/// Returns whether all instances of a service are gone, so that only its routes and ports remain.
pub fn is_gone(service: &Service) -> bool {
    service.instances.iter().all(|instance| instance.readiness == Readiness::Gone)
}

/// Returns the instances of a service that count: those that are gone count only where no other is left.
pub fn present(service: &Service) -> impl Iterator<Item = &Instance> {
    let is_gone = is_gone(service);
    service.instances.iter().filter(move |instance| (instance.readiness == Readiness::Gone) == is_gone)
}

/// Selects the instances that a proxy can serve. The first valid one decides whether the service speaks http or tcp, so that an
/// instance that differs changes nothing for the others unless it comes first. `routes` reads the routes of an instance that
/// speaks http, `server` builds the server of an instance. `skip` gets the id of each instance that is skipped, and the reason.
pub fn select<'a, S>(
    instances: impl IntoIterator<Item = &'a Instance>,
    routes: impl Fn(&Instance) -> Result<Vec<Route>, String>,
    mut server: impl FnMut(&'a Instance) -> Result<S, String>,
    skip: &mut dyn FnMut(&str, &str),
) -> Instances<S> {
    let mut selected = Instances { tcp: TcpInstances::None, udp: Vec::new() };
    for instance in instances {
        let added = protocol(instance, &routes).and_then(|protocol| match protocol {
            Some(protocol) => selected.add(server(instance)?, protocol),
            None => Ok(()),
        });
        if let Err(reason) = added {
            skip(&instance.id, &reason);
        }
    }
    selected
}

impl<S> Instances<S> {
    fn add(&mut self, server: S, protocol: Protocol) -> Result<(), String> {
        match (&mut self.tcp, protocol) {
            (_, Protocol::Udp(port)) => self.udp.push((server, port)),
            (TcpInstances::None, Protocol::Http(routes)) => self.tcp = TcpInstances::Http(vec![(server, routes)]),
            (TcpInstances::None, Protocol::Tcp(port)) => self.tcp = TcpInstances::Plain(vec![(server, port)]),
            (TcpInstances::Http(servers), Protocol::Http(routes)) => servers.push((server, routes)),
            (TcpInstances::Plain(servers), Protocol::Tcp(port)) => servers.push((server, port)),
            (TcpInstances::Http(_), Protocol::Tcp(_)) => {
                return Err("its protocol is tcp, the service's first instance speaks http".to_owned());
            }
            (TcpInstances::Plain(_), Protocol::Http(_)) => {
                return Err("its protocol is http, the service's first instance speaks tcp".to_owned());
            }
        }
        Ok(())
    }
}

/// Reads the protocol of an instance; `None` for SCTP, which no proxy supports.
fn protocol(
    instance: &Instance,
    routes: impl Fn(&Instance) -> Result<Vec<Route>, String>,
) -> Result<Option<Protocol>, String> {
    let protocol = match (attributes::get(&instance.attributes, "protocol"), instance.transport) {
        (_, Transport::Sctp) => return Ok(None),
        (Some("http"), Transport::Tcp) => Protocol::Http(routes(instance)?),
        (Some("tcp") | None, Transport::Tcp) => Protocol::Tcp(attributes::listen_port(instance)?),
        (Some("udp"), _) | (None, Transport::Udp) => Protocol::Udp(attributes::listen_port(instance)?),
        (Some(other @ ("http" | "tcp")), Transport::Udp) => {
            return Err(format!("its protocol is {other}, but its port takes udp"));
        }
        (Some(other), _) => return Err(format!("its protocol is {}, expected http, tcp or udp", show(other))),
    };
    Ok(Some(protocol))
}

/// Returns the port of a service that speaks `protocol`: the first that one of its servers names.
///
/// # Errors
/// No server names a port.
pub fn listen_port<S>(protocol: &str, servers: &[(S, Option<u16>)]) -> Result<u16, String> {
    servers.iter().find_map(|(_, port)| *port).ok_or_else(|| {
        format!(
            "it speaks {protocol}, but no instance has the attribute listen-port, the port its consumers connect to; for \
             http, the attribute protocol must say so"
        )
    })
}

/// Returns the servers that name `port` or no port. `skip` gets each of the others, and the reason.
pub fn agreed<S>(port: u16, servers: Vec<(S, Option<u16>)>, mut skip: impl FnMut(&S, &str)) -> Vec<S> {
    let mut agreed = Vec::new();
    for (server, other) in servers {
        match other.filter(|other| *other != port) {
            Some(other) => {
                skip(&server, &format!("its listen-port is {other}, the service's first instance says {port}"));
            }
            None => agreed.push(server),
        }
    }
    agreed
}

/// Logs why an instance is skipped.
pub fn warn_skipped(service: &Service, id: &str, reason: &str) {
    log::warn(&format!("service {} instance {} is left out: {reason}", show(&service.name), show(id)));
}
