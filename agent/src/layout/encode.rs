//! Instances of this host to the entries that stand for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Layout;
use crate::model::{Entry, Instance, LeasedEntries, LeasedValue, Node, check_entry};
use crate::plugin::CallError;
use crate::status::Status;

type Key = (Arc<str>, Arc<str>);

/// The encoding stage and what it wrote for each instance.
pub struct Encoder {
    layouts: Vec<Layout>,
    node: Arc<Node>,
    status: Status,
    done: BTreeMap<Key, (Arc<Instance>, Vec<Entry>)>,
    retry: BTreeSet<Key>,
}

impl Encoder {
    /// A stage that writes every layout.
    pub fn new(layouts: Vec<Layout>, node: Arc<Node>, status: Status) -> Self {
        Encoder { layouts, node, status, done: BTreeMap::new(), retry: BTreeSet::new() }
    }

    /// Encodes the instances that differ from the last turn, and returns all entries of this host.
    pub async fn update(&mut self, provided: &BTreeMap<Key, Arc<Instance>>) -> LeasedEntries {
        let retry = std::mem::take(&mut self.retry);
        for (service, id) in self.done.keys().filter(|key| !provided.contains_key(*key)) {
            for layout in &self.layouts {
                self.status.gone(&format!("layout {}", layout.plugin.name()), &format!("{id} in {service}"));
            }
        }
        self.done.retain(|key, _| provided.contains_key(key));
        for (key, instance) in provided {
            let same = self.done.get(key).is_some_and(|(known, _)| known == instance);
            if same && !retry.contains(key) {
                continue;
            }
            let entries = self.encode(key, instance).await;
            self.done.insert(key.clone(), (Arc::clone(instance), entries));
        }
        self.layouts.iter().for_each(|layout| layout.plugin.trim());
        self.desired()
    }

    /// Whether a plugin crashed on some instance, which is worth another try.
    pub fn wants_retry(&self) -> bool {
        !self.retry.is_empty()
    }

    /// The entries of all layouts; one layout that fails holds back what it wrote before, not the other layouts.
    async fn encode(&mut self, key: &Key, instance: &Arc<Instance>) -> Vec<Entry> {
        let mut all = Vec::new();
        for layout in &self.layouts {
            let unit = format!("{} in {}", instance.id, instance.service);
            let place = format!("layout {}", layout.plugin.name());
            match layout.plugin.encode(&self.node, instance).await {
                Ok(mut entries) => {
                    let mut refused = None;
                    entries.retain(|entry| match check_entry(entry, &layout.prefixes) {
                        Ok(()) => true,
                        Err(error) => {
                            refused = Some(format!("entry ignored: {error}"));
                            false
                        }
                    });
                    match refused {
                        Some(text) => self.status.problem(&place, &unit, text),
                        None => self.status.resolved(&place, &unit),
                    }
                    all.extend(entries);
                }
                Err(error) => {
                    if !matches!(error, CallError::Refused(_)) {
                        self.retry.insert(key.clone());
                    }
                    if error != CallError::Resting {
                        self.status.problem(&place, &unit, error.to_string());
                    }
                    let old = self.done.get(key).map(|(_, entries)| entries.as_slice()).unwrap_or_default();
                    let owned = |entry: &&Entry| layout.prefixes.iter().any(|prefix| entry.key.starts_with(prefix));
                    all.extend(old.iter().filter(owned).cloned());
                }
            }
        }
        all
    }

    fn desired(&self) -> LeasedEntries {
        let mut desired = LeasedEntries::new();
        let mut clashes = BTreeMap::new();
        for ((service, id), (_, entries)) in &self.done {
            for entry in entries {
                let value: Arc<str> = entry.value.as_str().into();
                match desired.get(&entry.key) {
                    Some(known) if known.value != value => {
                        let known = &known.value;
                        let text = format!("it wants {value:?} at {}, where another instance has {known:?}", entry.key);
                        clashes.insert(format!("{id} in {service}"), text);
                    }
                    Some(_) => {}
                    None => {
                        desired.insert(entry.key.clone(), LeasedValue { value, lease: entry.lease });
                    }
                }
            }
        }
        self.status.replace("entries", clashes);
        desired
    }
}
