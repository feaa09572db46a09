//! What the catalog is read from.

use super::Plugins;
use crate::catalog::{SelfPreservation, SelfPreservationSettings};
use crate::config::{self, Config, RegistryKind};
use crate::discover::LayoutSource;
use crate::model::AGENTS;
use crate::registry::Registry;
use crate::status::Status;

/// Every layout that is read, followed from now on.
pub(super) fn sources(
    config: &Config,
    plugins: &Plugins,
    registry: &dyn Registry,
    status: &Status,
) -> Vec<LayoutSource> {
    let self_preservation = self_preservation(config);
    let decoders = plugins.decoders(status).into_iter();
    let sources = decoders.map(|(mut prefixes, decoder)| {
        // Followed together, so that what agents say is never older than what is missing.
        prefixes.extend(self_preservation.map(|_| AGENTS.to_owned()));
        LayoutSource {
            entries: registry.watch(prefixes),
            decoder,
            self_preservation: self_preservation.map(SelfPreservation::new),
        }
    });
    sources.collect()
}

/// When a sudden loss is preserved; never in a registry within one process, which cannot lose anything.
fn self_preservation(config: &Config) -> Option<SelfPreservationSettings> {
    let ttl = config.registry.ttl.0;
    match config.discover.self_preservation {
        config::SelfPreservation::On { share, least, time } if config.registry.kind == Some(RegistryKind::Etcd) => {
            Some(SelfPreservationSettings::new(share, least, time.unwrap_or(2 * ttl), ttl))
        }
        _ => None,
    }
}
