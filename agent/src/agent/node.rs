//! This host as plugins and other hosts see it.

use std::sync::Arc;

use super::BuildError;
use super::address;
use crate::config::Config;
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
    let address = address::resolve(config.agent.advertise.as_ref())
        .map_err(|error| BuildError::Config { key: "agent.advertise".to_owned(), text: format!("{error:#}") })?;
    Ok(Arc::new(Node { name, address: address.to_string(), attributes: Attributes::new() }))
}
