//! What outputs for reverse proxies share.

pub mod bind;
pub mod instances;
pub mod route;
