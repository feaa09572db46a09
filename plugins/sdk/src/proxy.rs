//! Shared code of the outputs for reverse proxies.

pub mod bind;
pub mod instances;
pub mod route;
