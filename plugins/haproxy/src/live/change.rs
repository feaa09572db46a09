//! Reads changes of services.

use std::collections::BTreeSet;

use waypost_plugin_sdk::{Change, PluginError, Service};

use crate::desired::{self, Desired, Kind};
use crate::http::Http;
use crate::route;
use crate::settings::{Routing, Settings};

/// The change of the service that has one section.
pub(super) struct ServiceChange {
    /// Name of its section.
    pub(super) name: String,
    pub(super) before: Option<Desired>,
    pub(super) after: Option<Desired>,
}

/// Why a reload is needed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NeedsReload(pub(super) String);

/// Reads the changes, sorted by section. Ignores bad instances, which rendering has logged. Treats a service that was refused
/// before as absent.
///
/// # Errors
/// `invalid-input` when HAProxy cannot proxy a service as it is desired.
pub(super) fn read(settings: &Settings, changes: &[Change]) -> Result<Vec<ServiceChange>, PluginError> {
    let desired = |service: &Option<Service>| match service {
        Some(service) => desired::read(settings, service, &mut |_, _| {}),
        None => Ok(None),
    };
    let mut read = Vec::new();
    for change in changes {
        let (before, after) = (desired(&change.before).unwrap_or_default(), desired(&change.after)?);
        let of = |name: &str, before, after| ServiceChange { name: name.to_owned(), before, after };
        match (before, after) {
            (None, None) => {}
            (Some(before), Some(after)) if before.name != after.name => {
                read.push(of(&before.name.clone(), Some(before), None));
                read.push(of(&after.name.clone(), None, Some(after)));
            }
            (before, after) => {
                let name = [&before, &after].into_iter().flatten().map(|desired| desired.name.clone()).next();
                read.push(of(&name.unwrap_or_default(), before, after));
            }
        }
    }
    read.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(read)
}

impl ServiceChange {
    /// Checks that the change needs nothing that only the file can add: a section, a port, a rule.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), NeedsReload> {
        let why =
            match (self.before.as_ref().map(|desired| &desired.kind), self.after.as_ref().map(|desired| &desired.kind))
            {
                (None, Some(Kind::Tcp(_))) => "a new tcp service needs a port",
                (Some(Kind::Tcp(before)), Some(Kind::Tcp(after))) if before.port != after.port => {
                    "its listen-port changed"
                }
                (Some(Kind::Tcp(_)), Some(Kind::Http(_))) | (Some(Kind::Http(_)), Some(Kind::Tcp(_))) => {
                    "its protocol changed"
                }
                (None, Some(Kind::Http(_))) if settings.routing == Routing::Acl => "a new domain needs an acl",
                (Some(Kind::Http(before)), Some(Kind::Http(after)))
                    if settings.routing == Routing::Acl && before.routes != after.routes =>
                {
                    "its domains or paths changed, and they are acls"
                }
                _ => return Ok(()),
            };
        Err(self.needs_reload(why))
    }

    pub(super) fn needs_reload(&self, why: &str) -> NeedsReload {
        NeedsReload(format!("{}: {why}", self.name))
    }

    /// Returns whether the change concerns entries of `routes.map`.
    pub(super) fn is_routed(&self, settings: &Settings) -> bool {
        let http = |desired: &Option<Desired>| desired.as_ref().is_some_and(|desired| desired.http().is_some());
        settings.routing == Routing::Map && (http(&self.before) || http(&self.after))
    }

    /// Returns whether a tcp service leaves, whose port only the next reload closes.
    pub(super) fn leaves_port(&self) -> bool {
        self.after.is_none() && self.before.as_ref().is_some_and(|before| before.tcp().is_some())
    }

    /// Returns the keys of the map that keep other paths of a domain from `*`, before and after.
    pub(super) fn markers(&self) -> [BTreeSet<String>; 2] {
        [&self.before, &self.after]
            .map(|desired| desired.as_ref().and_then(Desired::http).map(Http::markers).unwrap_or_default())
    }

    /// Returns the keys of the map that lead to the service, before and after.
    pub(super) fn keys(&self) -> [Vec<String>; 2] {
        [&self.before, &self.after].map(|desired| {
            let http = desired.as_ref().and_then(Desired::http);
            http.map(|http| http.routes.iter().map(route::key).collect()).unwrap_or_default()
        })
    }
}
