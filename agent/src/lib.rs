//! Waypost: service discovery for hosts that run Docker.
//!
//! The modules are declared in the order in which data passes them:
//!
//! ```text
//!  docker ─> grouping ─> layout ─> registry ─(etcd)─> registry ─> layout ─> catalog ─> output ─> proxy
//!  Container  Instance   Entry      Steps              Entries    Instance   Service    Fragment     Files, commands
//!  └──────────────── register ─────────────┘          └───────────────── discover ──────────────────┘
//! ```
//!
//! Stages do not use stages. Only the two loops, `register` and `discover`, and `agent`, which builds everything, use
//! them. The README beside this crate has the invariants.

// What every module may use.
pub mod model;

#[doc(hidden)]
pub mod simulated;

pub mod atomic;

pub mod backoff;

pub mod signal;

pub mod dialect;

pub mod shutdown;

pub mod status;

// Plugins, which the stages call.
pub mod plugin;

pub mod memo;

// The stages, in the order in which data passes them.
pub mod docker;

pub mod health;

pub mod grouping;

pub mod layout;

pub mod registry;

pub mod catalog;

pub mod output;

pub mod proxy;

// The loops, and what builds them from the configuration.
pub mod register;

pub mod discover;

pub mod config;

pub mod agent;
