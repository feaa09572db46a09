//! What a new configuration takes over from the one before it.

use std::collections::{BTreeMap, BTreeSet};

use super::target;
use crate::config::Config;

/// The outputs whose supervised proxy an agent of the configuration `new` would adopt from one of `old`, and those
/// whose proxy it would not: with other words or in another place its routes would be frozen.
pub fn adopted(old: &Config, new: &Config) -> (BTreeSet<String>, BTreeSet<String>) {
    let supervised = |config: &Config| {
        let outputs = target::names(config).into_iter().zip(config.output.clone()).filter(|_| config.agent.discover);
        outputs
            .filter_map(|(name, output)| Some((name, (output.directory, output.reload?))))
            .collect::<BTreeMap<_, _>>()
    };
    let (old, new) = (supervised(old), supervised(new));
    let (adopted, other): (Vec<_>, Vec<_>) = old.iter().partition(|(name, how)| new.get(*name) == Some(how));
    let names = |outputs: Vec<(&String, _)>| outputs.into_iter().map(|(name, _)| name.clone()).collect();
    (names(adopted), names(other))
}
