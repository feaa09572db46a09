//! The registry against a real etcd, which each test starts for itself.

mod contract;

mod server;

mod tools;
