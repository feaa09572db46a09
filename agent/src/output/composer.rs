//! Files that follow what may be served: composing them again costs what changed.

use imbl::ordmap::DiffItem;

use super::files::{Composed, Files};
use super::served::Accepted;
use crate::model::Fragment;

/// Files, and what they were last composed of.
#[derive(Debug, Default)]
pub struct Composer {
    files: Files,
    services: Accepted,
    base: Vec<Fragment>,
}

impl Composer {
    /// The files of these services.
    pub fn compose(&mut self, base: &[Fragment], services: &Accepted) -> Composed {
        for change in self.services.diff(services) {
            match change {
                DiffItem::Add(name, served) | DiffItem::Update { new: (name, served), .. } => {
                    self.files.set(name, &served.fragments);
                }
                DiffItem::Remove(name, _) => self.files.set(name, &[]),
            }
        }
        self.services = services.clone();
        if self.base != base {
            self.files.set_base(base);
            base.clone_into(&mut self.base);
        }
        self.files.compose()
    }

    /// Which service wrote what, as of the last composition.
    pub fn files(&self) -> &Files {
        &self.files
    }
}
