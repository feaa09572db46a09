//! How a running agent is asked to end, and what goes on without it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use super::target;
use crate::config::Config;

/// How a running agent is asked to end.
#[derive(Clone, Default)]
pub struct Ending {
    /// Ends the loops.
    pub stop: CancellationToken,
    /// Registrations stay, for the next agent to take over.
    pub leave: Arc<AtomicBool>,
    /// By output, whether its supervised proxy stays, for the next agent to adopt.
    proxies: Arc<Mutex<BTreeMap<String, Arc<AtomicBool>>>>,
}

impl Ending {
    /// Lets the supervised proxies of these outputs go on.
    pub fn leave_proxies(&self, outputs: &BTreeSet<String>) {
        let proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        proxies.iter().for_each(|(output, stays)| stays.store(outputs.contains(output), Ordering::Release));
    }

    /// Whether the supervised proxy of this output goes on; `stays` until something else is said.
    pub(super) fn of_proxy(&self, output: &str, stays: bool) -> Arc<AtomicBool> {
        let mut proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(proxies.entry(output.to_owned()).or_insert_with(|| Arc::new(stays.into())))
    }
}

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
