//! A running HAProxy follows the catalog without reloads: the real one, from `PATH`.

mod agent;
mod haproxy;
mod random;
mod traffic;
