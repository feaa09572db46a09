//! A running HAProxy follows the catalog without reloads: the real one, from `PATH`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::cloned_ref_to_slice_refs)] // helpers of tests are tests too, and HAProxy lives in wall time

mod agent;
mod clients;
mod figures;
mod gone;
mod haproxy;
mod places;
mod random;
mod sections;
mod traffic;
