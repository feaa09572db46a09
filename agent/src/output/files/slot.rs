//! One place in a file, the texts that services give for it, and who gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Conflict;
use crate::model::Part;

/// What stands in a file for a slot.
pub(super) struct Standing<'a> {
    pub(super) text: &'a str,
    pub(super) lines: usize,
    pub(super) owner: &'a Arc<str>,
}

/// The texts given for a slot; almost always one.
#[derive(Debug, Default)]
pub(super) struct Slot(Vec<Claim>);

#[derive(Debug)]
struct Claim {
    text: Arc<str>,
    lines: usize,
    owners: Owners,
}

/// Who gives a text. Most have one owner, which needs no set of its own.
#[derive(Debug)]
enum Owners {
    One(Arc<str>),
    Many(BTreeSet<Arc<str>>),
}

impl Owners {
    fn contains(&self, name: &str) -> bool {
        match self {
            Owners::One(one) => **one == *name,
            Owners::Many(many) => many.contains(name),
        }
    }

    fn add(&mut self, name: &Arc<str>) {
        match self {
            Owners::One(one) => *self = Owners::Many(BTreeSet::from([one.clone(), name.clone()])),
            Owners::Many(many) => drop(many.insert(name.clone())),
        }
    }

    /// Removes an owner; tells whether none is left.
    fn remove(&mut self, name: &str) -> bool {
        match self {
            Owners::One(_) => true,
            Owners::Many(many) => {
                many.remove(name);
                many.is_empty()
            }
        }
    }

    fn iter(&self) -> Box<dyn Iterator<Item = &Arc<str>> + '_> {
        match self {
            Owners::One(one) => Box::new(std::iter::once(one)),
            Owners::Many(many) => Box::new(many.iter()),
        }
    }
}

impl Slot {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_contested(&self) -> bool {
        self.0.len() > 1
    }

    pub(super) fn text_of(&self, name: &str) -> Option<&Arc<str>> {
        self.0.iter().find(|claim| claim.owners.contains(name)).map(|claim| &claim.text)
    }

    pub(super) fn insert(&mut self, name: &Arc<str>, text: &str) {
        if let Some(claim) = self.0.iter_mut().find(|claim| *claim.text == *text) {
            return claim.owners.add(name);
        }
        let lines = text.bytes().filter(|byte| *byte == b'\n').count();
        self.0.push(Claim { text: text.into(), lines, owners: Owners::One(name.clone()) });
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some(index) = self.0.iter().position(|claim| claim.owners.contains(name))
            && self.0[index].owners.remove(name)
        {
            self.0.swap_remove(index);
        }
    }

    /// Everyone who gives a text, and which.
    pub(super) fn claims(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().flat_map(|claim| claim.owners.iter().map(move |name| (name, &claim.text)))
    }

    /// The text of those who are not held back, and the first of them by name.
    pub(super) fn standing(&self, held: &BTreeMap<Arc<str>, Conflict>) -> Option<Standing<'_>> {
        self.0.iter().find_map(|claim| {
            let owner = claim.owners.iter().find(|name| !held.contains_key(*name))?;
            Some(Standing { text: &claim.text, lines: claim.lines, owner })
        })
    }
}

/// One text for each path and key, its last line ended.
pub(super) fn joined(parts: Vec<Part>) -> BTreeMap<(String, String), String> {
    let mut texts: BTreeMap<(String, String), String> = BTreeMap::new();
    for Part { path, key, mut text } in parts {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let joined = texts.entry((path, key)).or_default();
        if *joined != text {
            joined.push_str(&text);
        }
    }
    texts
}
