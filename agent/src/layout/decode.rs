//! Entries of all hosts to the instances that they stand for, directory by directory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use futures::StreamExt;
use imbl::ordmap::DiffItem;

use super::Layout;
use crate::model::{AGENTS, Ages, Entries, Instance, check_instance, directory};
use crate::plugin::{CallError, batches};
use crate::status::Status;

/// Instances by the directory they were read from; a clone is free.
pub type Directories = imbl::OrdMap<Arc<str>, Arc<[Arc<Instance>]>>;

/// The decoding stage of one layout and what it read so far.
pub struct Decoder {
    layout: Layout,
    status: Status,
    component: String,
    seen: Entries,
    directories: Directories,
    ages: Ages,
    retry: BTreeSet<Arc<str>>,
    /// Instances that are left out, by directory.
    refused: BTreeMap<Arc<str>, BTreeSet<String>>,
    parallel: usize,
}

impl Decoder {
    /// A stage that reads one layout.
    pub fn new(layout: Layout, status: Status) -> Self {
        let component = format!("layout {}", layout.plugin.name());
        let (seen, directories, ages, retry) = (Entries::new(), Directories::new(), Ages::new(), BTreeSet::new());
        let parallel = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) * 2;
        Decoder { layout, status, component, seen, directories, ages, retry, refused: BTreeMap::new(), parallel }
    }

    /// Reads the directories in which an entry differs from the last turn, and those that failed then.
    pub async fn update(&mut self, entries: &Entries) {
        let mut changed = std::mem::take(&mut self.retry);
        for change in self.seen.diff(entries) {
            let (DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. }) = change;
            // What agents say of themselves is followed together with the layout's own, and is no layout's.
            if key.starts_with(AGENTS) {
                continue;
            }
            let directory = directory(key);
            if !changed.contains(directory) {
                changed.insert(directory.into());
            }
        }
        self.seen = entries.clone();
        let mut work = Vec::new();
        for directory in changed {
            let (entries, age) = entries_of(&self.seen, &directory);
            if let Some(age) = age {
                if self.ages.get(&directory) != Some(&age) {
                    self.ages.insert(Arc::clone(&directory), age);
                }
                work.push((entries, directory));
            } else {
                self.ages.remove(&directory);
                self.take(directory, Ok(Vec::new()));
            }
        }
        let plugin = self.layout.plugin.clone();
        let mut answers = futures::stream::iter(batches(work, self.parallel))
            .map(|batch| async {
                let (entries, directories): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
                directories.into_iter().zip(plugin.decode(entries).await)
            })
            .buffer_unordered(self.parallel);
        while let Some(batch) = answers.next().await {
            batch.for_each(|(directory, answer)| self.take(directory, answer));
        }
        drop(answers);
        self.layout.plugin.trim();
    }

    /// What was read, directory by directory.
    pub fn directories(&self) -> &Directories {
        &self.directories
    }

    /// The oldest entry of each directory, as the revision that made it.
    pub fn ages(&self) -> &Ages {
        &self.ages
    }

    /// Whether the plugin crashed on some directory, which is worth another try.
    pub fn wants_retry(&self) -> bool {
        !self.retry.is_empty()
    }

    fn take(&mut self, directory: Arc<str>, answer: Result<Vec<Instance>, CallError>) {
        match answer {
            Ok(instances) => {
                let mut refused = BTreeMap::new();
                let sound: Vec<_> = instances
                    .into_iter()
                    .filter(|instance| match check_instance(instance) {
                        Ok(()) => true,
                        Err(error) => {
                            let unit = format!("{directory}{}", instance.id.chars().take(100).collect::<String>());
                            refused.insert(unit, format!("the instance is left out: {error}"));
                            false
                        }
                    })
                    .map(Arc::new)
                    .collect();
                self.status.resolved(&self.component, &directory);
                self.complain(&directory, refused);
                self.set(directory, sound);
            }
            Err(error) => {
                let text = format!("what it held stays: {error}");
                match error {
                    CallError::Suspended => self.status.problem_if_none(&self.component, &directory, text),
                    _ => self.status.problem(&self.component, &directory, text),
                }
                if !matches!(error, CallError::Refused(_)) {
                    self.retry.insert(directory);
                }
            }
        }
    }

    /// Makes `refused`, text by unit, what is wrong within a directory.
    fn complain(&mut self, directory: &Arc<str>, refused: BTreeMap<String, String>) {
        let before = self.refused.remove(directory).unwrap_or_default();
        before
            .iter()
            .filter(|unit| !refused.contains_key(*unit))
            .for_each(|unit| self.status.resolved(&self.component, unit));
        if !refused.is_empty() {
            self.refused.insert(Arc::clone(directory), refused.keys().cloned().collect());
        }
        refused.into_iter().for_each(|(unit, text)| self.status.problem(&self.component, &unit, text));
    }

    fn set(&mut self, directory: Arc<str>, mut instances: Vec<Arc<Instance>>) {
        if instances.is_empty() {
            self.directories.remove(&directory);
            return;
        }
        let known = self.directories.get(&directory);
        if known.is_some_and(|known| known.iter().eq(instances.iter())) {
            return;
        }
        // An unchanged instance keeps its place in memory, so that later comparisons are comparisons of pointers.
        let known: BTreeMap<_, _> = known.into_iter().flat_map(|all| all.iter()).map(|one| (key(one), one)).collect();
        for instance in &mut instances {
            if let Some(same) = known.get(&key(instance)).filter(|old| **old == instance) {
                *instance = Arc::clone(same);
            }
        }
        self.directories.insert(directory, instances.into());
    }
}

fn key(instance: &Instance) -> (&str, &str) {
    (&instance.service, &instance.id)
}

/// Keys and values.
type Pairs = Vec<(Arc<str>, Arc<str>)>;

/// The entries directly in a directory, and the age of the oldest; those below it are stepped over, one directory at a time.
fn entries_of(seen: &Entries, directory: &str) -> (Pairs, Option<u64>) {
    let (mut direct, mut oldest) = (Vec::new(), None);
    let mut from = directory.to_owned();
    loop {
        let mut below = None;
        for (key, stored) in seen.range::<_, str>((Bound::Included(from.as_str()), Bound::Unbounded)) {
            let Some(rest) = key.strip_prefix(directory) else { break };
            if let Some(slash) = rest.find('/') {
                below = Some(&key[..directory.len() + slash]);
                break;
            }
            direct.push((Arc::clone(key), Arc::clone(&stored.value)));
            oldest = Some(oldest.map_or(stored.created, |oldest: u64| oldest.min(stored.created)));
        }
        match below {
            // In the order of keys, `0` is what follows `/`.
            Some(below) => from = format!("{below}0"),
            None => return (direct, oldest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Stored;

    #[test]
    fn a_directory_is_read_without_those_below_it() {
        let keys = ["/a/0", "/a/b", "/a/b/1", "/a/b/c/2", "/a/b0", "/a/c/3", "/a/d", "/b"];
        let stored = |created| Stored { value: "".into(), created };
        let seen: Entries =
            keys.iter().zip([7, 3, 1, 1, 5, 1, 9, 1]).map(|(key, at)| (Arc::from(*key), stored(at))).collect();
        let direct = |directory| entries_of(&seen, directory).0.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(direct("/a/").iter().map(|key| &**key).collect::<Vec<_>>(), ["/a/0", "/a/b", "/a/b0", "/a/d"]);
        assert_eq!(direct("/a/b/").iter().map(|key| &**key).collect::<Vec<_>>(), ["/a/b/1"]);
        assert_eq!(direct("/c/").len(), 0);
        assert_eq!(["/a/", "/a/b/", "/c/"].map(|directory| entries_of(&seen, directory).1), [Some(3), Some(1), None]);
    }
}
