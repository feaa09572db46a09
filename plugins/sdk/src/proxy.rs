//! What outputs for reverse proxies share.

pub mod bind;
