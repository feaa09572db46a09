//! What Waypost promises, shown on real Docker engines, etcd, HAProxy and name servers: one file per promise.
//!
//! Run them by `tests/run`, or one by `cargo build && cargo test -p waypost-tests drury`.

// Clippy knows test functions, and not the functions that they share.
#![allow(clippy::unwrap_used)]

mod blame;
mod commands;
mod config;
mod doubt;
mod drain;
mod drury;
mod ends;
mod files;
mod guests;
mod hangup;
mod hostile;
mod houserules;
mod load;
mod nginx;
mod ports;
mod proxies;
mod python;
mod reloads;
mod requests;
mod selftest;
mod truth;
mod wilder;
