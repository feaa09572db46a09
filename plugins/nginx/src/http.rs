//! Renders an http service: an `upstream`, and the locations of the domains that lead to it.

use std::collections::BTreeSet;

use waypost_plugin_sdk::proxy::route::{NO_DOMAIN, NO_LISTENER, Route};
use waypost_plugin_sdk::{Fragment, Service};

use crate::files::HTTP;
use crate::settings::{Binds, Settings};
use crate::side::Side;
use crate::upstream::{self, Server};
use crate::{claims, names, server};

/// Renders an http service: its upstream, the servers that it shares with others, and its locations.
///
/// # Errors
/// `http-bind` is off, no domain leads to the service, or nginx does not accept its name.
pub(crate) fn side(settings: &Settings, service: &Service, servers: &[(Server, Vec<Route>)]) -> Result<Side, String> {
    let Some(binds) = settings.http_bind.get() else {
        return Err(NO_LISTENER.to_owned());
    };
    let name = names::upstream(&service.name)? + ".waypost";
    let routes: BTreeSet<&Route> = servers.iter().flat_map(|(_, routes)| routes).collect();
    if routes.is_empty() && !is_default(settings, service) {
        return Err(NO_DOMAIN.to_owned());
    }
    let claims = std::iter::once(claims::upstream(&name, HTTP)).chain(routes.iter().map(|route| route.claim()));
    let claims = claims.collect();
    let fragments = granted(settings, service, &name, routes).map(|routes| {
        let servers: Vec<&Server> = servers.iter().map(|(server, _)| server).collect();
        fragments(settings, service, binds, &name, &servers, &routes)
    });
    Ok(Side { claims, fragments })
}

/// Returns the routes that no other service has.
///
/// # Errors
/// Other services have all of them, or the upstream's name.
fn granted<'a>(
    settings: &Settings,
    service: &Service,
    name: &str,
    routes: BTreeSet<&'a Route>,
) -> Result<Vec<&'a Route>, String> {
    claims::expect(service, &claims::upstream(name, HTTP), "rename one of the two, nginx sees the same name in both")?;
    let (denied, granted): (Vec<&Route>, Vec<&Route>) =
        routes.into_iter().partition(|route| claims::is_denied(service, &route.claim()));
    if granted.is_empty() && !is_default(settings, service) {
        let denied: Vec<String> = denied.into_iter().map(Route::claim).collect();
        return Err(claims::taken(&denied, "nothing else leads to it: give it another domain or path"));
    }
    Ok(granted)
}

/// Returns whether the service answers for unknown domains.
fn is_default(settings: &Settings, service: &Service) -> bool {
    settings.default_service.as_ref() == Some(&service.name)
}

fn fragments(
    settings: &Settings,
    service: &Service,
    binds: &Binds,
    name: &str,
    servers: &[&Server],
    routes: &[&Route],
) -> Vec<Fragment> {
    let lines: String = servers.iter().filter_map(|server| server.line.as_deref()).collect();
    // An upstream without a ready server would be a 502, as if the service were broken.
    let action = if servers.iter().any(|server| server.ready) {
        format!("{{ proxy_pass http://{name}; }}")
    } else {
        format!("{{ return 503; }} # {name}")
    };
    let mut fragments = Vec::new();
    if !lines.is_empty() {
        let keepalive = match settings.keepalive {
            0 => String::new(),
            idle => format!("    keepalive {idle};\n    keepalive_timeout {IDLE};\n"),
        };
        let text = upstream::block(settings, service, name, &format!("{lines}{keepalive}"));
        fragments.push(Fragment::new(HTTP, format!("3 upstream {name}"), text));
        if is_default(settings, service) {
            fragments.push(Fragment::new(HTTP, "2 default server 2", format!("    location / {action}\n")));
        }
    }
    let domains: BTreeSet<&String> = routes.iter().map(|route| &route.domain).collect();
    for domain in domains {
        let head = server::of_services(settings, binds, Some(&names::server_name(domain)));
        fragments.push(Fragment::new(HTTP, key(domain, "1"), head));
        fragments.push(Fragment::new(HTTP, key(domain, "3"), server::END));
    }
    fragments.extend(routes.iter().map(|route| location(route, &action)));
    fragments
}

/// How long nginx keeps an idle connection to an instance. Most servers close one after 5 s or later, and a request that meets the
/// close and may not be repeated would be lost.
const IDLE: &str = "4s";

/// Builds the sort key of a domain's lines. nginx takes the first regular expression that matches, and both long names and `*.`
/// are regular expressions: complete names come before wildcards.
fn key(domain: &str, line: &str) -> String {
    let place = if domain.starts_with("*.") { "5 wildcard" } else { "4 server" };
    format!("{place} {domain} {line}")
}

/// Renders the locations of a path: the path itself and the paths below it.
fn location(route: &Route, action: &str) -> Fragment {
    let Route { domain, path } = route;
    let block = |uri: &str| format!("    location {uri} {action}\n");
    let text = match path.as_str() {
        "" => block("/"),
        path => block(&format!("= {path}")) + &block(&format!("{path}/")),
    };
    Fragment::new(HTTP, key(domain, &format!("2 location {path}/")), text)
}
