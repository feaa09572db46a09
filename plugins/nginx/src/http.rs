//! An http service: an `upstream`, and the locations of the domains that lead to it.

use std::collections::BTreeSet;

use waypost_plugin_sdk::{Instance, Part, Service, attributes};

use crate::members::Server;
use crate::settings::{Binds, Settings};
use crate::stream::upstream;
use crate::{HTTP, lines, names, part};

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

/// The upstream, the servers it shares with others, and the claims to domains and paths.
///
/// # Errors
/// There is no address for http services, no domain that leads to the service, or nginx does not take its name.
pub(crate) fn parts(
    settings: &Settings,
    service: &Service,
    servers: &[(Server, Vec<Route>)],
) -> Result<Vec<Part>, String> {
    let Some(binds) = settings.http_bind.get() else {
        return Err("it speaks http, and the setting `http-bind` is \"off\"".to_owned());
    };
    let name = format!("waypost-{}", names::upstream(&service.name)?);
    let routes: BTreeSet<&Route> = servers.iter().flat_map(|(_, routes)| routes).collect();
    if routes.is_empty() {
        return Err(
            "it speaks http, but no instance has the attribute domain, and the service's name is no domain name \
                    such as web.example.com"
                .to_owned(),
        );
    }
    let lines: String = servers.iter().map(|(server, _)| server.line.as_str()).collect();
    let keepalive = match settings.keepalive {
        0 => String::new(),
        idle => format!("    keepalive {idle};\n    keepalive_timeout {IDLE};\n"),
    };
    let text = upstream(settings, service, &name, &format!("{lines}{keepalive}"));
    let mut parts = vec![part(HTTP, format!("3 upstream {name}"), text)];
    // An upstream without a ready server would be a 502, as if the service were broken.
    let action = if servers.iter().any(|(server, _)| server.ready) {
        format!("proxy_pass http://{name};")
    } else {
        format!("return 503; # {name}")
    };
    let domains: BTreeSet<&String> = routes.iter().map(|route| &route.domain).collect();
    for domain in domains {
        parts.push(part(HTTP, format!("4 server {domain} 1"), head(settings, binds, domain)));
        parts.push(part(HTTP, format!("4 server {domain} 3"), "}\n"));
    }
    parts.extend(routes.into_iter().map(|route| location(route, &action)));
    Ok(parts)
}

/// How long a connection to an instance rests: most servers close one after 5 s or later, and a request that meets the close
/// and may not be repeated would be lost.
const IDLE: &str = "4s";

/// The lines of a domain's server before its locations; what an `http` block of the operator's sets for these is not ours to
/// change, so they stand here.
fn head(settings: &Settings, binds: &Binds, domain: &str) -> String {
    let listen = lines::listen(&binds.0, "");
    let Settings { connect_timeout, client_max_body_size, default_status, server_lines, .. } = settings;
    let ours = [
        // For paths that no service has, where nginx would look for files.
        format!("try_files /.nobody ={default_status};"),
        format!("client_max_body_size {};", client_max_body_size.0),
        format!("proxy_connect_timeout {};", connect_timeout.0),
        format!("proxy_next_upstream_tries {TRIES};"),
    ];
    let lines = lines::merged("    ", ours.iter().map(String::as_str).chain(PROXY), server_lines);
    format!("\nserver {{\n{listen}    server_name {};\n{lines}", names::server_name(domain))
}

/// Instances that one request is sent to at most. nginx tries the next one when it cannot connect or gets no answer, the
/// latter not for requests that may do something twice.
const TRIES: u32 = 3;

/// The client's Host goes on with its port, for applications that write whole addresses.
const PROXY: [&str; 7] = [
    "proxy_http_version 1.1;",
    "proxy_set_header Host $waypost_host;",
    "proxy_set_header X-Real-IP $remote_addr;",
    "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
    "proxy_set_header X-Forwarded-Proto $scheme;",
    "proxy_set_header Upgrade $http_upgrade;",
    "proxy_set_header Connection $waypost_connection;",
];

/// The locations of a path: itself and what is below it. The key is what it claims.
fn location(route: &Route, action: &str) -> Part {
    let Route { domain, path } = route;
    let block = |uri: &str| match action.split_once(" # ") {
        Some((action, name)) => format!("    location {uri} {{ {action} }} # {name}\n"),
        None => format!("    location {uri} {{ {action} }}\n"),
    };
    let text = match path.as_str() {
        "" => block("/"),
        path => block(&format!("= {path}")) + &block(&format!("{path}/")),
    };
    part(HTTP, format!("4 server {domain} 2 location {path}/"), text)
}
