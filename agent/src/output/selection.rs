//! Which services an output takes.

use std::collections::BTreeSet;
use std::sync::Arc;

use globset::GlobMatcher;
use imbl::ordmap::DiffItem;

use crate::model::Services;

/// What containers of this host want within reach: service names, or `*.` and a suffix.
pub type Consumed = BTreeSet<String>;

/// Names that an output takes besides what containers want.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Patterns; `None` takes every service.
    pub patterns: Option<Vec<GlobMatcher>>,
}

impl Filter {
    fn takes(&self, name: &str, consumed: &Consumed) -> bool {
        let Some(patterns) = &self.patterns else { return true };
        patterns.iter().any(|pattern| pattern.is_match(name))
            || consumed.iter().any(|want| match want.strip_prefix("*.") {
                Some(suffix) => name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.')),
                None => name == want,
            })
    }
}

/// The services that an output takes of all there are.
#[derive(Debug, Default)]
pub struct Selection {
    filter: Filter,
    consumed: Consumed,
    /// All services and those that are taken, as of the last turn.
    offered: Services,
    taken: Services,
}

impl Selection {
    /// Nothing yet; later what `filter` takes.
    pub fn new(filter: Filter) -> Self {
        Selection { filter, ..Selection::default() }
    }

    /// The services that are taken; work follows what changed, and the consumed names when they did.
    pub fn update(&mut self, services: &Services, consumed: &Consumed) -> &Services {
        if self.filter.patterns.is_none() {
            self.taken = services.clone();
            return &self.taken;
        }
        if self.consumed != *consumed {
            (self.offered, self.taken) = (Services::new(), Services::new());
            self.consumed.clone_from(consumed);
        }
        for change in self.offered.diff(services) {
            match change {
                DiffItem::Add(name, service) | DiffItem::Update { new: (name, service), .. } => {
                    if self.filter.takes(name, consumed) {
                        self.taken.insert(Arc::clone(name), Arc::clone(service));
                    }
                }
                DiffItem::Remove(name, _) => _ = self.taken.remove(name),
            }
        }
        self.offered = services.clone();
        &self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_patterns_and_wishes() {
        let filter = |patterns: &[&str]| {
            let globs = patterns.iter().map(|text| globset::Glob::new(text).unwrap().compile_matcher());
            Filter { patterns: Some(globs.collect()) }
        };
        let consumed: Consumed = ["*.dev.app1.internal".to_owned(), "exact".to_owned()].into();
        assert!(filter(&[]).takes("ghost.example.web.dev.app1.internal", &consumed));
        assert!(filter(&[]).takes("exact", &consumed));
        assert!(!filter(&[]).takes("dev.app1.internal", &consumed));
        assert!(!filter(&[]).takes("xdev.app1.internal", &consumed));
        assert!(filter(&["web*"]).takes("web-1", &Consumed::new()));
        assert!(!filter(&["web*"]).takes("db", &Consumed::new()));
        assert!(Filter::default().takes("anything", &Consumed::new()));
    }
}
