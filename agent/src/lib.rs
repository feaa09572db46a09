//! Waypost: service discovery for hosts that run Docker.
//!
//! The modules are declared in the order of the line that data takes:
//!
//! ```text
//!  docker ─> grouping ─> layout ─> registry ─(etcd)─> registry ─> layout ─> catalog ─> output ─> proxy
//!  Container  Instance   Entry      Steps              Entries    Instance   Service    Fragment     Files, commands
//!  └──────────────── register ─────────────┘          └───────────────── discover ──────────────────┘
//! ```
//!
//! Stages never use stages; only the two loops, `register` and `discover`, and `agent`, which builds
//! everything, see them. The README beside this crate has the invariants.

pub mod agent;
pub mod backoff;
pub mod catalog;
pub mod config;
pub mod discover;
pub mod docker;
pub mod grouping;
pub mod health;
pub mod layout;
pub mod model;
pub mod output;
pub mod plugin;
pub mod proxy;
pub mod register;
pub mod registry;
#[doc(hidden)]
pub mod simulated;
pub mod status;
