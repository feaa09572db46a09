//! This host as plugins and other hosts see it.

use std::sync::Arc;

use super::BuildError;
use super::address;
use crate::config::{Advertise, Config};
use crate::model::{Attributes, Node};

/// The host as plugins see it.
///
/// # Errors
/// When its address or name cannot be told.
pub fn node(config: &Config) -> Result<Arc<Node>, BuildError> {
    let name = match &config.agent.node {
        Some(name) => name.clone(),
        None => address::host_name()?,
    };
    let advertise = config.agent.advertise.as_ref();
    let address = address::resolve(advertise).map_err(|error| {
        let key = match advertise {
            Some(Advertise::Interface(_)) => "agent.advertise.interface",
            Some(Advertise::Network(..)) => "agent.advertise.network",
            Some(Advertise::Address(_)) | None => "agent.advertise",
        };
        config.mistake(key, format_args!("{error:#}"))
    })?;
    Ok(Arc::new(Node { name, address: address.to_string(), attributes: Attributes::new() }))
}
