//! What the catalog is read from.

use super::Plugins;
use crate::catalog::{Doubt, DoubtSettings};
use crate::config::{self, Config, RegistryKind};
use crate::discover::Reading;
use crate::model::AGENTS;
use crate::registry::Registry;
use crate::status::Status;

/// Every layout that is read, followed from now on.
pub(super) fn readings(config: &Config, plugins: &Plugins, registry: &dyn Registry, status: &Status) -> Vec<Reading> {
    let doubt = doubt(config);
    let decoders = plugins.decoders(status).into_iter();
    let readings = decoders.map(|(mut prefixes, decoder)| {
        // Followed together, so that what agents say is never older than what is missing.
        prefixes.extend(doubt.map(|_| AGENTS.to_owned()));
        Reading { entries: registry.follow(prefixes), decoder, doubt: doubt.map(Doubt::new) }
    });
    readings.collect()
}

/// When a sudden loss is doubted; never in a registry within one process, which cannot lose anything.
fn doubt(config: &Config) -> Option<DoubtSettings> {
    let ttl = config.registry.ttl.0;
    match config.discover.doubt {
        config::Doubt::On { share, least, time } if config.registry.kind == Some(RegistryKind::Etcd) => {
            Some(DoubtSettings::new(share, least, time.unwrap_or(2 * ttl), ttl))
        }
        _ => None,
    }
}
