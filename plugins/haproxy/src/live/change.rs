//! What changes about a service between the last files and the next.

use std::collections::BTreeSet;

use waypost_plugin_sdk::{Change, PluginError, Service};

use crate::http::Http;
use crate::route;
use crate::settings::{Routing, Settings};
use crate::wanted::{self, Kind, Wanted};

/// A service that changes.
pub(super) struct Turn {
    /// Name of its section.
    pub(super) name: String,
    pub(super) before: Option<Wanted>,
    pub(super) after: Option<Wanted>,
}

/// Why a reload is needed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NeedsReload(pub(super) String);

/// Bad instances were named when the files were rendered. A service that could not be carried before was not there.
pub(super) fn read(settings: &Settings, changes: &[Change]) -> Result<Vec<Turn>, PluginError> {
    let wanted = |service: &Option<Service>| match service {
        Some(service) => wanted::read(settings, service, &mut |_, _| {}),
        None => Ok(None),
    };
    let mut turns = Vec::new();
    for change in changes {
        let (before, after) = (wanted(&change.before).unwrap_or_default(), wanted(&change.after)?);
        let turn = |name: &str, before, after| Turn { name: name.to_owned(), before, after };
        match (before, after) {
            (None, None) => {}
            (Some(before), Some(after)) if before.name != after.name => {
                turns.push(turn(&before.name.clone(), Some(before), None));
                turns.push(turn(&after.name.clone(), None, Some(after)));
            }
            (before, after) => {
                let name = [&before, &after].into_iter().flatten().map(|wanted| wanted.name.clone()).next();
                turns.push(turn(&name.unwrap_or_default(), before, after));
            }
        }
    }
    turns.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(turns)
}

impl Turn {
    /// Whether it needs what only a file can say: a section, a port, a rule.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), NeedsReload> {
        let why =
            match (self.before.as_ref().map(|wanted| &wanted.kind), self.after.as_ref().map(|wanted| &wanted.kind)) {
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

    /// What is read or written in `routes.map` for it.
    pub(super) fn is_routed(&self, settings: &Settings) -> bool {
        let http = |wanted: &Option<Wanted>| wanted.as_ref().is_some_and(|wanted| wanted.http().is_some());
        settings.routing == Routing::Map && (http(&self.before) || http(&self.after))
    }

    /// Whether it leaves without servers, so that nothing but what the file says of it is left.
    pub(super) fn leaves_empty(&self) -> bool {
        self.after.is_none() && self.before.as_ref().is_some_and(|before| before.servers().is_empty())
    }

    /// Keys of the map that keep the rest of a domain from `*`, before and after.
    pub(super) fn markers(&self) -> [BTreeSet<String>; 2] {
        [&self.before, &self.after]
            .map(|wanted| wanted.as_ref().and_then(Wanted::http).map(Http::markers).unwrap_or_default())
    }

    /// Keys of the map that lead to it before and after.
    pub(super) fn keys(&self) -> [Vec<String>; 2] {
        [&self.before, &self.after].map(|wanted| {
            let http = wanted.as_ref().and_then(Wanted::http);
            http.map(|http| http.routes.iter().map(route::key).collect()).unwrap_or_default()
        })
    }
}
