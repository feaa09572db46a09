//! What the operator may set.

use serde::Deserialize;
use waypost_plugin_sdk::{check, settings, show};

/// Settings of the layout `skydns`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Domain that all names end in; names that do not yet get it appended.
    pub zone: Option<String>,
    /// Seconds that an answer may be kept; without it, servers take the number of the lease for it.
    pub ttl: u32,
    /// Address that all names answer instead of the instances' own.
    pub host: Option<String>,
    /// First segment of all keys.
    pub prefix: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { zone: None, ttl: 30, host: None, prefix: "skydns".to_owned() }
    }
}

impl settings::Settings for Settings {
    fn check(&self) -> Result<(), String> {
        let wrong = |key, found: &str, expected| Err(format!("{key}: found {}, expected {expected}", show(found)));
        match (&self.zone, &self.host) {
            (Some(zone), _) if !is_zone(zone) => wrong("zone", zone, "a domain name in lower case"),
            (_, Some(host)) if !check::is_host(host) => wrong("host", host, "an IP address or a host name"),
            _ if self.ttl == 0 => wrong("ttl", "0", "at least 1 second"),
            _ if !check::is_segment(&self.prefix) => wrong("prefix", &self.prefix, "one segment of a key"),
            _ => Ok(()),
        }
    }
}

fn is_zone(zone: &str) -> bool {
    check::is_host(zone) && zone.split('.').all(check::is_label) && !zone.contains(|c: char| c.is_ascii_uppercase())
}
