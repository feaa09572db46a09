//! An http service: a `backend` section, and the domains and paths that lead to it.

use std::collections::BTreeSet;

use waypost_plugin_sdk::{Instance, Part, Service, attributes};

use crate::frame;
use crate::members::Server;
use crate::names::{self, HTTP_FRONTEND, SPARE};
use crate::settings::{Routing, Settings};
use crate::{ROUTES, configuration, section};

/// Most domains times paths of one instance.
const ROUTES_LIMIT: usize = 256;

/// What requests must look like to belong to a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    /// In lower case; `*.` stands for one label.
    domain: String,
    /// Without a final `/`; empty for all paths.
    path: String,
}

impl Route {
    /// Its key in the map.
    pub(crate) fn key(&self) -> String {
        format!("{}{}/", self.domain, self.path)
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
    /// The routes that any of its instances asks for; at least one.
    pub(crate) routes: BTreeSet<Route>,
}

/// Puts the routes of all servers together.
///
/// # Errors
/// There is no front end, or no domain that leads to the service.
pub(crate) fn read(settings: &Settings, servers: Vec<(Server, Vec<Route>)>) -> Result<Http, String> {
    if settings.http_bind.get().is_none() {
        return Err("it speaks http, and the setting `http-bind` is \"off\"".to_owned());
    }
    let (servers, routes): (Vec<Server>, Vec<Vec<Route>>) = servers.into_iter().unzip();
    let routes: BTreeSet<Route> = routes.into_iter().flatten().collect();
    if routes.is_empty() {
        return Err(
            "it speaks http, but no instance has the attribute domain, and the service's name is no domain name \
                    such as web.example.com"
                .to_owned(),
        );
    }
    Ok(Http { servers, routes })
}

/// The section, the shared front end, and the claims to domains and paths.
pub(crate) fn parts(settings: &Settings, service: &Service, name: &str, Http { servers, routes }: &Http) -> Vec<Part> {
    let lines: String = servers.iter().map(|server| server.line(settings)).collect();
    let bind = settings.http_bind.get().map(|bind| bind.0.as_slice()).unwrap_or_default();
    let addresses: Vec<String> = bind.iter().map(ToString::to_string).collect();
    let added = frame::lines(&settings.http_lines);
    let mut head = format!("\nfrontend {HTTP_FRONTEND}\n    bind {}\n{FRONTEND_OPTIONS}{added}", addresses.join(","));
    let slots = frame::slots(settings);
    let mut parts = vec![section(service, name, "backend", &format!("    log global\n{lines}{slots}"))];
    match settings.routing {
        Routing::Map => {
            head += MAP_LOOKUP;
            if settings.spares() > 0 {
                head += SPARES_LOOKUP;
                parts.push(configuration("45 spares", spares(settings)));
            }
            head += MAP_USE;
            parts.extend(routes.iter().map(|route| map_entry(route, name)));
        }
        Routing::Acl => {
            parts.extend(routes.iter().map(|route| acl(&route.domain)));
            parts.extend(routes.iter().map(|route| use_backend(route, name)));
        }
    }
    parts.push(configuration("40 http", head));
    parts.sort_by(|a, b| (&a.path, &a.key).cmp(&(&b.path, &b.key)));
    // An acl stands once, however many paths its domain has.
    parts.dedup();
    parts
}

/// Without the first, every reload resets the idle connections of clients. The last one lets only requests be sent again
/// to another server that change nothing (RFC 9110, 9.2.1).
const FRONTEND_OPTIONS: &str = "    option idle-close-on-response
    option forwardfor
    http-request disable-l7-retry unless METH_GET
";

/// The key is `domain/path/`, what is looked up ends in `/` as well, and the longest key that starts it wins: `/api`
/// takes `/api` and `/api/x` but not `/apix`. The second look, with the first label as `*`, is for unknown domains only.
const MAP_LOOKUP: &str = "    http-request set-var(txn.path) path
    http-request set-var(txn.backend) req.hdr(host),field(1,:),lower,concat(,txn.path,/),map_beg(routes.map)
    http-request set-var(txn.backend) req.hdr(host),field(1,:),lower,regsub(^[^.]*,*),concat(,txn.path,/),map_beg(routes.map) \
     if !{ var(txn.backend) -m found }
";
/// A service that came since the last reload lives in a prepared backend. What is not in this map stays as it is.
const SPARES_LOOKUP: &str = "    http-request set-var(txn.backend) var(txn.backend),map(spares.map)\n";
const MAP_USE: &str = "    use_backend %[var(txn.backend)]\n";

/// Empty backends for services that come later.
fn spares(settings: &Settings) -> String {
    let mut text = "\n# For services that come before the next reload\n".to_owned();
    text.extend((1..=settings.spares()).flat_map(|number| ["backend ".to_owned(), format!("{SPARE}{number}\n")]));
    text
}

/// A line of the map, keyed by what it claims.
fn map_entry(route: &Route, name: &str) -> Part {
    let key = route.key();
    Part { path: ROUTES.to_owned(), text: format!("{key} {name}\n"), key }
}

/// The acl of a domain is named like it; services that share the domain share it.
fn acl(domain: &str) -> Part {
    let name = acl_name(domain);
    let condition = match domain.strip_prefix('*') {
        Some(_) => format!("req.hdr(host),field(1,:),lower,regsub(^[^.]*,*) -m str {domain}"),
        None => format!("hdr_dom(host) -i {domain}"),
    };
    configuration(format!("41 acl {name}"), format!("    acl {name} {condition}\n"))
}

/// HAProxy takes no `*` in names, and no domain starts with the `.` that is left.
fn acl_name(domain: &str) -> &str {
    domain.strip_prefix('*').unwrap_or(domain)
}

/// HAProxy takes the first rule that fits, and `hdr_dom` also fits subdomains: so longer domains come first, and
/// longer paths within a domain.
fn use_backend(route: &Route, name: &str) -> Part {
    let Route { domain, path } = route;
    let acl = acl_name(domain);
    let key = format!("42 use {:03} {acl} {:04} {path}", 999 - acl.len(), 9999 - path.len());
    let condition = match path.as_str() {
        "" => acl.to_owned(),
        path => format!("{acl} {{ path {path} }} || {acl} {{ path_beg {path}/ }}"),
    };
    configuration(key, format!("    use_backend {name} if {condition}\n"))
}
