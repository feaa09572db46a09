//! The configuration file as strict structs with their defaults.
//!
//! Unknown keys are errors, and every error names file, line, key, what was found and what is expected.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

mod access;
mod discover;
mod read;
mod reload;
#[cfg(test)]
mod tests;
mod value;

pub use access::{Mode, Owner};
pub use discover::{Discover, SelfPreservation};
pub use read::ConfigError;
pub use reload::{ContainerReload, Reload};
pub use value::{Advertise, Argv, Endpoint, EngineEndpoint, Linger, Pattern, Period, Source};

/// Everything an operator can set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// The agent itself.
    pub agent: Agent,
    /// The container engine.
    pub docker: Docker,
    /// Where hosts meet.
    pub registry: Registry,
    /// How the catalog is read.
    pub discover: Discover,
    /// What any plugin may use.
    pub plugins: Plugins,
    /// In order; the first that finds an instance in a container wins.
    pub grouping: Vec<Stage>,
    /// All of them write; the first is read, others with `read = true`.
    pub layout: Vec<Layout>,
    /// Files and the proxies that read them.
    pub output: Vec<Output>,
}

/// The agent itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Agent {
    /// Unique among the hosts that share a registry; default: the host name.
    pub node: Option<String>,
    /// Address other hosts reach published ports at; default: `HOST_IP`, else the route outward.
    pub advertise: Option<Advertise>,
    /// Where the lease, compiled plugins and the stats socket are kept.
    pub state_dir: PathBuf,
    /// Whether containers of this host are registered.
    pub register: bool,
    /// Whether outputs are rendered.
    pub discover: bool,
    /// What happens to registrations when the agent is asked to stop.
    pub on_stop: OnStop,
}

/// What happens to registrations when the agent is asked to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnStop {
    /// They are taken back at once.
    #[default]
    Withdraw,
    /// They stay until the lease ends, for the next process to take over.
    Leave,
}

impl Default for Agent {
    fn default() -> Self {
        Agent {
            node: None,
            advertise: None,
            state_dir: PathBuf::from("/var/lib/waypost"),
            register: true,
            discover: true,
            on_stop: OnStop::Withdraw,
        }
    }
}

/// The container engine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Docker {
    /// `unix://`, `http://` or `tcp://`.
    pub endpoint: EngineEndpoint,
    /// How often the whole list is compared, in case an event was lost.
    pub resync: Period,
}

impl Default for Docker {
    fn default() -> Self {
        Docker {
            endpoint: EngineEndpoint("unix:///var/run/docker.sock".into()),
            resync: Period(Duration::from_secs(30)),
        }
    }
}

/// Kinds of registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegistryKind {
    /// One process is both ends; a single host needs nothing else.
    Memory,
    /// etcd, API version 3.
    Etcd,
}

/// Where hosts meet.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Registry {
    /// Default: `etcd` when `endpoints` or `ETCD_HOST` is given, else `memory`.
    pub kind: Option<RegistryKind>,
    /// `http://` or `https://` addresses; default: `ETCD_HOST`, else `http://127.0.0.1:2379`.
    pub endpoints: Vec<Endpoint>,
    /// How long registrations outlive a killed agent.
    pub ttl: Period,
    /// User to sign in as.
    pub username: Option<String>,
    /// File whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// Certificate authority of the servers, PEM.
    pub ca_file: Option<PathBuf>,
    /// Client certificate, PEM.
    pub cert_file: Option<PathBuf>,
    /// Key of the client certificate, PEM.
    pub key_file: Option<PathBuf>,
}

impl Default for Registry {
    fn default() -> Self {
        Registry {
            kind: None,
            endpoints: Vec::new(),
            ttl: Period(Duration::from_secs(15)),
            username: None,
            password_file: None,
            ca_file: None,
            cert_file: None,
            key_file: None,
        }
    }
}

/// What any plugin may use.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Plugins {
    /// Memory of one plugin instance, in MiB, over all its memories.
    pub memory_mib: u32,
    /// Processor time of one call.
    pub deadline: Period,
    /// Time of one call, asleep or not.
    pub timeout: Period,
    /// Size of what one call may return, in MiB.
    pub result_mib: u32,
}

impl Default for Plugins {
    fn default() -> Self {
        Plugins {
            memory_mib: 64,
            deadline: Period(Duration::from_secs(1)),
            timeout: Period(Duration::from_secs(5)),
            result_mib: 8,
        }
    }
}

/// A plugin and its settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "value::RawStage")]
pub struct Stage {
    /// Which plugin.
    pub source: Source,
    /// Its settings, a JSON object.
    pub settings: serde_json::Value,
}

/// A layout and whether it is read.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "value::RawLayout")]
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
#[serde(try_from = "value::RawOutput")]
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
    /// Its stats socket, absolute.
    pub socket: PathBuf,
    /// How often it is asked about all services though nothing changed.
    #[serde(default = "value::five_minutes")]
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

impl Config {
    /// Reads a file; `environment` supplies `HOST_IP` and `ETCD_HOST` where the file is silent.
    ///
    /// # Errors
    /// Names file, line, key, what was found and what is expected.
    pub fn read(path: &Path, environment: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
        Self::parse(&text, path, environment)
    }

    /// The same from text; `path` is for messages only.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn parse(text: &str, path: &Path, environment: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut config = read::parse(text, path)?;
        config.apply_environment(environment)?;
        config.apply_defaults();
        config.check_together().map_err(|(key, wrong)| ConfigError::in_text(path, text, &key, &wrong))?;
        Ok(config)
    }

    fn apply_environment(&mut self, environment: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        let set = |name: &str| environment.get(name).filter(|value| !value.trim().is_empty());
        if let (None, Some(host)) = (&self.agent.advertise, set("HOST_IP")) {
            let address =
                host.trim().parse().map_err(|_| ConfigError::environment("HOST_IP", host, "an IP address"))?;
            self.agent.advertise = Some(Advertise::Address(address));
        }
        if let (true, Some(host)) = (self.registry.endpoints.is_empty(), set("ETCD_HOST")) {
            let expected = "HOST, HOST:PORT or a URL";
            let endpoint =
                value::etcd_host(host).ok_or_else(|| ConfigError::environment("ETCD_HOST", host, expected))?;
            self.registry.endpoints.push(endpoint);
        }
        Ok(())
    }

    /// What each key may be alone but not beside the others: key and what is wrong.
    fn check_together(&self) -> Result<(), (String, String)> {
        let wrong = |key: &str, text: &str| Err((key.to_owned(), text.to_owned()));
        let registry = &self.registry;
        if registry.kind == Some(RegistryKind::Memory) && !registry.endpoints.is_empty() {
            return wrong("registry.endpoints", "found kind = \"memory\" beside it, expected kind = \"etcd\" or none");
        }
        if registry.kind == Some(RegistryKind::Memory) && !self.agent.register && self.agent.discover {
            return wrong(
                "agent.register",
                "found false with the embedded registry, which then stays empty; expected kind = \"etcd\"",
            );
        }
        if self.agent.discover && !self.layout.iter().enumerate().any(|(index, one)| one.read.unwrap_or(index == 0)) {
            return wrong(
                "layout[0]",
                "no layout is read; expected read = true in one of them, or agent.discover = false",
            );
        }
        for (index, output) in self.output.iter().enumerate() {
            if self.output[..index].iter().any(|earlier| earlier.directory == output.directory) {
                let text =
                    format!("found directory \"{}\" twice, expected one for each output", output.directory.display());
                return Err((format!("output[{index}]"), text));
            }
        }
        Ok(())
    }

    fn apply_defaults(&mut self) {
        if self.grouping.is_empty() {
            self.grouping = ["labels", "announce", "image"].map(Stage::shipped).into();
        }
        if self.layout.is_empty() {
            self.layout.push(Layout { stage: Stage::shipped("json"), read: None, write: true });
        }
        let any_endpoint = !self.registry.endpoints.is_empty();
        let kind =
            *self.registry.kind.get_or_insert(if any_endpoint { RegistryKind::Etcd } else { RegistryKind::Memory });
        if kind == RegistryKind::Etcd && !any_endpoint {
            self.registry.endpoints.push(Endpoint("http://127.0.0.1:2379".into()));
        }
    }
}
