//! The stages of a configuration, built: what `run`, `render`, `catalog` and `check` work with.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{BuildError, Plugins, registry, target};
use crate::config::{Config, ConfigError, RegistryKind};
use crate::discover;
use crate::grouping::Grouping;
use crate::health;
use crate::model::{Ages, Containers, Entries, LeasedEntries, Node, Services, Stored};
use crate::output::{Consumed, Output};
use crate::registry::Registry;
use crate::status::Status;

/// The stages of a configuration, built.
pub struct Pipeline {
    /// What the operator wrote.
    pub config: Config,
    /// All plugins of it.
    pub plugins: Plugins,
    /// This host.
    pub node: Arc<Node>,
    /// What the stages report to.
    pub status: Status,
}

/// What the containers of this host provide and consume.
#[derive(Default)]
pub struct Local {
    /// What would be registered, in all layouts that are written.
    pub entries: LeasedEntries,
    /// The names that they consume.
    pub consumed: Consumed,
}

/// The entries below the prefixes of one layout, once they are listed.
type Watched = watch::Receiver<Option<Entries>>;

impl Pipeline {
    /// Loads the plugins; nothing is watched or written.
    ///
    /// # Errors
    /// Names the part of the configuration and, in words, what is wrong with its plugin.
    pub async fn load(config: Config, node: Arc<Node>) -> Result<Self, BuildError> {
        let plugins = Plugins::load(&config).await?;
        let status = Status::new(&node.name);
        Ok(Pipeline { config, plugins, node, status })
    }

    /// Whether other hosts register beside this one.
    pub fn is_shared(&self) -> bool {
        self.config.registry.kind == Some(RegistryKind::Etcd)
    }

    /// The registry, to be read only.
    ///
    /// # Errors
    /// When its files cannot be read or its options do not go together.
    pub fn registry(&self) -> Result<Arc<dyn Registry>, ConfigError> {
        registry(&self.config, None, None)
    }

    /// What `containers` provide and consume.
    pub async fn local(&self, containers: &Containers) -> Local {
        let mut grouping = self.grouping();
        grouping.update(&health::admitted(containers)).await;
        let entries = self.plugins.encoder(&self.node, &self.status).update(&grouping.provided()).await;
        Local { entries, consumed: grouping.consumed() }
    }

    /// Watches what all hosts registered, in the order of the layouts that are read.
    pub fn watch(&self, registry: &dyn Registry) -> Vec<Watched> {
        self.plugins.read_prefixes().map(|prefixes| registry.watch(prefixes)).collect()
    }

    /// The catalog of what all hosts registered, with what this host would register in addition.
    pub async fn catalog(&self, registered: Vec<Entries>, local: &Local) -> (Services, Ages) {
        let mut registered = registered.into_iter();
        let sources = self.plugins.decoders(&self.status).into_iter().map(|(prefixes, decoder)| {
            let mut entries = registered.next().unwrap_or_default();
            let own = local.entries.iter().filter(|(key, _)| prefixes.iter().any(|prefix| key.starts_with(prefix)));
            for (key, entry) in own {
                // What is not registered yet will be younger than what is.
                let created = entries.get(key.as_str()).map_or(u64::MAX, |known| known.created);
                entries.insert(key.as_str().into(), Stored { value: entry.value.clone(), created });
            }
            (entries, decoder)
        });
        discover::catalog_of(sources.collect()).await
    }

    /// The stage that groups containers.
    pub(super) fn grouping(&self) -> Grouping {
        Grouping::new(self.plugins.groupings.clone(), Arc::clone(&self.node), self.status.clone())
    }

    /// The stage of `output[index]`, and the name by which log and status know it.
    pub fn output(&self, index: usize) -> (String, Output) {
        let name = target::names(&self.config).swap_remove(index);
        let plugin = Arc::new(self.plugins.outputs[index].clone());
        let output = Output::new(&name, plugin, Arc::clone(&self.node), self.status.clone());
        (name, output)
    }
}

/// Everything that is watched, as soon as all of it is listed.
///
/// # Errors
/// When that takes until `deadline`; says what the registry says.
pub async fn listed(watched: &mut [Watched], registry: &dyn Registry, deadline: Instant) -> Result<Vec<Entries>> {
    let late = || {
        let status = registry.status();
        let why = status.error.unwrap_or_else(|| "no answer".to_owned());
        format!("{} was not listed in time: {why}", status.description)
    };
    let mut all = Vec::new();
    for entries in watched {
        let listed = timeout_at(deadline, entries.wait_for(Option::is_some)).await;
        all.push(listed.with_context(late)?.with_context(late)?.clone().unwrap_or_default());
    }
    Ok(all)
}
