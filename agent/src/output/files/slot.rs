//! One place in a file, the texts that services give for it, and who gives them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::Fragment;

/// What stands in a file for a slot.
pub(super) struct Standing<'a> {
    pub(super) text: &'a str,
    pub(super) lines: usize,
    pub(super) owner: &'a Arc<str>,
    /// More than one service gives it.
    pub(super) shared: bool,
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

    fn are_many(&self) -> bool {
        matches!(self, Owners::Many(many) if many.len() > 1)
    }

    fn first(&self) -> Option<&Arc<str>> {
        match self {
            Owners::One(one) => Some(one),
            Owners::Many(many) => many.first(),
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

    /// Replaces what an owner gives. A text keeps its turn while it has an owner, also when its only owner changes it.
    pub(super) fn set(&mut self, name: &Arc<str>, text: Option<&str>, goes_first: bool) {
        let own = self.0.iter().position(|claim| claim.owners.contains(name));
        let turn = own.filter(|index| self.0[*index].owners.remove(name));
        if let Some(index) = turn {
            self.0.remove(index);
        }
        let Some(text) = text else { return };
        let end = if goes_first { 0 } else { turn.unwrap_or(self.0.len()) };
        let Some(index) = self.0.iter().position(|claim| *claim.text == *text) else {
            let lines = text.bytes().filter(|byte| *byte == b'\n').count();
            return self.0.insert(end, Claim { text: text.into(), lines, owners: Owners::One(name.clone()) });
        };
        self.0[index].owners.add(name);
        if end < index {
            let claim = self.0.remove(index);
            self.0.insert(end, claim);
        }
    }

    /// Everyone whose text does not stand.
    pub(super) fn losers(&self) -> impl Iterator<Item = &Arc<str>> {
        self.0.iter().skip(1).flat_map(|claim| claim.owners.iter())
    }

    /// The text that was there first, and the first by name of those who give it.
    pub(super) fn standing(&self) -> Option<Standing<'_>> {
        let Claim { text, lines, owners } = self.0.first()?;
        Some(Standing { text, lines: *lines, owner: owners.first()?, shared: owners.are_many() })
    }
}

/// One text for each path and key, its last line ended.
pub(super) fn joined(fragments: &[Fragment]) -> BTreeMap<(String, String), String> {
    let mut texts: BTreeMap<(String, String), String> = BTreeMap::new();
    for Fragment { path, key, text } in fragments {
        let mut text = text.clone();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let joined = texts.entry((path.clone(), key.clone())).or_default();
        if *joined != text {
            joined.push_str(&text);
        }
    }
    texts
}
