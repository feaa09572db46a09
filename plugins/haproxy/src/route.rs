//! The routes of http services: which an instance asks for, how they stand in the map, and what they claim.

use waypost_plugin_sdk::proxy::route;
use waypost_plugin_sdk::{Instance, Service};

use crate::names;
use crate::settings::{Routing, Settings};

pub(crate) use route::Route;

/// What a route to the default service has for a domain; no client can ask for it.
pub(crate) const ANY_DOMAIN: &str = "*";

/// The routes that an instance asks for; none when it names no domain and the service's name is none either.
///
/// # Errors
/// Says what was found and what is expected.
pub(crate) fn read(settings: &Settings, service: &Service, instance: &Instance) -> Result<Vec<Route>, String> {
    let routes = route::read(service, instance, names::path)?;
    if settings.routing == Routing::Acl && routes.iter().any(|route| route.domain == "or") {
        return Err("its domain is or, which HAProxy reads as a word of its language in conditions".to_owned());
    }
    Ok(routes)
}

/// What leads to the default service.
pub(crate) fn default() -> Route {
    Route { domain: ANY_DOMAIN.to_owned(), path: String::new() }
}

pub(crate) fn is_default(route: &Route) -> bool {
    route.domain == ANY_DOMAIN
}

/// Its key in the map.
pub(crate) fn key(route: &Route) -> String {
    format!("{}{}/", route.domain, route.path)
}

/// The key that says of its domain that it is known: no request has a path of `//`.
pub(crate) fn marker(route: &Route) -> String {
    format!("{}//", route.domain)
}

/// What only one service can have; nothing where the settings say who has it.
pub(crate) fn claim(route: &Route) -> Option<String> {
    (!is_default(route)).then(|| route.claim())
}
