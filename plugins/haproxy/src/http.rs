//! Renders an http service: a `backend` section, and the domains and paths that lead to it.

mod acl;

use std::collections::BTreeSet;

use waypost_plugin_sdk::proxy::route::{NO_DOMAIN, NO_LISTENER};
use waypost_plugin_sdk::{Fragment, Service};

use crate::files::{ROUTES, section};
use crate::names::NOBODY;
use crate::route::{self, Route};
use crate::server::{Server, slots};
use crate::settings::{Routing, Settings};

/// An http service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Http {
    pub(crate) servers: Vec<Server>,
    /// The routes that any instance asks for, without those that other services have; at least one.
    pub(crate) routes: BTreeSet<Route>,
}

impl Http {
    /// Returns the claims to the routes.
    pub(crate) fn claims(&self) -> impl Iterator<Item = String> {
        self.routes.iter().filter_map(route::claim)
    }

    /// Returns keys of the map whose value is [`NOBODY`]: one for each domain whose root path the service does not have. They keep
    /// requests for that domain from the service of a wildcard and from the default service. Services share them.
    pub(crate) fn markers(&self) -> BTreeSet<String> {
        let root = |route: &Route| Route { domain: route.domain.clone(), path: String::new() };
        let has_root = |route: &Route| self.routes.contains(&root(route));
        self.routes.iter().filter(|route| !has_root(route)).map(route::marker).collect()
    }

    /// Removes the routes that other services have.
    ///
    /// # Errors
    /// No route is left.
    pub(crate) fn deny(&mut self, denied: &[String]) -> Result<(), String> {
        let (lost, kept) = std::mem::take(&mut self.routes)
            .into_iter()
            .partition::<BTreeSet<Route>, _>(|route| route::claim(route).is_some_and(|claim| denied.contains(&claim)));
        self.routes = kept;
        if !self.routes.is_empty() {
            return Ok(());
        }
        let first = lost.iter().find_map(route::claim).unwrap_or_default();
        let more = if lost.len() > 1 { format!(" (and {} more)", lost.len() - 1) } else { String::new() };
        Err(format!("other services have all that leads to it: {first}{more}; give it a domain or path of its own"))
    }
}

/// Merges the routes of all servers.
///
/// # Errors
/// `http-bind` is off, or no domain leads to the service.
pub(crate) fn read(settings: &Settings, service: &Service, servers: Vec<(Server, Vec<Route>)>) -> Result<Http, String> {
    if settings.http_bind.get().is_none() {
        return Err(NO_LISTENER.to_owned());
    }
    let (servers, routes): (Vec<Server>, Vec<Vec<Route>>) = servers.into_iter().unzip();
    let mut routes: BTreeSet<Route> = routes.into_iter().flatten().collect();
    if settings.default_service.as_ref() == Some(&service.name) {
        routes.insert(route::default());
    }
    if routes.is_empty() {
        return Err(NO_DOMAIN.to_owned());
    }
    Ok(Http { servers, routes })
}

/// Renders the section, and the routes that lead to it.
pub(crate) fn fragments(settings: &Settings, service: &Service, name: &str, http: &Http) -> Vec<Fragment> {
    let lines: String = http.servers.iter().map(|server| server.line(settings)).collect();
    let lines = format!("    log global\n{lines}{}", slots(settings));
    let mut fragments = vec![section(service, name, "backend", &lines)];
    match settings.routing {
        Routing::Map => {
            fragments.extend(http.routes.iter().map(|route| map_entry(&route::key(route), name)));
            fragments.extend(http.markers().iter().map(|marker| map_entry(marker, NOBODY)));
        }
        Routing::Acl => fragments.extend(acl::fragments(&http.routes, &http.markers(), name)),
    }
    fragments.sort_by(|a, b| (&a.path, &a.key).cmp(&(&b.path, &b.key)));
    fragments
}

/// Builds a line of the map.
fn map_entry(key: &str, name: &str) -> Fragment {
    Fragment::new(ROUTES, key, format!("{key} {name}\n"))
}
