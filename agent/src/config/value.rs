//! Values that cannot be built wrong: what they refuse, the reader reports with its place.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Debounce, Layout, Live, Mode, Output, Owner, Reload, Stage};

/// Address other hosts reach published ports at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawAdvertise")]
pub enum Advertise {
    /// This address.
    Address(IpAddr),
    /// The first address of this interface.
    Interface(String),
    /// The first address of this host within this network: base address and prefix length.
    Network(IpAddr, u8),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected an IP address, { interface = \"eth1\" } or { network = \"10.0.0.0/8\" }")]
enum RawAdvertise {
    Address(String),
    Interface { interface: String },
    Network { network: String },
}

impl TryFrom<RawAdvertise> for Advertise {
    type Error = String;

    fn try_from(raw: RawAdvertise) -> Result<Self, String> {
        match raw {
            RawAdvertise::Address(text) => text.parse().map(Advertise::Address).map_err(|_| {
                format!(
                    "found {text:?}, expected an IP address, {{ interface = \"eth1\" }} or {{ network = \"10.0.0.0/8\" }}"
                )
            }),
            RawAdvertise::Interface { interface } => Ok(Advertise::Interface(interface)),
            RawAdvertise::Network { network } => parse_network(&network)
                .ok_or_else(|| format!("found network {network:?}, expected a form like \"10.0.0.0/8\"")),
        }
    }
}

fn parse_network(text: &str) -> Option<Advertise> {
    let (base, length) = text.split_once('/')?;
    let (base, length): (IpAddr, u8) = (base.parse().ok()?, length.parse().ok()?);
    let most = if base.is_ipv4() { 32 } else { 128 };
    (length <= most).then_some(Advertise::Network(base, length))
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

/// Which plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One that is built into the agent.
    Shipped(String),
    /// A file and, when given, the digest it must have.
    File(PathBuf, Option<String>),
}

impl Source {
    /// The name that the plugin is known by.
    pub fn name(&self) -> String {
        match self {
            Source::Shipped(name) => name.clone(),
            Source::File(path, _) => {
                path.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy().into_owned())
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawStage {
    plugin: Option<String>,
    path: Option<PathBuf>,
    sha256: Option<String>,
    #[serde(default)]
    settings: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawLayout {
    plugin: Option<String>,
    path: Option<PathBuf>,
    sha256: Option<String>,
    #[serde(default)]
    settings: serde_json::Map<String, serde_json::Value>,
    read: Option<bool>,
    #[serde(default = "yes")]
    write: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawOutput {
    plugin: Option<String>,
    path: Option<PathBuf>,
    sha256: Option<String>,
    #[serde(default)]
    settings: serde_json::Map<String, serde_json::Value>,
    directory: PathBuf,
    services: Option<Vec<Pattern>>,
    mode: Option<Mode>,
    owner: Option<Owner>,
    check: Option<Argv>,
    #[serde(default = "yes")]
    bind_check: bool,
    reload: Option<Reload>,
    live: Option<Live>,
    #[serde(default)]
    debounce: Debounce,
    #[serde(default = "ten_minutes")]
    linger: Linger,
    #[serde(default = "ten_seconds")]
    timeout: Period,
    #[serde(default = "fifth_of_a_second")]
    min_interval: Period,
}

fn yes() -> bool {
    true
}

pub(super) fn five_minutes() -> Period {
    Period(Duration::from_mins(5))
}

fn ten_minutes() -> Linger {
    Linger(Duration::from_mins(10))
}

fn ten_seconds() -> Period {
    Period(Duration::from_secs(10))
}

/// HAProxy 2.6 loses a signal that comes within some 20 ms of the one before.
fn fifth_of_a_second() -> Period {
    Period(Duration::from_millis(200))
}

impl TryFrom<RawStage> for Stage {
    type Error = String;

    fn try_from(raw: RawStage) -> Result<Self, String> {
        let RawStage { plugin, path, sha256, settings } = raw;
        let source = match (plugin, path, sha256) {
            (Some(name), None, None) => Source::Shipped(name),
            (None, Some(path), digest) => Source::File(path, digest.as_deref().map(checked_digest).transpose()?),
            _ => return Err("expected either plugin = \"NAME\" or path = \"FILE\" with an optional sha256".to_owned()),
        };
        Ok(Stage { source, settings: settings.into() })
    }
}

fn checked_digest(text: &str) -> Result<String, String> {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(format!("found sha256 {text:?}, expected 64 hexadecimal digits"))
}

impl Stage {
    /// A shipped plugin with its default settings.
    pub fn shipped(name: &str) -> Self {
        Stage { source: Source::Shipped(name.to_owned()), settings: serde_json::Map::new().into() }
    }
}

impl TryFrom<RawLayout> for Layout {
    type Error = String;

    fn try_from(raw: RawLayout) -> Result<Self, String> {
        let RawLayout { plugin, path, sha256, settings, read, write } = raw;
        Ok(Layout { stage: RawStage { plugin, path, sha256, settings }.try_into()?, read, write })
    }
}

impl TryFrom<RawOutput> for Output {
    type Error = String;

    fn try_from(raw: RawOutput) -> Result<Self, String> {
        if !raw.directory.is_absolute() {
            return Err(format!("found directory \"{}\", expected an absolute path", raw.directory.display()));
        }
        if raw.debounce.max.0 < raw.debounce.min.0 {
            return Err("found debounce.max below debounce.min, expected max to be at least min".to_owned());
        }
        if let Some(live) = raw.live.as_ref().filter(|live| !live.socket.is_absolute()) {
            return Err(format!("found live.socket \"{}\", expected an absolute path", live.socket.display()));
        }
        let RawOutput { plugin, path, sha256, settings, .. } = raw;
        Ok(Output {
            stage: RawStage { plugin, path, sha256, settings }.try_into()?,
            directory: raw.directory,
            services: raw.services,
            mode: raw.mode,
            owner: raw.owner,
            check: raw.check,
            bind_check: raw.bind_check,
            reload: raw.reload,
            live: raw.live,
            debounce: raw.debounce,
            linger: raw.linger,
            timeout: raw.timeout,
            min_interval: raw.min_interval,
        })
    }
}
