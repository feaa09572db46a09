//! Which instances of a service HAProxy can carry, and as what.

use std::collections::BTreeSet;

use waypost_plugin_sdk::{Instance, Readiness, Service, Transport, attributes, show};

use crate::http::{self, Route};
use crate::names;
use crate::names::Endpoint;
use crate::settings::Settings;

/// Highest weight of a server in HAProxy.
const WEIGHT_LIMIT: u16 = 256;

/// The instances that speak the protocol of their service.
pub(crate) enum Members {
    /// Servers, and the routes each one asks for; none without a domain.
    Http(Vec<(Server, Vec<Route>)>),
    /// Servers, and the port each one names for its consumers.
    Tcp(Vec<(Server, Option<u16>)>),
    /// Nothing for HAProxy.
    None,
}

/// What an instance is to HAProxy.
enum Facts {
    Http(Vec<Route>),
    Tcp(Option<u16>),
}

/// An instance as a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// The instance's id, which is the server's name as well.
    pub(crate) id: String,
    /// Where it listens.
    pub(crate) endpoint: Endpoint,
    /// Its share; HAProxy's own when absent.
    pub(crate) weight: Option<u16>,
}

impl Server {
    /// Its line in a section.
    pub(crate) fn line(&self, settings: &Settings) -> String {
        let weight = self.weight.map(|weight| format!(" weight {weight}")).unwrap_or_default();
        // A name that nobody knows takes its server down instead of making the whole file invalid.
        let lookup = match (self.endpoint.is_name, &settings.resolvers) {
            // Who follows a name need not stop at the start until the system has found it.
            (true, Some(resolvers)) => format!(" resolvers {} init-addr last,none", resolvers.0),
            (true, None) => " init-addr last,libc,none".to_owned(),
            (false, _) => String::new(),
        };
        format!("    server {} {}{}{weight}{lookup}\n", self.id, self.endpoint, check(settings))
    }
}

/// How HAProxy checks a server, with a blank before it; empty when it does not.
pub(crate) fn check(settings: &Settings) -> String {
    let Settings { check, check_interval, check_rise, check_fall, .. } = settings;
    if *check {
        format!(" check inter {} rise {check_rise} fall {check_fall}", check_interval.0)
    } else {
        String::new()
    }
}

/// Leaves out what HAProxy cannot carry, and names it to `leave_out`. The first good instance by id says what the
/// service speaks, so that one that differs changes nothing for the others unless it comes first; one that drains
/// says so only where all do. Instances that are gone count when there is no other.
pub(crate) fn select(settings: &Settings, service: &Service, leave_out: &mut dyn FnMut(&str, &str)) -> Members {
    let mut members = Members::None;
    let mut ids = BTreeSet::new();
    let mut instances: Vec<&Instance> = service.instances.iter().collect();
    if !is_gone(service) {
        instances.retain(|instance| instance.readiness != Readiness::Gone);
    }
    instances.sort_by_key(|instance| instance.readiness == Readiness::Draining);
    for instance in instances {
        let (server, facts) = match read(settings, service, instance) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(reason) => {
                leave_out(&instance.id, &reason);
                continue;
            }
        };
        if !ids.insert(&instance.id) {
            leave_out(&instance.id, "an instance before it has the same id");
            continue;
        }
        match (&mut members, facts) {
            (Members::None, Facts::Http(routes)) => members = Members::Http(vec![(server, routes)]),
            (Members::None, Facts::Tcp(port)) => members = Members::Tcp(vec![(server, port)]),
            (Members::Http(servers), Facts::Http(routes)) => servers.push((server, routes)),
            (Members::Tcp(servers), Facts::Tcp(port)) => servers.push((server, port)),
            (Members::Http(_), Facts::Tcp(_)) => {
                leave_out(&instance.id, "its protocol is tcp, the service's first instance speaks http");
            }
            (Members::Tcp(_), Facts::Http(_)) => {
                leave_out(&instance.id, "its protocol is http, the service's first instance speaks tcp");
            }
        }
    }
    members
}

/// Whether all that is left of it is what leads to it.
fn is_gone(service: &Service) -> bool {
    service.instances.iter().all(|instance| instance.readiness == Readiness::Gone)
}

/// The servers that stand in the section, by id: those of a service that is gone leave it without any. Weights keep their
/// proportions when one is above what HAProxy takes, and none that is positive becomes 0.
pub(crate) fn settle(service: &Service, servers: &mut Vec<Server>) {
    if is_gone(service) {
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

/// None when it is not HAProxy's: it proxies neither datagrams nor SCTP.
fn read(settings: &Settings, service: &Service, instance: &Instance) -> Result<Option<(Server, Facts)>, String> {
    if instance.transport != Transport::Tcp {
        return Ok(None);
    }
    let facts = match attributes::get(&instance.attributes, "protocol") {
        Some("http") => Facts::Http(http::routes(settings, service, instance)?),
        Some("tcp") | None => Facts::Tcp(attributes::listen_port(instance)?),
        Some("udp") => return Ok(None),
        Some(other) => return Err(format!("its protocol is {}, expected http, tcp or udp", show(other))),
    };
    Ok(Some((server(instance)?, facts)))
}

/// `weight 0` keeps what is open and takes nothing new.
fn server(instance: &Instance) -> Result<Server, String> {
    let id = names::server(&instance.id)?.to_owned();
    let endpoint = names::endpoint(&instance.address, instance.port)?;
    let weight = match instance.readiness {
        Readiness::Draining | Readiness::Gone => Some(0),
        Readiness::Ready => instance.weight,
    };
    Ok(Server { id, endpoint, weight })
}
