//! The registry against a real etcd, which each test starts for itself.
#![allow(clippy::unwrap_used, clippy::large_futures)] // helpers of tests are tests too, and their futures are made once

mod ages;
mod claim;
mod cluster;
mod contract;
mod faults;
mod lease;
mod proxy;
mod server;
mod shared;
mod signin;
mod tools;
