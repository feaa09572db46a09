//! A registry within one process: the agent discovers what it registers itself, and nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::snapshot::{Change, apply};
use super::{Error, Registry, RegistryStatus, ShutdownMode, Source, Step, WatchReceiver};
use crate::model::{Entries, LeaseKind, LeasedEntries, LeasedValue, Stored};

/// An empty registry that only this process sees; its lease is never lost.
///
/// Watchers see nothing before the first [`Registry::apply`], not even emptiness: until then nobody knows this host's
/// containers.
pub fn new() -> Arc<dyn Registry> {
    Arc::new(Memory::default())
}

#[derive(Default)]
struct Memory {
    content: Mutex<Content>,
}

/// All entries, and who watches which of them.
#[derive(Default)]
struct Content {
    owned: LeasedEntries,
    /// Number of calls to apply; `created` has the number at which each key appeared.
    revision: u64,
    created: BTreeMap<String, u64>,
    watchers: Vec<Watcher>,
    /// Whether there was a call to apply, if only without steps.
    known: bool,
}

struct Watcher {
    prefixes: Vec<String>,
    entries: watch::Sender<Option<Entries>>,
}

impl Memory {
    fn change<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(&mut self.content.lock())
    }
}

#[async_trait::async_trait]
impl Registry for Memory {
    fn watch(&self, prefixes: Vec<String>) -> WatchReceiver {
        self.change(|content| {
            let seen = |key: &str| prefixes.iter().any(|prefix| key.starts_with(prefix));
            let keys = content.owned.keys().filter(|key| seen(key));
            let entries = keys.filter_map(|key| Some((Arc::from(key.as_str()), content.stored(key)?))).collect();
            let (entries, watched) = watch::channel(content.known.then_some(entries));
            content.watchers.push(Watcher { prefixes, entries });
            watched
        })
    }

    async fn owned_entries(&self, _: Source) -> Result<LeasedEntries, Error> {
        Ok(self.change(|content| content.owned.clone()))
    }

    async fn apply(&self, steps: &[Step]) -> Result<(), Error> {
        self.change(|content| content.apply(steps));
        Ok(())
    }

    async fn lease_lost(&self) {
        std::future::pending::<()>().await;
    }

    async fn withdraw(&self, mode: ShutdownMode) -> Result<(), Error> {
        // Otherwise the entries end with the process: nobody can resume them.
        if mode == ShutdownMode::Revoke {
            self.change(|content| {
                let keys: Vec<String> = content.owned.keys().cloned().collect();
                let steps: Vec<Step> = keys.into_iter().map(|key| Step::Delete { key }).collect();
                content.apply(&steps);
            });
        }
        Ok(())
    }

    fn status(&self) -> RegistryStatus {
        RegistryStatus { description: "memory (this host only)".into(), connected: true, ..RegistryStatus::default() }
    }
}

impl Content {
    fn apply(&mut self, steps: &[Step]) {
        self.revision += 1;
        for step in steps {
            let key = step.key().to_owned();
            if let Some(value) = step.value().cloned() {
                let lease = if matches!(step, Step::Share { .. }) { LeaseKind::Shared } else { LeaseKind::Host };
                self.created.entry(key.clone()).or_insert(self.revision);
                self.owned.insert(key, LeasedValue { value, lease });
            } else {
                self.owned.remove(&key);
                self.created.remove(&key);
            }
        }
        self.known = true;
        let change = |step: &Step| (Arc::from(step.key()), self.stored(step.key()));
        let changes: Vec<Change> = steps.iter().map(change).collect();
        self.watchers.retain(|watcher| !watcher.entries.is_closed());
        for watcher in &self.watchers {
            watcher.show(&changes);
        }
    }

    fn stored(&self, key: &str) -> Option<Stored> {
        let (entry, created) = self.owned.get(key).zip(self.created.get(key))?;
        Some(Stored { value: entry.value.clone(), created: *created })
    }
}

impl Watcher {
    fn sees(&self, key: &str) -> bool {
        self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    /// Publishes the changes below its prefixes as one.
    fn show(&self, changes: &[Change]) {
        let seen = changes.iter().filter(|(key, _)| self.sees(key)).cloned().collect();
        self.entries.send_if_modified(|entries| {
            let is_first = entries.is_none();
            apply(entries.get_or_insert_default(), seen) || is_first
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Step {
        Step::Put { key: key.into(), value: value.into() }
    }

    fn shown(watched: &mut WatchReceiver) -> Vec<(String, String)> {
        let entries = watched.borrow_and_update().clone().unwrap();
        entries.iter().map(|(key, stored)| (key.to_string(), stored.value.to_string())).collect()
    }

    #[tokio::test]
    async fn a_follower_sees_its_prefixes_only() {
        let registry = new();
        registry.apply(&[put("/a/x", "1")]).await.unwrap();
        let mut watched = registry.watch(vec!["/a/".into()]);
        assert_eq!(shown(&mut watched), [("/a/x".into(), "1".into())]);

        registry.apply(&[put("/b/x", "1")]).await.unwrap();
        assert!(!watched.has_changed().unwrap());

        registry.apply(&[put("/a/y", "2"), Step::Delete { key: "/a/x".into() }]).await.unwrap();
        assert_eq!(shown(&mut watched), [("/a/y".into(), "2".into())]);
    }

    #[tokio::test]
    async fn the_same_again_is_not_published() {
        let registry = new();
        registry.apply(&[put("/a/x", "1")]).await.unwrap();
        let watched = registry.watch(vec!["/a/".into()]);
        registry.apply(&[put("/a/x", "1")]).await.unwrap();
        assert!(!watched.has_changed().unwrap());
    }

    #[tokio::test]
    async fn withdrawing_takes_everything_back() {
        let registry = new();
        let mut watched = registry.watch(vec!["/".into()]);
        registry.apply(&[put("/a/x", "1"), Step::Share { key: "/a/port".into(), value: "80".into() }]).await.unwrap();
        assert_eq!(registry.owned_entries(Source::Fresh).await.unwrap().len(), 2);
        registry.withdraw(ShutdownMode::Revoke).await.unwrap();
        assert!(shown(&mut watched).is_empty());
        assert!(registry.owned_entries(Source::Cached).await.unwrap().is_empty());
    }
}
