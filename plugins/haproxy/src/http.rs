//! An http service: a `backend` section, and the domains and paths that lead to it.

use std::collections::BTreeSet;

use waypost_plugin_sdk::{Instance, Part, Service, attributes};

use crate::frame;
use crate::members::Server;
use crate::names::{self, HTTP_FRONTEND};
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

/// The section, the shared front end, and the claims to domains and paths.
///
/// # Errors
/// There is no front end, or no domain that leads to the service.
pub(crate) fn parts(
    settings: &Settings,
    service: &Service,
    name: &str,
    servers: &[(Server, Vec<Route>)],
) -> Result<Vec<Part>, String> {
    let Some(bind) = settings.http_bind.get() else {
        return Err("it speaks http, and the setting `http-bind` is \"off\"".to_owned());
    };
    let routes: BTreeSet<&Route> = servers.iter().flat_map(|(_, routes)| routes).collect();
    if routes.is_empty() {
        return Err(
            "it speaks http, but no instance has the attribute domain, and the service's name is no domain name \
                    such as web.example.com"
                .to_owned(),
        );
    }
    let lines: String = servers.iter().map(|(server, _)| server.line.as_str()).collect();
    let addresses: Vec<String> = bind.0.iter().map(ToString::to_string).collect();
    let added = frame::lines(&settings.http_lines);
    let mut head = format!("\nfrontend {HTTP_FRONTEND}\n    bind {}\n{FRONTEND_OPTIONS}{added}", addresses.join(","));
    let mut parts = vec![section(service, name, "backend", &format!("    log global\n{lines}"))];
    match settings.routing {
        Routing::Map => {
            head += MAP_LOOKUP;
            parts.extend(routes.into_iter().map(|route| map_entry(route, name)));
        }
        Routing::Acl => {
            parts.extend(routes.iter().map(|route| acl(&route.domain)));
            parts.extend(routes.into_iter().map(|route| use_backend(route, name)));
        }
    }
    parts.push(configuration("40 http", head));
    parts.sort_by(|a, b| (&a.path, &a.key).cmp(&(&b.path, &b.key)));
    // An acl stands once, however many paths its domain has.
    parts.dedup();
    Ok(parts)
}

/// Without the first, every reload resets the idle connections of clients.
const FRONTEND_OPTIONS: &str = "    option idle-close-on-response\n    option forwardfor\n";

/// The key is `domain/path/`, what is looked up ends in `/` as well, and the longest key that starts it wins: `/api`
/// takes `/api` and `/api/x` but not `/apix`. The second look, with the first label as `*`, is for unknown domains only.
const MAP_LOOKUP: &str = "    http-request set-var(txn.path) path
    http-request set-var(txn.backend) req.hdr(host),field(1,:),lower,concat(,txn.path,/),map_beg(routes.map)
    http-request set-var(txn.backend) req.hdr(host),field(1,:),lower,regsub(^[^.]*,*),concat(,txn.path,/),map_beg(routes.map) \
     if !{ var(txn.backend) -m found }
    use_backend %[var(txn.backend)]
";

/// A line of the map, keyed by what it claims.
fn map_entry(route: &Route, name: &str) -> Part {
    let key = format!("{}{}/", route.domain, route.path);
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
