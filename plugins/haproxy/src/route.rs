//! Reads the routes of http services, and builds their keys in the map and their claims.

use waypost_plugin_sdk::proxy::route;
use waypost_plugin_sdk::{Instance, Service};

use crate::names;
use crate::settings::{Routing, Settings};

pub(crate) use route::Route;

/// The domain of the route to the default service; no client can ask for it.
pub(crate) const ANY_DOMAIN: &str = "*";

/// Reads the routes that an instance asks for; none when it names no domain and the service's name is no domain either.
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

/// Returns the route to the default service.
pub(crate) fn default() -> Route {
    Route { domain: ANY_DOMAIN.to_owned(), path: String::new() }
}

/// Returns whether the route leads to the default service.
pub(crate) fn is_default(route: &Route) -> bool {
    route.domain == ANY_DOMAIN
}

/// Returns the route's key in the map.
pub(crate) fn key(route: &Route) -> String {
    format!("{}{}/", route.domain, route.path)
}

/// Returns the key that marks the route's domain as known: no request has the path `//`.
pub(crate) fn marker(route: &Route) -> String {
    format!("{}//", route.domain)
}

/// Returns the route's claim; `None` for the default route, which the settings give to a service.
pub(crate) fn claim(route: &Route) -> Option<String> {
    (!is_default(route)).then(|| route.claim())
}
