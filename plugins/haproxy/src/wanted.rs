//! What a service is to HAProxy: the same for the files and for a running process.

use waypost_plugin_sdk::{PluginError, Readiness, Service, refuse, show};

use crate::http::{self, Http};
use crate::members::{self, Members, Server};
use crate::names;
use crate::settings::Settings;
use crate::tcp::{self, Tcp};

/// A section and what leads to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Name of the section.
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// What the service speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http(Http),
    Tcp(Tcp),
}

impl Wanted {
    /// Its servers, by id.
    pub(crate) fn servers(&self) -> &[Server] {
        match &self.kind {
            Kind::Http(http) => &http.servers,
            Kind::Tcp(tcp) => &tcp.servers,
        }
    }

    /// What an http service is.
    pub(crate) fn http(&self) -> Option<&Http> {
        match &self.kind {
            Kind::Http(http) => Some(http),
            Kind::Tcp(_) => None,
        }
    }

    /// What a tcp service is.
    pub(crate) fn tcp(&self) -> Option<&Tcp> {
        match &self.kind {
            Kind::Http(_) => None,
            Kind::Tcp(tcp) => Some(tcp),
        }
    }
}

/// None when no instance speaks http or tcp. Bad instances are named to `leave_out`.
///
/// # Errors
/// `invalid-input` when HAProxy cannot carry the service.
pub(crate) fn read(
    settings: &Settings,
    service: &Service,
    leave_out: &mut dyn FnMut(&str, &str),
) -> Result<Option<Wanted>, PluginError> {
    let members = members::select(settings, service, leave_out);
    if matches!(members, Members::None) {
        return Ok(None);
    }
    let name = match names::proxy(&service.name) {
        Ok(name) => name,
        Err(reason) => return refuse(format!("service {}: {reason}", show(&service.name))),
    };
    let kind = match members {
        Members::Http(servers) => http::read(settings, servers).map(Kind::Http),
        Members::Tcp(servers) => tcp::read(settings, servers, leave_out).map(Kind::Tcp),
        Members::None => return Ok(None),
    };
    match kind.map(|kind| without_gone(kind, service)) {
        Ok(kind) => Ok(Some(Wanted { name, kind })),
        Err(reason) => refuse(format!("service {}: {reason}", show(&service.name))),
    }
}

/// An instance that has left gives the service its routes and port, and no server.
fn without_gone(mut kind: Kind, service: &Service) -> Kind {
    let servers = match &mut kind {
        Kind::Http(http) => &mut http.servers,
        Kind::Tcp(tcp) => &mut tcp.servers,
    };
    let is_gone = |id: &str| service.instances.iter().any(|i| i.id == id && i.readiness == Readiness::Gone);
    servers.retain(|server| !is_gone(&server.id));
    kind
}
