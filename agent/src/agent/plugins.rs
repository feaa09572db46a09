//! All plugins of a configuration.

use std::sync::Arc;

use super::BuildError;
use crate::config::{self, Config, ConfigError};
use crate::layout::{Decoder, Encoder, Layout};
use crate::model::Node;
use crate::plugin::{Host, Kind, Limits, LoadError, Plugin, Source};
use crate::status::Status;

/// All plugins of a configuration, loaded and configured.
pub struct Plugins {
    pub(super) host: Host,
    /// In the order they are asked.
    pub groupings: Vec<Plugin>,
    /// Layouts, whether they are read, whether they are written.
    pub layouts: Vec<(Layout, bool, bool)>,
    /// In the order of the configuration.
    pub outputs: Vec<Plugin>,
}

impl Plugins {
    /// Loads everything the configuration names.
    ///
    /// # Errors
    /// Names the part of the configuration and, in words, what is wrong with its plugin.
    pub async fn load(config: &Config) -> Result<Self, BuildError> {
        let limits = Limits {
            memory: (config.plugins.memory_mib as usize) << 20,
            deadline: config.plugins.deadline.0,
            timeout: config.plugins.timeout.0,
            result: (config.plugins.result_mib as usize) << 20,
        };
        let host = Host::new(limits, Some(config.agent.state_dir.join("plugins")))?;
        let stages = |key: &'static str, stages: Vec<&config::Stage>, kind| {
            let named =
                stages.into_iter().enumerate().map(move |(index, stage)| (format!("{key}[{index}]"), stage.clone()));
            let loading: Vec<_> = named.map(|(key, stage)| load(&host, config, key, stage, kind)).collect();
            futures::future::try_join_all(loading)
        };
        let (groupings, layouts, outputs) = futures::try_join!(
            stages("grouping", config.grouping.iter().filter(|_| config.agent.register).collect(), Kind::Grouping),
            stages("layout", config.layout.iter().map(|layout| &layout.stage).collect(), Kind::Layout),
            stages(
                "output",
                config.output.iter().filter(|_| config.agent.discover).map(|output| &output.stage).collect(),
                Kind::Output
            ),
        )?;
        for (index, (plugin, output)) in outputs.iter().zip(&config.output).enumerate() {
            if output.live.is_some() && !plugin.description().live {
                let text = "does not take changes over a stats socket; remove the key";
                let text = format!("the plugin {} {text}", plugin.name());
                return Err(config.mistake(&format!("output[{index}].live"), text).into());
            }
        }
        let mut prepared = Vec::new();
        for (index, (plugin, layout)) in layouts.into_iter().zip(&config.layout).enumerate() {
            let built = Layout::new(plugin).await.map_err(|error| {
                let text = format!("{error:#}");
                config.mistake(&config.key_named(&format!("layout[{index}].settings"), &text), text)
            })?;
            prepared.push((built, layout.read.unwrap_or(index == 0), layout.write));
        }
        Ok(Plugins { host, groupings, layouts: prepared, outputs })
    }

    /// The layouts that the catalog is read from.
    pub fn decoders(&self, status: &Status) -> Vec<(Vec<String>, Decoder)> {
        let decoder = |layout: &Layout| Decoder::new(layout.clone(), status.clone());
        self.read_layouts().map(|layout| (layout.prefixes.clone(), decoder(layout))).collect()
    }

    /// The prefixes of each layout that the catalog is read from.
    pub(super) fn read_prefixes(&self) -> impl Iterator<Item = Vec<String>> {
        self.read_layouts().map(|layout| layout.prefixes.clone())
    }

    fn read_layouts(&self) -> impl Iterator<Item = &Layout> {
        self.layouts.iter().filter(|(_, read, _)| *read).map(|(layout, ..)| layout)
    }

    /// The layouts that registrations are written in.
    pub fn encoder(&self, node: &Arc<Node>, status: &Status) -> Encoder {
        let written = self.layouts.iter().filter(|(.., write)| *write).map(|(layout, ..)| layout.clone());
        Encoder::new(written.collect(), Arc::clone(node), status.clone())
    }
}

async fn load(
    host: &Host,
    config: &Config,
    key: String,
    stage: config::Stage,
    kind: Kind,
) -> Result<Plugin, ConfigError> {
    let (source, source_key) = match &stage.source {
        config::Source::Shipped(name) => (Source::Shipped(name), format!("{key}.plugin")),
        config::Source::File(path, digest) => {
            (Source::File(path, digest.as_ref().map(|digest| digest.0.as_str())), format!("{key}.path"))
        }
    };
    let plugin = host.load(source, &stage.settings).await.map_err(|error| {
        let key = match error.downcast_ref() {
            Some(LoadError::Digest { .. }) => format!("{key}.sha256"),
            Some(LoadError::Settings { words, .. }) => config.key_named(&format!("{key}.settings"), words),
            Some(LoadError::Crash(_)) => format!("{key}.settings"),
            None => source_key.clone(),
        };
        config.mistake(&key, format_args!("{error:#}"))
    })?;
    let found = plugin.description().kind;
    if found != kind {
        let text = format!("plugin {}: found a plugin of kind {found}, expected {kind}", plugin.name());
        return Err(config.mistake(&source_key, text));
    }
    Ok(plugin)
}
