//! Values that cannot be built wrong: what they refuse, the reader reports with its place.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// Address other hosts reach published ports at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advertise {
    /// This address.
    Address(IpAddr),
    /// The first address of this interface.
    Interface(String),
    /// The first address of this host within this network.
    Network(IpNet),
}

impl<'de> Deserialize<'de> for Advertise {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AdvertiseReader)
    }
}

/// Not an untagged enum, which would not name the key.
struct AdvertiseReader;

impl<'de> Visitor<'de> for AdvertiseReader {
    type Value = Advertise;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an IP address, { interface = \"eth1\" } or { network = \"10.0.0.0/8\" }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Advertise, E> {
        let expected = &self as &dyn de::Expected;
        let wrong = |_| E::custom(format_args!("found {text:?}, expected {expected}"));
        text.parse().map(Advertise::Address).map_err(wrong)
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Advertise, M::Error> {
        match AdvertiseTable::deserialize(MapAccessDeserializer::new(map))? {
            AdvertiseTable { interface: Some(name), network: None } => Ok(Advertise::Interface(name)),
            AdvertiseTable { interface: None, network: Some(Network(network)) } => Ok(Advertise::Network(network)),
            _ => Err(de::Error::custom(format_args!("expected {}", &self as &dyn de::Expected))),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdvertiseTable {
    interface: Option<String>,
    network: Option<Network>,
}

/// A network, whose error shows the form.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Network(IpNet);

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Network).map_err(|_| format!("found {text:?}, expected a form like \"10.0.0.0/8\""))
    }
}

/// A length of time above zero, written like `"30s"` or `"500ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawPeriod")]
pub struct Period(pub Duration);

/// How long something stays; `"0s"` for not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawPeriod")]
pub struct Linger(pub Duration);

impl TryFrom<RawPeriod> for Linger {
    type Error = String;

    fn try_from(RawPeriod::Text(text): RawPeriod) -> Result<Self, String> {
        let wrong = |_| format!("found {text:?}, expected a time like \"10m\", or \"0s\" for none");
        humantime::parse_duration(&text).map(Linger).map_err(wrong)
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a time in quotes, like \"30s\" or \"500ms\"")]
enum RawPeriod {
    Text(String),
}

impl TryFrom<RawPeriod> for Period {
    type Error = String;

    fn try_from(RawPeriod::Text(text): RawPeriod) -> Result<Self, String> {
        let duration = humantime::parse_duration(&text).ok().filter(|duration| !duration.is_zero());
        duration
            .map(Period)
            .ok_or_else(|| format!("found {text:?}, expected a time above zero like \"30s\" or \"500ms\""))
    }
}

/// Where an etcd server listens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint(pub String);

impl TryFrom<String> for Endpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let known = ["http://", "https://"];
        let good = known.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()));
        let clean = !text.chars().any(|c| c.is_whitespace() || c.is_control());
        if good && clean {
            return Ok(Endpoint(text));
        }
        Err(format!("found {text:?}, expected a URL like \"http://127.0.0.1:2379\""))
    }
}

/// Where a container engine listens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct EngineEndpoint(pub String);

impl TryFrom<String> for EngineEndpoint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let known = ["unix://", "http://", "tcp://"];
        if known.iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty())) {
            return Ok(EngineEndpoint(text));
        }
        Err(format!("found {text:?}, expected unix://PATH, http://HOST:PORT or tcp://HOST:PORT"))
    }
}

/// `ETCD_HOST` as docker-register takes it: `host[:port]`, default port 4001; a URL is fine too.
pub(super) fn etcd_host(text: &str) -> Option<Endpoint> {
    let text = text.trim();
    if text.contains("://") {
        return Endpoint::try_from(text.to_owned()).ok();
    }
    let has_port = text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let url = if has_port { format!("http://{text}") } else { format!("http://{text}:4001") };
    Endpoint::try_from(url).ok()
}

/// A service name in which `*` stands for any text.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(pub globset::GlobMatcher);

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let glob = globset::Glob::new(&text).map_err(|error| format!("found {text:?}: {}", error.kind()))?;
        Ok(Pattern(glob.compile_matcher()))
    }
}

/// A program and its arguments; no shell is involved.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Argv(pub Vec<String>);

impl TryFrom<Vec<String>> for Argv {
    type Error = &'static str;

    fn try_from(words: Vec<String>) -> Result<Self, Self::Error> {
        match words.first() {
            Some(program) if !program.is_empty() => Ok(Argv(words)),
            _ => Err("found no program, expected a list like [\"haproxy\", \"-c\", \"-f\", \"{dir}/haproxy.cfg\"]"),
        }
    }
}

/// A path that starts at the root.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "PathBuf")]
pub struct AbsolutePath(pub PathBuf);

impl TryFrom<PathBuf> for AbsolutePath {
    type Error = String;

    fn try_from(path: PathBuf) -> Result<Self, String> {
        if path.is_absolute() {
            return Ok(AbsolutePath(path));
        }
        Err(format!("found \"{}\", expected an absolute path", path.display()))
    }
}

/// SHA-256 of a file, in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest(pub String);

impl TryFrom<String> for Digest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Digest(text.to_ascii_lowercase()));
        }
        Err(format!("found {text:?}, expected 64 hexadecimal digits"))
    }
}
