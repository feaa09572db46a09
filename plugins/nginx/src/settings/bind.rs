//! Where nginx listens.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Deserialize;
use waypost_plugin_sdk::show;

/// Where nginx may listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// `*` or `0.0.0.0`: every IPv4 address.
    Any,
    /// This address.
    Ip(IpAddr),
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        match bare.parse() {
            _ if text == "*" => Some(Host::Any),
            Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) => Some(Host::Any),
            parsed => parsed.ok().map(Host::Ip),
        }
    }

    /// Whether both cannot listen on one port; `[::]` leaves the IPv4 addresses alone.
    pub fn overlaps(self, other: Host) -> bool {
        let every_v6 = |host| host == Host::Ip(IpAddr::V6(Ipv6Addr::UNSPECIFIED));
        let v6 = |host| matches!(host, Host::Ip(IpAddr::V6(_)));
        let covers = |one, other| (one == Host::Any && !v6(other)) || (every_v6(one) && v6(other));
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

impl Bind {
    /// Whether both cannot be listened on at once.
    pub fn overlaps(&self, other: &Bind) -> bool {
        self.port == other.port && self.host.overlaps(other.host)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Addresses with ports, separated by `,`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Binds(pub Vec<Bind>);

impl TryFrom<String> for Binds {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bind = |item: &str| {
            let (host, port) = item.trim().rsplit_once(':')?;
            let port = port.parse().ok().filter(|port| *port > 0)?;
            let bare_v6 = host.contains(':') && !host.starts_with('[');
            Host::parse(host).filter(|_| !bare_v6).map(|host| Bind { host, port })
        };
        let binds = text.split(',').map(bind).collect::<Option<Vec<Bind>>>().filter(|binds| differ(binds));
        binds.map(Binds).ok_or_else(|| {
            format!(
                "found {}, expected different addresses such as \"*:80\", \"10.0.0.1:80\" or \"[::1]:80\"",
                show(&text)
            )
        })
    }
}

/// Addresses, separated by `,`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Hosts(pub Vec<Host>);

impl TryFrom<String> for Hosts {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.split(',')
            .map(|item| Host::parse(item.trim()))
            .collect::<Option<Vec<Host>>>()
            .filter(|hosts| differ(hosts))
            .map(Hosts)
            .ok_or_else(|| {
                format!("found {}, expected different addresses such as \"*\", \"127.0.0.1\" or \"::1\"", show(&text))
            })
    }
}

/// nginx refuses an address that it is given twice.
fn differ<T: PartialEq>(items: &[T]) -> bool {
    items.iter().enumerate().all(|(index, item)| !items[..index].contains(item))
}
