//! What a service is to HAProxy: the same for the files and for a running process.

use waypost_plugin_sdk::{PluginError, Service, refuse, show};

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
    /// All that it asks for and only one service can have, whatever it is denied.
    pub(crate) claims: Vec<String>,
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
/// `invalid-input` when HAProxy cannot carry the service, or when others have all that it asks for.
pub(crate) fn read(
    settings: &Settings,
    service: &Service,
    leave_out: &mut dyn FnMut(&str, &str),
) -> Result<Option<Wanted>, PluginError> {
    match members::select(settings, service, leave_out) {
        Members::None => Ok(None),
        members => match wanted(settings, service, members, leave_out) {
            Ok(wanted) => Ok(Some(wanted)),
            Err(reason) => refuse(format!("service {}: {reason}", show(&service.name))),
        },
    }
}

fn wanted(
    settings: &Settings,
    service: &Service,
    members: Members,
    leave_out: &mut dyn FnMut(&str, &str),
) -> Result<Wanted, String> {
    let name = names::proxy(&service.name)?;
    let mut kind = match members {
        Members::Http(servers) => Kind::Http(http::read(settings, service, servers)?),
        Members::Tcp(servers) => Kind::Tcp(tcp::read(settings, servers, leave_out)?),
        Members::None => return Err("no instance speaks http or tcp".to_owned()),
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
    members::settle(service, servers);
    Ok(Wanted { name, kind, claims })
}
