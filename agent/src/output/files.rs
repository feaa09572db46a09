//! Fragments to files: order, sharing, and which service wrote which line.
//!
//! A *slot* is a place in a file: a path and a key. Services that give a slot the same text share it. When texts
//! differ, the one that was there first stands, the base's before all others, and the services that give another
//! one lose that fragment alone. Plugins claim what only one service can have, so this is for those that do not.
//! Replacing the fragments of one service costs what its fragments cost, however many services there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::Fragment;

mod slot;
#[cfg(test)]
mod tests;

use slot::{Slot, Standing, joined};

/// Stands for the base among the names of services: no service has it, and it comes first.
const BASE: &str = "";

/// A fragment that a service loses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// File of the slot.
    pub path: String,
    /// Key of the slot.
    pub key: String,
    /// The service that has the slot, the first by name when several share it; empty for the base.
    pub holder: String,
}

/// Files composed of fragments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Composed {
    /// Text by path below the output's directory.
    pub files: BTreeMap<String, Arc<str>>,
    /// Paths whose text is not what the last composition gave, also those that are no longer there.
    pub changed: BTreeSet<String>,
}

/// Path and key of a slot.
type At = (Arc<str>, Arc<str>);

/// A composed file and where in it each fragment begins.
#[derive(Debug)]
struct Page {
    text: Arc<str>,
    /// First line (1-based) of each fragment, the service that wrote it and whether others did too, in order.
    lines: Vec<(usize, Arc<str>, bool)>,
    /// Number of lines.
    length: usize,
}

/// The fragments of all services, and the files that were last composed of them.
#[derive(Debug, Default)]
pub struct Files {
    /// By path and key.
    slots: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Slot>>,
    /// Path and key of what each service gives, sorted.
    services: BTreeMap<Arc<str>, Vec<At>>,
    /// Slots with more than one text.
    contested: BTreeSet<At>,
    /// Paths with a changed slot since the last composition.
    touched: BTreeSet<Arc<str>>,
    pages: BTreeMap<Arc<str>, Page>,
}

impl Files {
    /// Nothing yet.
    pub fn new() -> Self {
        Files::default()
    }

    /// Replaces the fragments that are there whatever the services.
    pub fn set_base(&mut self, fragments: &[Fragment]) {
        self.set(BASE, fragments);
    }

    /// Replaces the fragments of a service; without fragments it leaves. Texts that it gives for one slot are joined.
    pub fn set(&mut self, service: &str, fragments: &[Fragment]) {
        let name = self.services.get_key_value(service).map_or_else(|| Arc::from(service), |(name, _)| name.clone());
        let old = self.services.remove(service).unwrap_or_default();
        let mut new = joined(fragments);
        let mut kept = Vec::with_capacity(new.len());
        for (path, key) in old {
            let text = new.remove(&(path.to_string(), key.to_string()));
            if self.replace(&path, &key, &name, text.as_deref()) {
                kept.push((path, key));
            }
        }
        for ((path, key), text) in new {
            let path = self.slots.get_key_value(path.as_str()).map_or_else(|| path.into(), |(path, _)| path.clone());
            let key = self.key(&path, key);
            self.replace(&path, &key, &name, Some(&text));
            kept.push((path, key));
        }
        if !kept.is_empty() {
            kept.sort();
            self.services.insert(name, kept);
        }
    }

    /// The path and the key of the base's fragment that a line (1-based) stands in; none for a line of a service.
    pub fn base_fragment_at(&self, path: &str, line: usize) -> Option<Fragment> {
        let page = self.pages.get(path)?;
        self.writer(path, line).filter(|(name, _)| *name == BASE)?;
        let mut first = 1;
        for (key, slot) in self.slots.get(path)? {
            let standing = slot.standing()?;
            if (first..first + standing.lines).contains(&line) {
                let text = page.text.lines().nth(line - 1).unwrap_or_default().trim().to_owned();
                return Some(Fragment { path: path.to_owned(), key: key.to_string(), text });
            }
            first += standing.lines;
        }
        None
    }

    /// The fragments a service gives now.
    pub fn fragments(&self, service: &str) -> Vec<Fragment> {
        let given = self.services.get(service).into_iter().flatten();
        given
            .filter_map(|(path, key)| {
                let text = self.slots.get(path)?.get(key)?.text_of(service)?;
                Some(Fragment { path: path.to_string(), key: key.to_string(), text: text.to_string() })
            })
            .collect()
    }

    /// The services that lose a fragment, and to whom; the first part of each.
    pub fn conflicts(&self) -> BTreeMap<String, Conflict> {
        let mut conflicts = BTreeMap::new();
        for (path, key) in &self.contested {
            let Some(slot) = self.slots.get(path).and_then(|slots| slots.get(key)) else { continue };
            let Some(Standing { owner: holder, .. }) = slot.standing() else { continue };
            for name in slot.losers() {
                conflicts.entry(name.to_string()).or_insert_with(|| Conflict {
                    path: path.to_string(),
                    key: key.to_string(),
                    holder: holder.to_string(),
                });
            }
        }
        conflicts
    }

    /// The files as they are to be now; work follows the files that changed.
    pub fn compose(&mut self) -> Composed {
        let mut changed = BTreeSet::new();
        for path in std::mem::take(&mut self.touched) {
            let page = self.page(&path);
            if page.as_ref().map(|page| &page.text) != self.pages.get(&path).map(|page| &page.text) {
                changed.insert(path.to_string());
            }
            match page {
                Some(page) => drop(self.pages.insert(path, page)),
                None => drop(self.pages.remove(&path)),
            }
        }
        let files = self.pages.iter().map(|(path, page)| (path.to_string(), page.text.clone())).collect();
        Composed { files, changed }
    }

    /// The service that wrote a line (1-based) of a file as it was last composed: the first by name of those
    /// that share the fragment, and none for the base's lines and for lines that are not there.
    pub fn service_at(&self, path: &str, line: usize) -> Option<&str> {
        self.writer(path, line).map(|(name, _)| name).filter(|name| *name != BASE)
    }

    /// Whether a line stands in the base or in a fragment that several services share: no one service is to blame for it.
    pub fn is_common(&self, path: &str, line: usize) -> bool {
        self.writer(path, line).is_some_and(|(name, shared)| shared || name == BASE)
    }

    fn writer(&self, path: &str, line: usize) -> Option<(&str, bool)> {
        let page = self.pages.get(path)?;
        if line == 0 || line > page.length {
            return None;
        }
        let index = page.lines.partition_point(|(first, ..)| *first <= line).checked_sub(1)?;
        let (_, name, shared) = &page.lines[index];
        Some((name, *shared))
    }

    /// The key as the slot has it, so that sharers of a slot share it.
    fn key(&self, path: &str, key: String) -> Arc<str> {
        let known = self.slots.get(path).and_then(|slots| slots.get_key_value(key.as_str()));
        known.map_or_else(|| key.into(), |(key, _)| key.clone())
    }

    /// Gives a slot the service's text, or takes it away; tells whether the service has the slot now.
    fn replace(&mut self, path: &Arc<str>, key: &Arc<str>, name: &Arc<str>, text: Option<&str>) -> bool {
        let slots = self.slots.entry(path.clone()).or_default();
        let slot = slots.entry(key.clone()).or_default();
        if slot.text_of(name).map(|text| &**text) == text {
            return text.is_some();
        }
        slot.set(name, text, **name == *BASE);
        let contested = slot.is_contested();
        if slot.is_empty() {
            slots.remove(key);
            if slots.is_empty() {
                self.slots.remove(path);
            }
        }
        let place = (path.clone(), key.clone());
        if contested {
            self.contested.insert(place);
        } else {
            self.contested.remove(&place);
        }
        self.touched.insert(path.clone());
        text.is_some()
    }

    /// Joins what stands in a file; none when nothing does.
    fn page(&self, path: &str) -> Option<Page> {
        let slots = self.slots.get(path)?;
        let standing: Vec<_> = slots.values().filter_map(Slot::standing).collect();
        let mut text = String::with_capacity(standing.iter().map(|fragment| fragment.text.len()).sum());
        let mut lines: Vec<(usize, Arc<str>, bool)> = Vec::with_capacity(standing.len());
        let mut length = 0;
        for fragment in standing {
            text.push_str(fragment.text);
            if fragment.lines > 0
                && lines.last().is_none_or(|(_, name, shared)| (name, *shared) != (fragment.owner, fragment.shared))
            {
                lines.push((length + 1, fragment.owner.clone(), fragment.shared));
            }
            length += fragment.lines;
        }
        Some(Page { text: text.into(), lines, length })
    }
}
