//! Plugins with their settings, and what layouts and outputs have besides.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::access::{Mode, Owner};
use super::reload::Reload;
use super::value::{AbsolutePath, Argv, Digest, Linger, Pattern, Period};

/// A plugin and its settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawStage")]
pub struct Stage {
    /// Which plugin.
    pub source: Source,
    /// Its settings, a JSON object.
    pub settings: serde_json::Value,
}

/// Which plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One that is built into the agent.
    Shipped(String),
    /// A file and, when given, the digest it must have.
    File(PathBuf, Option<Digest>),
}

/// A layout and whether it is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawLayout")]
pub struct Layout {
    /// The plugin.
    pub stage: Stage,
    /// Whether the catalog is read from it; default: only the first.
    pub read: Option<bool>,
    /// Whether registrations are written in it.
    pub write: bool,
}

/// Files and the proxy that reads them.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawOutput")]
pub struct Output {
    /// The plugin.
    pub stage: Stage,
    /// Directory the files are written to, absolute.
    pub directory: PathBuf,
    /// Services it takes, besides what containers of this host want; default: all.
    pub services: Option<Vec<Pattern>>,
    /// Mode of the files; default: that of the file that is replaced, else 0644.
    pub mode: Option<Mode>,
    /// User and group of the files; default: those of the file that is replaced, else the agent's.
    pub owner: Option<Owner>,
    /// Command that judges a candidate; `{dir}` is its directory.
    pub check: Option<Argv>,
    /// Whether addresses that the files newly bind are tried before the proxy is told.
    pub bind_check: bool,
    /// How the proxy takes the files up.
    pub reload: Option<Reload>,
    /// How the running proxy takes changes without a reload.
    pub live: Option<Live>,
    /// Quiet time before a storm of changes is rendered, and the longest it may be put off.
    pub debounce: Debounce,
    /// How long what leads to a service outlives its last instance, and answers that nobody is there.
    pub linger: Linger,
    /// Time limit of one check or reload.
    pub timeout: Period,
    /// Least time between two reloads.
    pub min_interval: Period,
}

/// How the running proxy takes changes without a reload.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", expecting = "{ socket = \"/run/waypost/haproxy.sock\" }")]
pub struct Live {
    /// Its stats socket.
    pub socket: AbsolutePath,
    /// How often it is asked about all services though nothing changed.
    #[serde(default = "five_minutes")]
    pub resync: Period,
}

/// Quiet time before a storm of changes is rendered, and the longest it may be put off.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Debounce {
    /// Quiet time.
    pub min: Period,
    /// The longest a change may wait.
    pub max: Period,
}

impl Default for Debounce {
    fn default() -> Self {
        Debounce { min: Period(Duration::from_millis(50)), max: Period(Duration::from_millis(500)) }
    }
}

impl Stage {
    /// A shipped plugin with its default settings.
    pub fn shipped(name: &str) -> Self {
        Stage { source: Source::Shipped(name.to_owned()), settings: serde_json::Map::new().into() }
    }
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
struct RawStage {
    plugin: Option<String>,
    path: Option<PathBuf>,
    sha256: Option<Digest>,
    #[serde(default)]
    settings: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawLayout {
    plugin: Option<String>,
    path: Option<PathBuf>,
    sha256: Option<Digest>,
    #[serde(default)]
    settings: serde_json::Map<String, serde_json::Value>,
    read: Option<bool>,
    #[serde(default = "yes")]
    write: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawOutput {
    plugin: Option<String>,
    path: Option<PathBuf>,
    sha256: Option<Digest>,
    #[serde(default)]
    settings: serde_json::Map<String, serde_json::Value>,
    directory: AbsolutePath,
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

fn five_minutes() -> Period {
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
    type Error = &'static str;

    fn try_from(raw: RawStage) -> Result<Self, Self::Error> {
        let RawStage { plugin, path, sha256, settings } = raw;
        let source = match (plugin, path, sha256) {
            (Some(name), None, None) => Source::Shipped(name),
            (None, Some(path), digest) => Source::File(path, digest),
            _ => return Err("expected either plugin = \"NAME\" or path = \"FILE\" with an optional sha256"),
        };
        Ok(Stage { source, settings: settings.into() })
    }
}

impl TryFrom<RawLayout> for Layout {
    type Error = &'static str;

    fn try_from(raw: RawLayout) -> Result<Self, Self::Error> {
        let RawLayout { plugin, path, sha256, settings, read, write } = raw;
        Ok(Layout { stage: RawStage { plugin, path, sha256, settings }.try_into()?, read, write })
    }
}

impl TryFrom<RawOutput> for Output {
    type Error = &'static str;

    fn try_from(raw: RawOutput) -> Result<Self, Self::Error> {
        let RawOutput { plugin, path, sha256, settings, .. } = raw;
        Ok(Output {
            stage: RawStage { plugin, path, sha256, settings }.try_into()?,
            directory: raw.directory.0,
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
