//! An http service: a `backend` section, and the domains and paths that lead to it.

mod acl;

use std::collections::BTreeSet;

use waypost_plugin_sdk::{Fragment, Instance, Service, attributes};

use crate::base;
use crate::front::{ANY_DOMAIN, NOBODY};
use crate::members::Server;
use crate::names;
use crate::settings::{Routing, Settings};
use crate::{ROUTES, section};

/// Most domains times paths of one instance.
const ROUTES_LIMIT: usize = 256;

/// What requests must look like to belong to a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    /// In lower case; `*.` stands for one label, and `*` alone for every domain that nobody has.
    domain: String,
    /// Without a final `/`; empty for all paths.
    path: String,
}

impl Route {
    /// What leads to the default service.
    fn default() -> Self {
        Route { domain: ANY_DOMAIN.to_owned(), path: String::new() }
    }

    fn is_default(&self) -> bool {
        self.domain == ANY_DOMAIN
    }

    /// Its key in the map.
    pub(crate) fn key(&self) -> String {
        format!("{}{}/", self.domain, self.path)
    }

    /// The key that says of its domain that it is known: no request has a path of `//`.
    fn marker(&self) -> String {
        format!("{}//", self.domain)
    }

    /// What only one service can have; nothing where the settings say who has it.
    fn claim(&self) -> Option<String> {
        let Route { domain, path } = self;
        let claim = if path.is_empty() { format!("domain {domain}") } else { format!("domain {domain} path {path}") };
        (!self.is_default()).then_some(claim)
    }
}

/// The routes that an instance asks for; none when it names no domain and the service's name is none either.
///
/// # Errors
/// Says what was found and what is expected.
pub(crate) fn routes(settings: &Settings, service: &Service, instance: &Instance) -> Result<Vec<Route>, String> {
    let list = |name| attributes::items(attributes::get(&instance.attributes, name).unwrap_or_default());
    let mut domains = list("domain").map(names::domain).collect::<Result<BTreeSet<String>, String>>()?;
    if domains.is_empty() {
        domains.extend(names::domain(&service.name));
    }
    let mut paths = list("path").map(names::path).collect::<Result<BTreeSet<&str>, String>>()?;
    if paths.is_empty() {
        paths.insert("");
    }
    if domains.len() * paths.len() > ROUTES_LIMIT {
        let (domains, paths) = (domains.len(), paths.len());
        return Err(format!("it has {domains} domains times {paths} paths, expected at most {ROUTES_LIMIT}"));
    }
    if settings.routing == Routing::Acl && domains.contains("or") {
        return Err("its domain is or, which HAProxy reads as a word of its language in conditions".to_owned());
    }
    let route = |domain: &String, path: &&str| Route { domain: domain.clone(), path: (*path).to_owned() };
    Ok(domains.iter().flat_map(|domain| paths.iter().map(move |path| route(domain, path))).collect())
}

/// An http service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Http {
    pub(crate) servers: Vec<Server>,
    /// The routes that any of its instances asks for, but for those it is denied; at least one.
    pub(crate) routes: BTreeSet<Route>,
}

impl Http {
    /// What only one service can have.
    pub(crate) fn claims(&self) -> impl Iterator<Item = String> {
        self.routes.iter().filter_map(Route::claim)
    }

    /// Keys of the map, each with [`NOBODY`] for a value, that keep requests of its domains from the wildcard's service and
    /// the default service: one for each domain whose root path it has not. Services share them.
    pub(crate) fn markers(&self) -> BTreeSet<String> {
        let root = |route: &Route| Route { domain: route.domain.clone(), path: String::new() };
        let has_root = |route: &Route| self.routes.contains(&root(route));
        self.routes.iter().filter(|route| !has_root(route)).map(Route::marker).collect()
    }

    /// Leaves out the routes that other services have.
    ///
    /// # Errors
    /// None is left.
    pub(crate) fn deny(&mut self, denied: &[String]) -> Result<(), String> {
        let (lost, kept) = std::mem::take(&mut self.routes)
            .into_iter()
            .partition::<BTreeSet<Route>, _>(|route| route.claim().is_some_and(|claim| denied.contains(&claim)));
        self.routes = kept;
        if !self.routes.is_empty() {
            return Ok(());
        }
        let first = lost.iter().find_map(Route::claim).unwrap_or_default();
        let more = if lost.len() > 1 { format!(" (and {} more)", lost.len() - 1) } else { String::new() };
        Err(format!("other services have all that leads to it: {first}{more}; give it a domain or path of its own"))
    }
}

/// Puts the routes of all servers together.
///
/// # Errors
/// There is no frontend, or no domain that leads to the service.
pub(crate) fn read(settings: &Settings, service: &Service, servers: Vec<(Server, Vec<Route>)>) -> Result<Http, String> {
    if settings.http_bind.get().is_none() {
        return Err("it speaks http, and the setting `http-bind` is \"off\"".to_owned());
    }
    let (servers, routes): (Vec<Server>, Vec<Vec<Route>>) = servers.into_iter().unzip();
    let mut routes: BTreeSet<Route> = routes.into_iter().flatten().collect();
    if settings.default_service.as_ref() == Some(&service.name) {
        routes.insert(Route::default());
    }
    if routes.is_empty() {
        return Err(
            "it speaks http, but no instance has the attribute domain, and the service's name is no domain name \
                    such as web.example.com"
                .to_owned(),
        );
    }
    Ok(Http { servers, routes })
}

/// The section, and what leads to it.
pub(crate) fn fragments(settings: &Settings, service: &Service, name: &str, http: &Http) -> Vec<Fragment> {
    let lines: String = http.servers.iter().map(|server| server.line(settings)).collect();
    let slots = base::slots(settings);
    let mut fragments = vec![section(service, name, "backend", &format!("    log global\n{lines}{slots}"))];
    match settings.routing {
        Routing::Map => {
            fragments.extend(http.routes.iter().map(|route| map_entry(&route.key(), name)));
            fragments.extend(http.markers().iter().map(|marker| map_entry(marker, NOBODY)));
        }
        Routing::Acl => acl::fragments(http, name, &mut fragments),
    }
    fragments.sort_by(|a, b| (&a.path, &a.key).cmp(&(&b.path, &b.key)));
    fragments
}

/// A line of the map.
fn map_entry(key: &str, name: &str) -> Fragment {
    Fragment { path: ROUTES.to_owned(), key: key.to_owned(), text: format!("{key} {name}\n") }
}
