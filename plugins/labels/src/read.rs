//! From labels to checked values.

use std::collections::BTreeMap;

use waypost_plugin_sdk::attributes::items;
use waypost_plugin_sdk::{PluginError, Transport, check, refuse, show};

/// What the labels of one container say.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// The only port besides those that have labels of their own.
    pub(crate) port: Option<u16>,
    /// Values for all ports.
    pub(crate) common: Values,
    /// Values for single ports.
    pub(crate) ports: BTreeMap<u16, Values>,
}

/// What can be said of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Values {
    pub(crate) service: Option<String>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) listen_port: Option<u16>,
    pub(crate) weight: Option<u16>,
    pub(crate) domain: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) tags: Option<String>,
}

/// What is spoken at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Tcp,
    Udp,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    pub(crate) fn transport(self) -> Transport {
        if self == Self::Udp { Transport::Udp } else { Transport::Tcp }
    }
}

impl Labels {
    /// Reads every label below `waypost.` that is for this plugin; the others are the agent's.
    pub(crate) fn read(labels: &[(String, String)]) -> Result<Self, PluginError> {
        let mut read = Self::default();
        for (label, value) in labels {
            let Some(key) = label.strip_prefix("waypost.") else { continue };
            match key.split_once('.') {
                None if key == "port" => read.port = Some(check::port(&name(label), value)?),
                None => read.common.set(key, label, value)?,
                Some((port, key)) if port.starts_with(|c: char| c.is_ascii_digit()) => {
                    let port = check::port(&format!("the port in {}", name(label)), port)?;
                    read.ports.entry(port).or_default().set(key, label, value)?;
                }
                Some(_) => {}
            }
        }
        read.ports.retain(|_, values| *values != Values::default());
        Ok(read)
    }

    /// Whether no label says anything of a port.
    pub(crate) fn is_silent(&self) -> bool {
        self.port.is_none() && self.ports.is_empty() && self.common == Values::default()
    }

    /// All that is said of one port.
    pub(crate) fn of(&self, port: u16) -> Values {
        let common = self.common.clone();
        let Some(own) = self.ports.get(&port).cloned() else { return common };
        Values {
            service: own.service.or(common.service),
            protocol: own.protocol.or(common.protocol),
            listen_port: own.listen_port.or(common.listen_port),
            weight: own.weight.or(common.weight),
            domain: own.domain.or(common.domain),
            path: own.path.or(common.path),
            tags: own.tags.or(common.tags),
        }
    }
}

impl Values {
    fn set(&mut self, key: &str, label: &str, value: &str) -> Result<(), PluginError> {
        let what = name(label);
        match key {
            "service" => {
                check::service(&what, value)?;
                self.service = Some(value.to_owned());
            }
            "protocol" => self.protocol = Some(protocol(&what, value)?),
            "listen-port" => self.listen_port = Some(check::port(&what, value)?),
            "weight" => self.weight = Some(weight(&what, value)?),
            "domain" => {
                let domains = value.to_ascii_lowercase();
                self.domain = Some(list(&what, &domains, "domain names separated by `,`", check::is_domain)?);
            }
            "path" => self.path = Some(list(&what, value, "paths separated by `,`, each starting with `/`", is_path)?),
            "tags" => self.tags = Some(list(&what, value, "printable ASCII words separated by `,`", is_word)?),
            _ => {}
        }
        Ok(())
    }
}

/// How messages name a label; its name is hostile as well.
fn name(label: &str) -> String {
    let short: String = label.escape_debug().take(80).collect();
    format!("label {short}")
}

fn protocol(what: &str, value: &str) -> Result<Protocol, PluginError> {
    match value.to_ascii_lowercase().as_str() {
        "http" => Ok(Protocol::Http),
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        _ => refuse(format!("{what} is {}, expected http, tcp or udp", show(value))),
    }
}

fn weight(what: &str, value: &str) -> Result<u16, PluginError> {
    value.parse().or_else(|_| refuse(format!("{what} is {}, expected a number from 0 to 65535", show(value))))
}

/// A list with its items trimmed and empty ones left out.
fn list(what: &str, value: &str, expected: &str, valid: fn(&str) -> bool) -> Result<String, PluginError> {
    let items: Vec<&str> = items(value).collect();
    check::text(what, value, expected, !items.is_empty() && items.iter().all(|item| valid(item)))?;
    Ok(items.join(","))
}

/// The characters of a path by RFC 3986, less the quote.
fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-._~!$&()*+;=:@%".contains(&b))
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}
