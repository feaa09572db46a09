//! What the catalog is read from.

use super::Pipeline;
use crate::catalog::{SelfPreservation, SelfPreservationSettings};
use crate::config;
use crate::discover::LayoutSource;
use crate::model::AGENTS;
use crate::registry::Registry;

/// Every layout that is read, watched from now on.
pub(super) fn sources(pipeline: &Pipeline, registry: &dyn Registry) -> Vec<LayoutSource> {
    let self_preservation = self_preservation(pipeline);
    let decoders = pipeline.plugins.decoders(&pipeline.status).into_iter();
    let sources = decoders.map(|(mut prefixes, decoder)| {
        // Watched together, so that what agents say is never older than what is missing.
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
fn self_preservation(pipeline: &Pipeline) -> Option<SelfPreservationSettings> {
    let config = &pipeline.config;
    let ttl = config.registry.ttl.0;
    match config.discover.self_preservation {
        config::SelfPreservation::On { share, least, time } if pipeline.is_shared() => {
            Some(SelfPreservationSettings::new(share, least, time.unwrap_or(2 * ttl), ttl))
        }
        _ => None,
    }
}
