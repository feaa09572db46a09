//! Which instances of a service nginx can carry, and as what.

use waypost_plugin_sdk::{Instance, Readiness, Service, Transport, attributes, show};

use crate::http::{self, Route};
use crate::settings::Settings;
use crate::{leave_out, names};

/// The instances of a service, by what they speak.
pub(crate) struct Members {
    /// Those that are reached by TCP.
    pub(crate) tcp: Tcp,
    /// Those that are reached by UDP, and the port each one names for its consumers.
    pub(crate) udp: Vec<(Server, Option<u16>)>,
}

/// The instances that speak the protocol of their service.
pub(crate) enum Tcp {
    /// Servers, and the routes each one asks for; none without a domain.
    Http(Vec<(Server, Vec<Route>)>),
    /// Servers, and the port each one names for its consumers.
    Plain(Vec<(Server, Option<u16>)>),
    /// Nothing by TCP.
    None,
}

/// What an instance is to nginx.
enum Facts {
    Http(Vec<Route>),
    Tcp(Option<u16>),
    Udp(Option<u16>),
}

/// A line of an upstream.
pub(crate) struct Server {
    /// The instance's id, for messages.
    pub(crate) id: String,
    /// The line; none of one that has left.
    pub(crate) line: Option<String>,
    /// Whether it takes new requests.
    pub(crate) ready: bool,
}

/// Leaves out what nginx cannot carry. The first good instance by id says whether the service speaks http or tcp, so that
/// one that differs changes nothing for the others unless it comes first. Those that have left count only where nobody is left.
pub(crate) fn select(settings: &Settings, service: &Service) -> Members {
    let mut members = Members { tcp: Tcp::None, udp: Vec::new() };
    let gone = |instance: &&Instance| instance.readiness == Readiness::Gone;
    let nobody = service.instances.iter().all(|instance| gone(&instance));
    for instance in service.instances.iter().filter(|instance| gone(instance) == nobody) {
        let (server, facts) = match read(settings, service, instance) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(reason) => {
                leave_out(service, &instance.id, &reason);
                continue;
            }
        };
        match (&mut members.tcp, facts) {
            (_, Facts::Udp(port)) => members.udp.push((server, port)),
            (Tcp::None, Facts::Http(routes)) => members.tcp = Tcp::Http(vec![(server, routes)]),
            (Tcp::None, Facts::Tcp(port)) => members.tcp = Tcp::Plain(vec![(server, port)]),
            (Tcp::Http(servers), Facts::Http(routes)) => servers.push((server, routes)),
            (Tcp::Plain(servers), Facts::Tcp(port)) => servers.push((server, port)),
            (Tcp::Http(_), Facts::Tcp(_)) => {
                leave_out(service, &instance.id, "its protocol is tcp, the service's first instance speaks http");
            }
            (Tcp::Plain(_), Facts::Http(_)) => {
                leave_out(service, &instance.id, "its protocol is http, the service's first instance speaks tcp");
            }
        }
    }
    members
}

/// None when it is not nginx's: it does not proxy SCTP.
fn read(settings: &Settings, service: &Service, instance: &Instance) -> Result<Option<(Server, Facts)>, String> {
    let facts = match (attributes::get(&instance.attributes, "protocol"), instance.transport) {
        (_, Transport::Sctp) => return Ok(None),
        (Some("http"), Transport::Tcp) => Facts::Http(http::routes(service, instance)?),
        (Some("tcp") | None, Transport::Tcp) => Facts::Tcp(attributes::listen_port(instance)?),
        (Some("udp"), _) | (None, Transport::Udp) => Facts::Udp(attributes::listen_port(instance)?),
        (Some(other @ ("http" | "tcp")), Transport::Udp) => {
            return Err(format!("its protocol is {other}, but its port takes udp"));
        }
        (Some(other), _) => return Err(format!("its protocol is {}, expected http, tcp or udp", show(other))),
    };
    Ok(Some((server(settings, instance)?, facts)))
}

/// `down` takes nothing new, and what is open goes on in the workers that had it; nginx takes no weight of 0.
fn server(settings: &Settings, instance: &Instance) -> Result<Server, String> {
    let endpoint = names::endpoint(&instance.address, instance.port, settings.host_names)?;
    let Settings { max_fails, fail_timeout, .. } = settings;
    let ready = instance.readiness == Readiness::Ready && instance.weight != Some(0);
    let state = match instance.weight {
        _ if !ready => " down".to_owned(),
        Some(weight) => format!(" weight={weight}"),
        None => String::new(),
    };
    let comment = names::comment(&instance.id);
    let line =
        format!("    server {endpoint} max_fails={max_fails} fail_timeout={}{state};{comment}\n", fail_timeout.0);
    let line = (instance.readiness != Readiness::Gone).then_some(line);
    Ok(Server { id: instance.id.clone(), line, ready })
}
