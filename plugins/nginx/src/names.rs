//! Checks names, domains, paths and addresses: only what nginx accepts gets into a file.

use std::net::IpAddr;

use waypost_plugin_sdk::layout::authority;
use waypost_plugin_sdk::proxy::route;
use waypost_plugin_sdk::{check, show};

pub use waypost_plugin_sdk::proxy::route::parse_domain as domain;

/// Longest path of a location, in bytes: nginx before 1.23.4 keeps the length of a location, with a `/` after the
/// path, in one byte.
const PATH_LIMIT: usize = 254;
/// Longest domain that fits into a bucket of nginx's table of server names at its default size (64 bytes, of which 16 are
/// pointers and 2 the length).
const TABLE_LIMIT: usize = 46;

/// Returns the name of a service's upstream, without its suffix: the service's name in lower case, because nginx does not
/// distinguish `A` from `a`, with `/` and `:` written as `_`. All upstreams share a suffix and not a prefix: nginx compares each
/// with each, and a common prefix makes that up to eight times as long (10,000 upstreams: 8.3 s, not 1.1 s).
///
/// # Errors
/// Says which names nginx accepts.
pub fn upstream(service: &str) -> Result<String, String> {
    let name = service.to_ascii_lowercase().replace(['/', ':'], "_");
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        Ok(name)
    } else {
        Err("nginx takes names of A-Z a-z 0-9 _ . - (and `/` and `:`, written as `_`)".to_owned())
    }
}

/// Renders a domain for `server_name`. nginx's own `*.` matches any number of labels, and a long name needs a larger table than
/// the operator's `http` block may have: both become regular expressions, which nginx tries last.
pub(crate) fn server_name(domain: &str) -> String {
    let quoted = |text: &str| text.replace('.', "\\.");
    match domain.strip_prefix("*.") {
        Some(rest) => format!("~^[^.]+\\.{}$", quoted(rest)),
        None if domain.len() > TABLE_LIMIT => format!("~^{}$", quoted(domain)),
        None => domain.to_owned(),
    }
}

/// Parses a path by [`route::parse_path`].
///
/// # Errors
/// Says what was found and what is expected.
pub fn path(text: &str) -> Result<&str, String> {
    route::parse_path(text, PATH_LIMIT).map_err(|why| format!("{why}, of at most {PATH_LIMIT} bytes"))
}

/// Renders an address and a port, with an IPv6 address in brackets.
///
/// # Errors
/// Says what was found and what is expected. A host name is an error unless `host_names` is set.
pub fn endpoint(address: &str, port: u16, host_names: bool) -> Result<String, String> {
    if port == 0 {
        return Err("its port is 0, expected 1 to 65535".to_owned());
    }
    match address.parse::<IpAddr>() {
        Ok(ip) if ip.is_unspecified() => Err(format!("its address {ip} is nobody's")),
        Ok(ip) => Ok(authority(&ip.to_string(), port)),
        Err(_) if !check::is_host_name(address) => {
            Err(format!("its address {} is neither an IP address nor a host name", show(address)))
        }
        Err(_) if !host_names => Err(format!(
            "its address {} is a host name, which nginx would look up at every start and refuse all files when nobody \
             knows it; register IP addresses, or set `host-names`",
            show(address)
        )),
        Err(_) => Ok(format!("{address}:{port}")),
    }
}

/// Renders an instance's id as a comment; nothing when the id has characters that a comment must not have.
pub(crate) fn comment(id: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'.' | b'-');
    if !id.is_empty() && id.bytes().all(plain) { format!(" # {id}") } else { String::new() }
}
