//! Plain values that travel the line: what a container is, what it provides, how that is written down.
//!
//! No foreign types, no behaviour beyond checking that a value is what it claims to be.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

mod check;
mod presence;
#[cfg(test)]
mod tests;

pub use check::{
    CheckError, VALUE_LIMIT, check_claims, check_consumed, check_entry, check_fragment, check_instance, printable,
};
pub use presence::{AGENTS, Presence, PresenceState};

/// Names and values, unique and sorted by name.
pub type Attributes = BTreeMap<String, String>;

/// The host the agent runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Unique among the hosts that share a registry; by default the host name.
    pub name: String,
    /// Address that other hosts reach this host's published ports at.
    pub address: String,
    /// Facts of the host without a field of their own.
    pub attributes: Attributes,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Stream.
    Tcp,
    /// Datagram.
    Udp,
    /// Stream control transmission.
    Sctp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
            Transport::Sctp => "sctp",
        })
    }
}

/// Health as the container engine reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// The container declares no health check.
    Unchecked,
    /// It has not answered its check yet.
    Starting,
    /// Its last check passed.
    Healthy,
    /// Its last checks failed.
    Unhealthy,
}

/// A container port and, when published, where it is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Port inside the container.
    pub container_port: u16,
    /// Transport of both ports.
    pub transport: Transport,
    /// Host address it is published on; absent when the port is not published.
    pub host_address: Option<String>,
    /// Host port; absent when the port is not published.
    pub host_port: Option<u16>,
}

/// A network the container is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the network.
    pub network: String,
    /// IPv4 and IPv6 addresses of the container on it.
    pub addresses: Vec<String>,
}

/// A container that runs on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Full id, 64 hexadecimal digits.
    pub id: String,
    /// Name without the engine's leading `/`.
    pub name: String,
    /// Host name inside the container.
    pub hostname: String,
    /// Image reference it was started from.
    pub image: String,
    /// Network mode as the engine spells it: `bridge`, `host`, `container:ID`, a network's name.
    pub network_mode: String,
    /// Labels.
    pub labels: Attributes,
    /// Environment, complete; plugins are shown what they declared.
    pub environment: Attributes,
    /// Ports, sorted; one for each binding.
    pub ports: Vec<Port>,
    /// Networks, sorted by name.
    pub attachments: Vec<Attachment>,
    /// Health.
    pub health: Health,
    /// Milliseconds since the Unix epoch.
    pub started_at: u64,
    /// Its processes are frozen.
    pub paused: bool,
    /// It was sent its stop signal and has not ended yet.
    pub stopping: bool,
}

impl Container {
    /// The first twelve digits of the id, by which people know it.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// All running containers of this host by id; a clone is free.
pub type Containers = imbl::OrdMap<Arc<str>, Arc<Container>>;

/// Whether new connections may be sent to an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Readiness {
    /// It takes connections.
    #[default]
    Ready,
    /// It is about to stop: finish what is open, send it nothing new.
    Draining,
    /// It has left; outputs keep what leads to its service for a while.
    Gone,
}

/// One reachable endpoint of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Name that instances share.
    pub service: String,
    /// Unique within the service, across all hosts.
    pub id: String,
    /// Address consumers connect to.
    pub address: String,
    /// Port consumers connect to.
    pub port: u16,
    /// Transport of the port.
    pub transport: Transport,
    /// Whether it takes new connections.
    pub readiness: Readiness,
    /// Share of connections relative to its peers; the consumer's default when absent.
    pub weight: Option<u16>,
    /// Everything else; well-known names are listed in the plugin interface.
    pub attributes: Attributes,
}

/// What one container offers, and what it wants within reach on its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// Instances it provides.
    pub provides: Vec<Instance>,
    /// Service names, or `*.` and a suffix.
    pub consumes: Vec<String>,
}

/// The instances of all hosts that share a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The name.
    pub name: String,
    /// Sorted by id.
    pub instances: Vec<Arc<Instance>>,
    /// Claims of this service that another one has in the output that this is for; empty elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Claim>,
}

/// Something that only one service of an output can have, in the words of its plugin: `domain shop.example`, `port 5432`.
pub type Claim = Arc<str>;

/// All services by name; a clone is free, and comparing two costs what differs.
pub type Services = imbl::OrdMap<Arc<str>, Arc<Service>>;

/// The lease that an entry is put under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaseKind {
    /// The lease of the host that writes it: the entry goes when that host goes.
    Host,
    /// A lease of its own, which every host that writes the same value keeps alive: the entry goes with the last of them.
    Shared,
}

/// A registry value and the lease that keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeasedValue {
    /// The value.
    pub value: Arc<str>,
    /// The lease that keeps it.
    pub lease: LeaseKind,
}

/// Registry entries of one agent, by key: those it wants, or those it owns.
pub type LeasedEntries = BTreeMap<String, LeasedValue>;

/// The directory of a key: the key up to and including its last `/`.
pub(crate) fn directory(key: &str) -> &str {
    key.rfind('/').map_or("", |slash| &key[..=slash])
}

/// A key and a value in the registry, and who keeps it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Absolute, `/`-separated.
    pub key: String,
    /// Text.
    pub value: String,
    /// The lease it is put under.
    pub lease: LeaseKind,
}

/// What a registry has under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Text.
    pub value: Arc<str>,
    /// The revision of the registry at which the key appeared, etcd's `create_revision`: writing over it does not change
    /// this, deleting it and writing it again does.
    pub created: u64,
}

/// What a registry has, by key; a clone is free, and comparing two costs what differs.
pub type Entries = imbl::OrdMap<Arc<str>, Stored>;

/// Since which revision of the registry something is there, by name of a service or a directory.
pub type Ages = imbl::OrdMap<Arc<str>, u64>;

/// A piece of one file, written by one service. A file is its fragments, sorted by key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragment {
    /// File below the output's directory.
    pub path: String,
    /// Place in the file, in bytewise order.
    pub key: String,
    /// Whole lines.
    pub text: String,
}

/// What one service is in the files of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendering {
    /// Its fragments; without them it leaves the files.
    pub fragments: Vec<Fragment>,
    /// What it asks for that only one service can have, sorted; the same whatever it is denied.
    pub claims: Vec<Claim>,
}

/// A service as a running proxy was last told, and as it is wanted; absent where it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// As it was.
    pub before: Option<Arc<Service>>,
    /// As it is wanted; the same when the proxy is only asked whether all is as it should be.
    pub after: Option<Arc<Service>>,
}

/// What to do next to bring a running proxy to the wanted state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LivePlan {
    /// Lines for its stats socket, in order; none when all is as wanted.
    Commands {
        /// The lines.
        commands: Vec<String>,
        /// A reload soon after would be good: what was prepared for such changes runs short.
        reload_soon: bool,
    },
    /// It cannot be done without a reload.
    Reload,
}
