//! Reads the routes of http services: domains and paths.

use std::collections::BTreeSet;

use crate::{Instance, Service, attributes, check, show};

/// Most domains times paths of one instance.
const ROUTES_LIMIT: usize = 256;

/// The refusal of an http service without a domain.
pub const NO_DOMAIN: &str = "it speaks http, but no instance has the attribute domain, and the service's name is no \
                             domain name such as web.example.com";
/// The refusal of an http service where the proxy does not listen for http.
pub const NO_LISTENER: &str = "it speaks http, and the setting `http-bind` is \"off\"";

/// A domain and a path of it whose requests belong to a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// In lower case; `*.` stands for one label.
    pub domain: String,
    /// Without a final `/`; empty for all paths.
    pub path: String,
}

impl Route {
    /// Returns the claim to this route: `domain D`, or `domain D path /P`.
    pub fn claim(&self) -> String {
        let Route { domain, path } = self;
        if path.is_empty() { format!("domain {domain}") } else { format!("domain {domain} path {path}") }
    }
}

/// Reads the routes that an instance asks for by its attributes `domain` and `path`; none when it names no domain and the
/// service's name is no domain either. `path` parses a path, by the proxy's own limit.
///
/// # Errors
/// Says what was found and what is expected.
pub fn read(
    service: &Service,
    instance: &Instance,
    path: impl Fn(&str) -> Result<&str, String>,
) -> Result<Vec<Route>, String> {
    let list = |name| attributes::items(attributes::get(&instance.attributes, name).unwrap_or_default());
    let mut domains = list("domain").map(parse_domain).collect::<Result<BTreeSet<String>, String>>()?;
    if domains.is_empty() {
        domains.extend(parse_domain(&service.name));
    }
    let mut paths = list("path").map(path).collect::<Result<BTreeSet<&str>, String>>()?;
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

/// Parses a domain, and returns it in lower case; `*.` may stand for exactly one label.
///
/// # Errors
/// Says what was found and what is expected.
pub fn parse_domain(text: &str) -> Result<String, String> {
    if check::is_domain(text) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("domain {} is no domain name such as web.example.com or *.example.com", show(text)))
    }
}

/// Parses a path of at most `limit` bytes, and returns it without its last `/`: `/` is empty and `/api/` is `/api`.
///
/// # Errors
/// Says what was found and what is expected, but not the limit.
pub fn parse_path(text: &str, limit: usize) -> Result<&str, String> {
    let bare = text.strip_suffix('/').unwrap_or(text);
    let segment = |s: &str| {
        !matches!(s, "" | "." | "..")
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~'))
    };
    match bare.strip_prefix('/') {
        None if text == "/" => Ok(bare),
        Some(segments) if bare.len() <= limit && segments.split('/').all(segment) => Ok(bare),
        _ => Err(format!("path {} is no path such as /api of letters, digits and - . _ ~", show(text))),
    }
}
