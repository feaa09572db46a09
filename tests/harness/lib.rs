//! Starts real servers for the scenarios: Docker engines, etcd, HAProxy, nginx, `CoreDNS` and the agent under test.
//!
//! Every [`Host`] is a set of Linux namespaces of its own (network, processes, mounts, host name), joined to
//! one bridge by a [`Network`]. So each test has all ports to itself, several hosts are several Docker engines,
//! and dropping a host ends whatever ran on it, also when the test panics. Nothing leaves the machine.
//!
//! Tests wait for values with [`eventually`]; only a [`Load`] and a [`ChurningServices`] keep a pace of their own.

// A panic with a sentence is how a test ends, so every function here may do it.
#![allow(clippy::missing_panics_doc)]

mod agent;
mod built;
mod bundle;
mod churning_services;
mod compiled;
mod container;
mod dns;
mod engine;
mod etcd;
mod guest;
mod haproxy;
mod host;
mod http;
mod leftovers;
mod load;
mod netns_runtime;
mod network;
mod process;
mod sections;
mod server;
pub mod underload;
mod watch;
mod whoami;

pub use agent::{Agent, waypost, waypost_here};
pub use built::repository;
pub use churning_services::ChurningServices;
pub use container::Container;
pub use dns::CoreDns;
pub use engine::Engine;
pub use etcd::Etcd;
pub use guest::{component, python_component};
pub use haproxy::Haproxy;
pub use host::Host;
pub use http::{Connection, Reply};
pub use load::{Away, Load, LoadOptions, Outcome, Tally};
pub use netns_runtime::NetnsRuntime;
pub use network::Network;
pub use process::{Process, Signal, find_program};
pub use sections::{Section, agent_section, docker_section, etcd_section, haproxy_section, nginx_section};
pub use server::Server;
pub use watch::Watch;
pub use waypost_test_support::{always, eventually};

use std::time::Duration;

/// How long a server may take to start on a busy machine.
pub const START_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a change may take to be seen on a busy machine; most take milliseconds.
pub const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);
