//! Parts to files: order, claims, and which service wrote which line.
//!
//! A *slot* is a place in a file: a path and a key. Services that give a slot the same text share it; when
//! texts differ the slot is *contested*, and services are taken in the order of their names: one that finds
//! a slot taken with another text is held back with all its parts, which may free other slots for later
//! names. The frame comes before every service. Only contested slots are looked at for this, so replacing
//! the parts of one service costs what its parts cost, however many services there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::Part;

mod slot;
#[cfg(test)]
mod tests;

use slot::{Slot, joined};

/// Stands for the frame among the names of services: no service has it, and it comes first.
const FRAME: &str = "";

/// Why a service is held back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// File of the slot.
    pub path: String,
    /// Key of the slot.
    pub key: String,
    /// The service that has the slot, the first by name when several share it; empty for the frame.
    pub holder: String,
}

/// Files composed of parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Composed {
    /// Text by path below the output's directory.
    pub files: BTreeMap<String, Arc<str>>,
    /// Paths whose text is not what the last composition gave, also those that are no longer there.
    pub changed: BTreeSet<String>,
}

/// Path and key of a slot.
type At = (Arc<str>, Arc<str>);

/// A composed file and where in it each part begins.
#[derive(Debug)]
struct Page {
    text: Arc<str>,
    /// First line (1-based) of each part and the service that wrote it, in order.
    lines: Vec<(usize, Arc<str>)>,
    /// Number of lines.
    length: usize,
}

/// The parts of all services, and the files that were last composed of them.
#[derive(Debug, Default)]
pub struct Files {
    /// By path and key.
    slots: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Slot>>,
    /// Path and key of what each service gives, sorted.
    services: BTreeMap<Arc<str>, Vec<At>>,
    /// Slots with more than one text.
    contested: BTreeSet<At>,
    /// Services held back as of the last composition.
    held: BTreeMap<Arc<str>, Conflict>,
    /// A contested slot changed since `held` was found.
    claims_changed: bool,
    /// Paths with a changed slot since the last composition.
    touched: BTreeSet<Arc<str>>,
    pages: BTreeMap<Arc<str>, Page>,
}

impl Files {
    /// Nothing yet.
    pub fn new() -> Self {
        Files::default()
    }

    /// Replaces the parts that are there whatever the services.
    pub fn set_frame(&mut self, parts: Vec<Part>) {
        self.set(FRAME, parts);
    }

    /// Replaces the parts of a service; without parts it leaves. Texts that it gives for one slot are joined.
    pub fn set(&mut self, service: &str, parts: Vec<Part>) {
        let name = self.services.get_key_value(service).map_or_else(|| Arc::from(service), |(name, _)| name.clone());
        let old = self.services.remove(service).unwrap_or_default();
        let mut new = joined(parts);
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

    /// The parts a service gives now.
    pub fn parts(&self, service: &str) -> Vec<Part> {
        let given = self.services.get(service).into_iter().flatten();
        given
            .filter_map(|(path, key)| {
                let text = self.slots.get(path)?.get(key)?.text_of(service)?;
                Some(Part { path: path.to_string(), key: key.to_string(), text: text.to_string() })
            })
            .collect()
    }

    /// The services that are held back, and by whom.
    pub fn conflicts(&self) -> BTreeMap<String, Conflict> {
        let fresh = self.claims_changed.then(|| self.settle());
        let held = fresh.as_ref().unwrap_or(&self.held);
        held.iter().map(|(name, conflict)| (name.to_string(), conflict.clone())).collect()
    }

    /// The files as they are to be now; work follows the files that changed.
    pub fn compose(&mut self) -> Composed {
        if std::mem::take(&mut self.claims_changed) {
            let held = self.settle();
            let turned = self.held.keys().filter(|name| !held.contains_key(*name));
            let turned: Vec<_> = turned.chain(held.keys().filter(|name| !self.held.contains_key(*name))).collect();
            let paths = turned.into_iter().filter_map(|name| self.services.get(name)).flatten();
            self.touched.extend(paths.map(|(path, _)| path.clone()));
            self.held = held;
        }
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
    /// that share the part, and none for the frame's lines and for lines that are not there.
    pub fn service_at(&self, path: &str, line: usize) -> Option<&str> {
        let page = self.pages.get(path)?;
        if line == 0 || line > page.length {
            return None;
        }
        let index = page.lines.partition_point(|(first, _)| *first <= line).checked_sub(1)?;
        Some(&*page.lines[index].1).filter(|name| *name != FRAME)
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
        let contested_before = slot.is_contested();
        slot.remove(name);
        if let Some(text) = text {
            slot.insert(name, text);
        }
        let contested = slot.is_contested();
        if slot.is_empty() {
            slots.remove(key);
            if slots.is_empty() {
                self.slots.remove(path);
            }
        }
        if contested || contested_before {
            self.claims_changed = true;
            let place = (path.clone(), key.clone());
            if contested {
                self.contested.insert(place)
            } else {
                self.contested.remove(&place)
            };
        }
        self.touched.insert(path.clone());
        text.is_some()
    }

    /// Takes the claimants of contested slots in the order of their names; gives those that are held back.
    fn settle(&self) -> BTreeMap<Arc<str>, Conflict> {
        let mut claims: BTreeMap<&Arc<str>, Vec<(usize, &Arc<str>)>> = BTreeMap::new();
        let contested: Vec<_> = self.contested.iter().collect();
        for (index, (path, key)) in contested.iter().enumerate() {
            for (name, text) in self.slots[path][key].claims() {
                claims.entry(name).or_default().push((index, text));
            }
        }
        let mut taken: BTreeMap<usize, (&Arc<str>, &Arc<str>)> = BTreeMap::new();
        let mut held = BTreeMap::new();
        for (name, wanted) in claims {
            let lost = wanted.iter().find(|(index, text)| taken.get(index).is_some_and(|(_, has)| has != text));
            if let Some((index, _)) = lost {
                let (path, key) = contested[*index];
                let holder = taken[index].0.to_string();
                held.insert(name.clone(), Conflict { path: path.to_string(), key: key.to_string(), holder });
            } else {
                for (index, text) in wanted {
                    taken.entry(index).or_insert((name, text));
                }
            }
        }
        held
    }

    /// Joins what stands in a file; none when nothing does.
    fn page(&self, path: &str) -> Option<Page> {
        let slots = self.slots.get(path)?;
        let standing: Vec<_> = slots.values().filter_map(|slot| slot.standing(&self.held)).collect();
        if standing.is_empty() {
            return None;
        }
        let mut text = String::with_capacity(standing.iter().map(|part| part.text.len()).sum());
        let mut lines: Vec<(usize, Arc<str>)> = Vec::with_capacity(standing.len());
        let mut length = 0;
        for part in standing {
            text.push_str(part.text);
            if part.lines > 0 && lines.last().is_none_or(|(_, name)| name != part.owner) {
                lines.push((length + 1, part.owner.clone()));
            }
            length += part.lines;
        }
        Some(Page { text: text.into(), lines, length })
    }
}
