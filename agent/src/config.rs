//! The configuration file as strict structs with their defaults.
//!
//! Unknown keys are errors, and every error names file, line, key, what was found and what is expected.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

mod access;
mod discover;
mod read;
mod reload;
mod renamed;
mod stage;
#[cfg(test)]
mod tests;
mod value;

pub use access::{Mode, Owner};
pub use discover::{Discover, SelfPreservation};
pub use read::ConfigError;
pub use reload::{ContainerReload, Reload};
pub use stage::{Debounce, Layout, Live, Output, Source, Stage};
pub use value::{AbsolutePath, Advertise, Argv, Digest, Endpoint, EngineEndpoint, Linger, Pattern, Period};

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
    /// Where all this is in the file.
    #[serde(skip)]
    locations: read::Locations,
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
        let (mut config, locations) = read::parse::<Config>(text, path)?;
        config.locations = locations;
        config.apply_environment(environment)?;
        config.apply_defaults();
        config.check_together()?;
        config.check_outputs()?;
        Ok(config)
    }

    /// A mistake at a key such as `output[0].directory`, with its line, or that of the nearest table around it.
    pub fn mistake(&self, key: &str, text: impl Display) -> ConfigError {
        self.locations.mistake(key, text)
    }

    /// The key in `table` that `words` name first, else `table`; others than this module name keys in their words only.
    pub fn key_named(&self, table: &str, words: &str) -> String {
        self.locations.key_named(table, words)
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

    /// What each key may be alone but not beside the others.
    fn check_together(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, text: &str| Err(self.mistake(key, text));
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
                "layout[0].read",
                "no layout is read; expected read = true in one of them, or agent.discover = false",
            );
        }
        Ok(())
    }

    fn check_outputs(&self) -> Result<(), ConfigError> {
        for (index, output) in self.output.iter().enumerate() {
            let wrong = |part: &str, text: &str| Err(self.mistake(&format!("output[{index}].{part}"), text));
            if output.debounce.max.0 < output.debounce.min.0 {
                let text = "found debounce.max below debounce.min, expected max to be at least min";
                return wrong("debounce.max", text);
            }
            if let Some(Err(text)) = output.reload.as_ref().map(Reload::check_signal) {
                return wrong("reload.signal", &text);
            }
            if self.output[..index].iter().any(|earlier| earlier.directory == output.directory) {
                let directory = output.directory.display();
                let text = format!("found directory \"{directory}\" twice, expected one for each output");
                return wrong("directory", &text);
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
