//! Parses the addresses that a proxy listens on, and finds conflicts between them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

use crate::{check, show};

/// An address that a proxy listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// `*`: every IPv4 address.
    Any,
    /// This address.
    Ip(IpAddr),
}

impl Host {
    /// Parses `*`, or an IP address with or without brackets.
    fn parse(text: &str, zero_is_any: bool) -> Option<Self> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        match bare.parse() {
            _ if text == "*" => Some(Host::Any),
            Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) if zero_is_any => Some(Host::Any),
            parsed => parsed.ok().map(Host::Ip),
        }
    }

    /// Returns whether a proxy cannot listen on one port of both.
    fn overlaps(self, other: Host, dual_stack: bool) -> bool {
        let every_v4 = |host| matches!(host, Host::Any | Host::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        let every_v6 = |host| host == Host::Ip(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let v4 = |host| matches!(host, Host::Any | Host::Ip(IpAddr::V4(_)));
        let covers = |one, other| (every_v4(one) && v4(other)) || (every_v6(one) && (dual_stack || !v4(other)));
        self == other || covers(self, other) || covers(other, self)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Any => f.write_str("*"),
            Host::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// An address and a port to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Address.
    pub host: Host,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Addresses to listen on: [`Host`]s or [`Bind`]s, separated by `,` in the settings. A `DISTINCT` list, for a proxy that refuses
/// an address given twice, contains no address twice and reads `0.0.0.0` as `*`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String", bound = "Self: TryFrom<String, Error = String>")]
pub struct List<T, const DISTINCT: bool>(pub Vec<T>);

impl<T: PartialEq, const DISTINCT: bool> List<T, DISTINCT> {
    fn read(text: &str, item: impl Fn(&str) -> Option<T>, examples: &str) -> Result<Self, String> {
        let items: Option<Vec<T>> = text.split(',').map(|text| item(text.trim())).collect();
        let differ = |items: &Vec<T>| items.iter().enumerate().all(|(index, item)| !items[..index].contains(item));
        items.filter(|items| !DISTINCT || differ(items)).map(List).ok_or_else(|| {
            let different = if DISTINCT { "different " } else { "" };
            format!("found {}, expected {different}addresses such as {examples}", show(text))
        })
    }
}

impl<const DISTINCT: bool> List<Host, DISTINCT> {
    /// Returns these addresses, each with the port.
    pub fn at(&self, port: u16) -> List<Bind, DISTINCT> {
        List(self.0.iter().map(|&host| Bind { host, port }).collect())
    }
}

impl<const DISTINCT: bool> TryFrom<String> for List<Host, DISTINCT> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::read(&text, |item| Host::parse(item, DISTINCT), r#""*", "127.0.0.1" or "::1""#)
    }
}

impl<const DISTINCT: bool> TryFrom<String> for List<Bind, DISTINCT> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bind = |item: &str| {
            let (host, port) = item.rsplit_once(':')?;
            let bare_v6 = host.contains(':') && !host.starts_with('[');
            let host = Host::parse(host, DISTINCT).filter(|_| !bare_v6)?;
            Some(Bind { host, port: check::parse_port(port)? })
        };
        Self::read(&text, bind, r#""*:80", "10.0.0.1:80" or "[::1]:80""#)
    }
}

impl<T: fmt::Display, const DISTINCT: bool> fmt::Display for List<T, DISTINCT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&items.join(","))
    }
}

/// Returns the first of `binds` that a proxy cannot listen on beside `taken`. With `dual_stack`, `[::]` includes all IPv4
/// addresses.
pub fn first_taken<'a>(binds: &'a [Bind], taken: &[Bind], dual_stack: bool) -> Option<&'a Bind> {
    let overlaps = |one: &Bind, other: &Bind| one.port == other.port && one.host.overlaps(other.host, dual_stack);
    binds.iter().find(|bind| taken.iter().any(|taken| overlaps(taken, bind)))
}

/// Checks that none of a service's `binds` conflicts with the addresses `taken` by a part of the proxy itself: the name of that
/// part, and the setting with its addresses.
///
/// # Errors
/// Names the port, the part that has it, and what to do.
pub fn refuse_taken(
    binds: &[Bind],
    taken: &[Bind],
    dual_stack: bool,
    (holder, setting): (&str, &str),
) -> Result<(), String> {
    match first_taken(binds, taken, dual_stack) {
        Some(bind) => Err(format!(
            "its listen-port {} belongs to {holder} (setting `{setting}`); give the service another listen-port, or \
             change the setting",
            bind.port
        )),
        None => Ok(()),
    }
}
