//! Instances to entries, and entries to instances.

use anyhow::{Result, bail, ensure};

use crate::model::AGENTS;
use crate::plugin::Plugin;

mod decode;
mod encode;

pub use decode::{Decoder, Directories};
pub use encode::Encoder;

/// A layout plugin and the key prefixes it owns.
#[derive(Clone)]
pub struct Layout {
    /// The plugin.
    pub plugin: Plugin,
    /// Each starts and ends with `/`.
    pub prefixes: Vec<String>,
}

impl Layout {
    /// Asks the plugin for its prefixes.
    ///
    /// # Errors
    /// When it does not answer, or claims something that is not a prefix below the root.
    pub async fn new(plugin: Plugin) -> Result<Self> {
        let prefixes = match plugin.prefixes().await {
            Ok(prefixes) => prefixes,
            Err(error) => bail!("plugin {}: its key prefixes cannot be had: {error}", plugin.name()),
        };
        for prefix in &prefixes {
            let sound = prefix.len() > 2 && prefix.starts_with('/') && prefix.ends_with('/') && !prefix.contains("//");
            ensure!(sound, "plugin {}: found key prefix {prefix:?}, expected a form like \"/name/\"", plugin.name());
            let own = !prefix.starts_with(AGENTS);
            ensure!(own, "plugin {}: found key prefix {prefix:?}, where agents say that they are there", plugin.name());
        }
        ensure!(!prefixes.is_empty(), "plugin {}: it owns no key prefix", plugin.name());
        Ok(Layout { plugin, prefixes })
    }
}
