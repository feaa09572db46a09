//! Which instances of a service HAProxy can carry, and as what.

use std::collections::BTreeSet;

use waypost_plugin_sdk::{Instance, Readiness, Service, Transport, attributes, show};

use crate::http::{self, Route};
use crate::settings::Settings;
use crate::{leave_out, names, tcp};

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

/// A server line.
pub(crate) struct Server {
    /// The instance's id, for messages.
    pub(crate) id: String,
    /// The line.
    pub(crate) line: String,
}

/// Leaves out what HAProxy cannot carry. The first good instance by id says what the service speaks, so that one
/// that differs changes nothing for the others unless it comes first.
pub(crate) fn select(settings: &Settings, service: &Service) -> Members {
    let mut members = Members::None;
    let mut ids = BTreeSet::new();
    for instance in &service.instances {
        let (server, facts) = match read(settings, service, instance) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(reason) => {
                leave_out(service, &instance.id, &reason);
                continue;
            }
        };
        if !ids.insert(&instance.id) {
            leave_out(service, &instance.id, "an instance before it has the same id");
            continue;
        }
        match (&mut members, facts) {
            (Members::None, Facts::Http(routes)) => members = Members::Http(vec![(server, routes)]),
            (Members::None, Facts::Tcp(port)) => members = Members::Tcp(vec![(server, port)]),
            (Members::Http(servers), Facts::Http(routes)) => servers.push((server, routes)),
            (Members::Tcp(servers), Facts::Tcp(port)) => servers.push((server, port)),
            (Members::Http(_), Facts::Tcp(_)) => {
                leave_out(service, &instance.id, "its protocol is tcp, the service's first instance speaks http");
            }
            (Members::Tcp(_), Facts::Http(_)) => {
                leave_out(service, &instance.id, "its protocol is http, the service's first instance speaks tcp");
            }
        }
    }
    members
}

/// None when it is not HAProxy's: it proxies neither datagrams nor SCTP.
fn read(settings: &Settings, service: &Service, instance: &Instance) -> Result<Option<(Server, Facts)>, String> {
    if instance.transport != Transport::Tcp {
        return Ok(None);
    }
    let facts = match attributes::get(&instance.attributes, "protocol") {
        Some("http") => Facts::Http(http::routes(settings, service, instance)?),
        Some("tcp") | None => Facts::Tcp(tcp::listen_port(instance)?),
        Some("udp") => return Ok(None),
        Some(other) => return Err(format!("its protocol is {}, expected http, tcp or udp", show(other))),
    };
    Ok(Some((server(settings, instance)?, facts)))
}

/// `weight 0` keeps what is open and takes nothing new.
fn server(settings: &Settings, instance: &Instance) -> Result<Server, String> {
    let name = names::server(&instance.id)?;
    let endpoint = names::endpoint(&instance.address, instance.port)?;
    let Settings { check_interval, check_rise, check_fall, .. } = settings;
    let check = if settings.check {
        format!(" check inter {} rise {check_rise} fall {check_fall}", check_interval.0)
    } else {
        String::new()
    };
    let weight = match (instance.readiness, instance.weight) {
        (_, Some(weight)) if weight > WEIGHT_LIMIT => {
            return Err(format!("its weight is {weight}, HAProxy takes 0 to {WEIGHT_LIMIT}"));
        }
        (Readiness::Draining, _) => " weight 0".to_owned(),
        (Readiness::Ready, Some(weight)) => format!(" weight {weight}"),
        (Readiness::Ready, None) => String::new(),
    };
    // A name that nobody knows takes its server down instead of making the whole file invalid.
    let lookup = match (endpoint.is_name, &settings.resolvers) {
        (true, Some(resolvers)) => format!(" resolvers {} init-addr last,libc,none", resolvers.0),
        (true, None) => " init-addr last,libc,none".to_owned(),
        (false, _) => String::new(),
    };
    let line = format!("    server {name} {}{check}{weight}{lookup}\n", endpoint.text);
    Ok(Server { id: instance.id.clone(), line })
}
