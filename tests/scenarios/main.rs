//! What Waypost promises, shown on real Docker engines, etcd, HAProxy and name servers: one file per promise.
//!
//! Run them by `tests/run`, or one by `cargo build && cargo test -p waypost-tests drury`.

mod selftest;
mod wilder;
