//! What Waypost promises, shown on real Docker engines, etcd, HAProxy and name servers: one file per promise.
//!
//! Run them by `tests/run`, or one by `cargo build && cargo test -p waypost-tests drury`.

// Clippy knows test functions, and not the functions that they share.
#![allow(clippy::unwrap_used)]

mod bad_service;
mod commands;
mod config;
mod drain;
mod drury;
mod files;
mod guests;
mod houserules;
mod load;
mod nginx;
mod ports;
mod proxies;
mod python;
mod reloads;
mod requests;
mod self_preservation;
mod selftest;
mod shutdown;
mod sighup;
mod truth;
mod untrusted_input;
mod wilder;
