//! An http service: an `upstream`, and the locations of the domains that lead to it.

use std::collections::BTreeSet;

use waypost_plugin_sdk::{Fragment, Instance, Service, attributes};

use crate::members::Server;
use crate::settings::{Binds, Settings};
use crate::stream::upstream;
use crate::{HTTP, Side, claims, fragment, names, server};

/// Most domains times paths of one instance.
const ROUTES_LIMIT: usize = 256;

/// What requests must look like to belong to a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    /// In lower case; `*.` stands for one label.
    pub(crate) domain: String,
    /// Without a final `/`; empty for all paths.
    pub(crate) path: String,
}

/// The routes that an instance asks for; none when it names no domain and the service's name is none either.
///
/// # Errors
/// Says what was found and what is expected.
pub(crate) fn routes(service: &Service, instance: &Instance) -> Result<Vec<Route>, String> {
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
    let route = |domain: &String, path: &&str| Route { domain: domain.clone(), path: (*path).to_owned() };
    Ok(domains.iter().flat_map(|domain| paths.iter().map(move |path| route(domain, path))).collect())
}

/// What an http service is: its upstream, the servers that it shares with others, and its locations.
///
/// # Errors
/// There is no address for http services, no domain that leads to the service, or nginx does not take its name.
pub(crate) fn side(settings: &Settings, service: &Service, servers: &[(Server, Vec<Route>)]) -> Result<Side, String> {
    let Some(binds) = settings.http_bind.get() else {
        return Err("it speaks http, and the setting `http-bind` is \"off\"".to_owned());
    };
    let name = names::upstream(&service.name)? + ".waypost";
    let routes: BTreeSet<&Route> = servers.iter().flat_map(|(_, routes)| routes).collect();
    if routes.is_empty() && !is_default(settings, service) {
        return Err(
            "it speaks http, but no instance has the attribute domain, and the service's name is no domain name \
                    such as web.example.com"
                .to_owned(),
        );
    }
    let claims = std::iter::once(claims::upstream(&name, HTTP)).chain(routes.iter().map(|route| claims::route(route)));
    let claims = claims.collect();
    let fragments = granted(settings, service, &name, routes).map(|routes| {
        let servers: Vec<&Server> = servers.iter().map(|(server, _)| server).collect();
        fragments(settings, service, binds, &name, &servers, &routes)
    });
    Ok(Side { claims, fragments })
}

/// The routes that no other service has.
///
/// # Errors
/// Others have all of them, or the upstream's name.
fn granted<'a>(
    settings: &Settings,
    service: &Service,
    name: &str,
    routes: BTreeSet<&'a Route>,
) -> Result<Vec<&'a Route>, String> {
    claims::expect(service, &claims::upstream(name, HTTP), "rename one of the two, nginx sees the same name in both")?;
    let (denied, granted): (Vec<&Route>, Vec<&Route>) =
        routes.into_iter().partition(|route| claims::is_denied(service, &claims::route(route)));
    if granted.is_empty() && !is_default(settings, service) {
        let denied: Vec<String> = denied.into_iter().map(claims::route).collect();
        return Err(claims::taken(&denied, "nothing else leads to it: give it another domain or path"));
    }
    Ok(granted)
}

/// Whether it answers for domains that nobody has.
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
        let text = upstream(settings, service, name, &format!("{lines}{keepalive}"));
        fragments.push(fragment(HTTP, format!("3 upstream {name}"), text));
        if is_default(settings, service) {
            fragments.push(fragment(HTTP, "2 default server 2", format!("    location / {action}\n")));
        }
    }
    let domains: BTreeSet<&String> = routes.iter().map(|route| &route.domain).collect();
    for domain in domains {
        let head = server::of_services(settings, binds, Some(&names::server_name(domain)));
        fragments.push(fragment(HTTP, key(domain, "1"), head));
        fragments.push(fragment(HTTP, key(domain, "3"), server::END));
    }
    fragments.extend(routes.iter().map(|route| location(route, &action)));
    fragments
}

/// How long a connection to an instance rests: most servers close one after 5 s or later, and a request that meets the close
/// and may not be repeated would be lost.
const IDLE: &str = "4s";

/// The place of a domain's lines in the file. nginx takes the first regular expression that fits, and a long name is one as well
/// as a `*.`: those written out stand before all others.
fn key(domain: &str, line: &str) -> String {
    let place = if domain.starts_with("*.") { "5 wildcard" } else { "4 server" };
    format!("{place} {domain} {line}")
}

/// The locations of a path: itself and what is below it.
fn location(route: &Route, action: &str) -> Fragment {
    let Route { domain, path } = route;
    let block = |uri: &str| format!("    location {uri} {action}\n");
    let text = match path.as_str() {
        "" => block("/"),
        path => block(&format!("= {path}")) + &block(&format!("{path}/")),
    };
    fragment(HTTP, key(domain, &format!("2 location {path}/")), text)
}
