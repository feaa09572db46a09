//! Names and values from containers are hostile until they passed here.

use std::net::IpAddr;

use crate::{PluginError, refuse, show};

/// Longest service name and domain, in bytes: that of a DNS name.
const NAME_LIMIT: usize = 253;
/// Longest other value, in bytes; more than any person writes.
const TEXT_LIMIT: usize = 4096;

/// Checks a service name: letters, digits, `.`, `_`, `-`, and `/` between segments.
///
/// # Errors
/// `invalid-input`, naming `what`.
pub fn service(what: &str, value: &str) -> Result<(), PluginError> {
    let expected = "a service name: ASCII letters, digits, `.`, `_`, `-`, and `/` between such segments";
    expect(what, value, expected, NAME_LIMIT, value.split('/').all(is_segment))
}

/// Checks one segment of a path or an id: letters, digits, `.`, `_`, `-`, but not only dots.
///
/// # Errors
/// `invalid-input`, naming `what`.
pub fn segment(what: &str, value: &str) -> Result<(), PluginError> {
    expect(what, value, "ASCII letters, digits, `.`, `_` and `-`", NAME_LIMIT, is_segment(value))
}

/// Reads a port number.
///
/// # Errors
/// `invalid-input`, naming `what`.
pub fn port(what: &str, value: &str) -> Result<u16, PluginError> {
    match parse_port(value) {
        Some(port) => Ok(port),
        None => refuse(format!("{what} is {}, expected a port number from 1 to 65535", show(value))),
    }
}

/// A port number from 1 to 65535, if it is one.
pub fn parse_port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|&port| port > 0)
}

/// Checks that a value is short text of which `valid` holds.
///
/// # Errors
/// `invalid-input`, naming `what` and what is `expected`.
pub fn text(what: &str, value: &str, expected: &str, valid: bool) -> Result<(), PluginError> {
    expect(what, value, expected, TEXT_LIMIT, valid)
}

fn expect(what: &str, value: &str, expected: &str, limit: usize, valid: bool) -> Result<(), PluginError> {
    if value.len() > limit {
        return refuse(format!("{what} has {} bytes, expected at most {limit}: {}", value.len(), show(value)));
    }
    if valid { Ok(()) } else { refuse(format!("{what} is {}, expected {expected}", show(value))) }
}

/// Whether it is a plain segment: `a-z`, `A-Z`, `0-9`, `.`, `_`, `-`, not empty and not only dots.
pub fn is_segment(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && text.bytes().any(|b| b != b'.')
}

/// Whether it is a domain name, with or without a first label `*`.
pub fn is_domain(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    text.len() <= NAME_LIMIT && name.split('.').all(is_label)
}

/// Whether it is one label of a DNS name as servers take it: up to 63 letters, digits, `_` and inner `-`.
pub fn is_label(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    plain && (1..=63).contains(&text.len()) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether it is an IP address or a host name.
pub fn is_host(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || (!text.starts_with('*') && is_domain(text))
}

/// Whether it is a host name whose last label has a letter, so that no proxy reads it as an old form of IPv4 address.
pub fn is_host_name(text: &str) -> bool {
    let has_letter = |label: &str| label.bytes().any(|b| b.is_ascii_alphabetic());
    !text.starts_with('*') && is_domain(text) && text.rsplit('.').next().is_some_and(has_letter)
}
