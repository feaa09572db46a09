//! Checks names, domains, paths and addresses: only what HAProxy accepts gets into a file.

use std::fmt;
use std::net::IpAddr;

use waypost_plugin_sdk::layout::authority;
use waypost_plugin_sdk::proxy::route;
use waypost_plugin_sdk::{check, show};

pub use waypost_plugin_sdk::proxy::route::parse_domain as domain;

/// Longest path of a route, in bytes; a request line has to fit HAProxy's 16 KiB buffer.
const PATH_LIMIT: usize = 1024;

/// The value in `routes.map` for a domain without its root path: the domain is known, and no service has this name.
pub(crate) const NOBODY: &str = ".";

/// Name of the frontend that all http services share.
pub const HTTP_FRONTEND: &str = "http-in";
/// Name of the statistics page's section.
pub const STATISTICS: &str = "waypost-stats";
/// Name of the `defaults` section.
pub const DEFAULTS: &str = "waypost";
/// Prefix of the names of standby backends; a number follows.
pub const STANDBY: &str = "waypost-standby-";
/// Prefix of the names of prepared servers; a number follows.
pub const SLOT: &str = "waypost-slot-";

/// Returns whether `invalid_char()` of HAProxy accepts all characters.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'.' | b'-'))
}

/// Returns the name of a service's section: the service's name, with `/` written as `_`.
///
/// # Errors
/// Says which names HAProxy accepts.
pub fn proxy(service: &str) -> Result<String, String> {
    let name = service.replace('/', "_");
    if !is_name(&name) {
        return Err("HAProxy takes names of A-Z a-z 0-9 _ : . - (and `/`, written as `_`)".to_owned());
    }
    if name == HTTP_FRONTEND || name == STATISTICS || name == NOBODY || name.starts_with(STANDBY) {
        return Err(format!("the name {name} belongs to a section of Waypost's own"));
    }
    Ok(name)
}

/// Returns the name of an instance's server: its id.
///
/// # Errors
/// Says which ids HAProxy accepts.
pub fn server(id: &str) -> Result<&str, String> {
    if !is_name(id) {
        return Err("HAProxy takes ids of A-Z a-z 0-9 _ : . -".to_owned());
    }
    if id.starts_with(SLOT) {
        Err(format!("ids that begin with {SLOT} belong to Waypost's own servers"))
    } else {
        Ok(id)
    }
}

/// Parses a path by [`route::parse_path`].
///
/// # Errors
/// Says what was found and what is expected.
pub fn path(text: &str) -> Result<&str, String> {
    route::parse_path(text, PATH_LIMIT)
}

/// The address and port of a server; displayed as HAProxy writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// An IP address, or a host name, which HAProxy has to look up.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether the host is a name.
    pub is_name: bool,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&authority(&self.host, self.port))
    }
}

/// Checks the address and port of a server.
///
/// # Errors
/// Says what was found and what is expected.
pub fn endpoint(address: &str, port: u16) -> Result<Endpoint, String> {
    if port == 0 {
        return Err("its port is 0, which HAProxy takes for the port that the client asked for".to_owned());
    }
    match address.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => {
            Err(format!("its address {ip} is nobody's; HAProxy takes it for the address that the client asked for"))
        }
        Ok(ip) => Ok(Endpoint { host: ip.to_string(), port, is_name: false }),
        Err(_) if is_host(address) => Ok(Endpoint { host: address.to_owned(), port, is_name: true }),
        Err(_) => Err(format!("its address {} is neither an IP address nor a host name", show(address))),
    }
}

/// Returns whether HAProxy reads it as a host name. A leading `_` would ask DNS for a service record.
fn is_host(text: &str) -> bool {
    check::is_host_name(text) && !text.starts_with('_')
}
