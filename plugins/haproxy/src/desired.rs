//! Reads the desired state of a service in HAProxy, for the files and for a running process alike.

use waypost_plugin_sdk::proxy::instances::TcpInstances;
use waypost_plugin_sdk::{PluginError, Service, refuse, show};

use crate::http::{self, Http};
use crate::server::Server;
use crate::settings::Settings;
use crate::tcp::{self, Tcp};
use crate::{instances, names};

/// The desired section of a service, and the routes or the port that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Desired {
    /// Name of the section.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Everything that the service asks for and only one service can have, including what it is denied.
    pub(crate) claims: Vec<String>,
}

/// The protocol that the service speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http(Http),
    Tcp(Tcp),
}

impl Desired {
    /// Returns the servers, sorted by id.
    pub(crate) fn servers(&self) -> &[Server] {
        match &self.kind {
            Kind::Http(http) => &http.servers,
            Kind::Tcp(tcp) => &tcp.servers,
        }
    }

    /// Returns the http service, if it is one.
    pub(crate) fn http(&self) -> Option<&Http> {
        match &self.kind {
            Kind::Http(http) => Some(http),
            Kind::Tcp(_) => None,
        }
    }

    /// Returns the tcp service, if it is one.
    pub(crate) fn tcp(&self) -> Option<&Tcp> {
        match &self.kind {
            Kind::Http(_) => None,
            Kind::Tcp(tcp) => Some(tcp),
        }
    }
}

/// Reads the desired state of a service; `None` when no instance speaks http or tcp. Calls `skip` with the id of each bad
/// instance and the reason.
///
/// # Errors
/// `invalid-input` when HAProxy cannot carry the service, or when others have all that it asks for.
pub(crate) fn read(
    settings: &Settings,
    service: &Service,
    skip: &mut dyn FnMut(&str, &str),
) -> Result<Option<Desired>, PluginError> {
    match desired(settings, service, skip) {
        Ok(desired) => Ok(desired),
        Err(reason) => refuse(format!("service {}: {reason}", show(&service.name))),
    }
}

fn desired(
    settings: &Settings,
    service: &Service,
    skip: &mut dyn FnMut(&str, &str),
) -> Result<Option<Desired>, String> {
    let name = || names::proxy(&service.name);
    let (name, mut kind) = match instances::select(settings, service, skip) {
        TcpInstances::Http(servers) => (name()?, Kind::Http(http::read(settings, service, servers)?)),
        TcpInstances::Plain(servers) => (name()?, Kind::Tcp(tcp::read(settings, servers, skip)?)),
        TcpInstances::None => return Ok(None),
    };
    let section = format!("section {name}");
    let mut claims = vec![section.clone()];
    match &kind {
        Kind::Http(http) => claims.extend(http.claims()),
        Kind::Tcp(tcp) => claims.push(tcp.claim()),
    }
    claims.sort_unstable();
    if service.denied.contains(&section) {
        return Err(format!(
            "another service has the {section}; names that differ in `/` and `_` only become the same, so rename one"
        ));
    }
    let servers = match &mut kind {
        Kind::Http(http) => {
            http.deny(&service.denied)?;
            &mut http.servers
        }
        Kind::Tcp(tcp) => {
            tcp.deny(&service.denied)?;
            &mut tcp.servers
        }
    };
    instances::settle(service, servers);
    Ok(Some(Desired { name, kind, claims }))
}
