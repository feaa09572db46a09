//! What to do so that the registry holds what is desired.

use std::sync::Arc;

use crate::model::{LeaseKind, LeasedEntries, LeasedValue};

/// One change to what an agent holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write an entry of this host's own.
    Put {
        /// The key.
        key: String,
        /// The value.
        value: Arc<str>,
    },
    /// Hold an entry together with the other hosts that give it; write it only when it is not there.
    Share {
        /// The key.
        key: String,
        /// The value.
        value: Arc<str>,
    },
    /// Write over an entry of this host's own what others read for one time to live after the host has withdrawn, and
    /// hold it no longer. Write nothing where the entry is not this host's.
    PutDetached {
        /// The key.
        key: String,
        /// The value.
        value: Arc<str>,
    },
    /// Delete an entry of this host's own.
    Delete {
        /// The key.
        key: String,
    },
    /// Hold a shared entry no longer; delete it when no other host holds it.
    Release {
        /// The key.
        key: String,
    },
}

impl Step {
    /// The key it changes.
    pub fn key(&self) -> &str {
        match self {
            Step::Put { key, .. }
            | Step::Share { key, .. }
            | Step::PutDetached { key, .. }
            | Step::Delete { key }
            | Step::Release { key } => key,
        }
    }

    /// The value it writes.
    pub fn value(&self) -> Option<&Arc<str>> {
        match self {
            Step::Put { value, .. } | Step::Share { value, .. } | Step::PutDetached { value, .. } => Some(value),
            Step::Delete { .. } | Step::Release { .. } => None,
        }
    }
}

/// The steps from `owned` to `desired`: at most one for each key, sorted by key, the releases last.
///
/// An entry that changes its lease is written over in one step, so the entry never disappears in between.
pub fn plan(owned: &LeasedEntries, desired: &LeasedEntries) -> Vec<Step> {
    let mut steps = Vec::new();
    for (key, LeasedValue { value, lease }) in desired {
        if owned.get(key).is_some_and(|entry| entry.value == *value && entry.lease == *lease) {
            continue;
        }
        let (key, value) = (key.clone(), value.clone());
        steps.push(match lease {
            LeaseKind::Host => Step::Put { key, value },
            LeaseKind::Shared => Step::Share { key, value },
        });
    }
    for (key, entry) in owned.iter().filter(|(key, _)| !desired.contains_key(*key)) {
        let key = key.clone();
        steps.push(match entry.lease {
            LeaseKind::Host => Step::Delete { key },
            LeaseKind::Shared => Step::Release { key },
        });
    }
    steps.sort_by(|one, other| {
        let order = |step: &Step| matches!(step, Step::Release { .. });
        (order(one), one.key()).cmp(&(order(other), other.key()))
    });
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    type Row<'a> = (&'a str, &'a str, LeaseKind);

    fn check(owned: &[Row], desired: &[Row], expected: &[Step]) {
        let owned = owned
            .iter()
            .map(|(key, value, lease)| ((*key).into(), LeasedValue { value: (*value).into(), lease: *lease }));
        let desired = desired
            .iter()
            .map(|(key, value, lease)| ((*key).into(), LeasedValue { value: (*value).into(), lease: *lease }));
        assert_eq!(plan(&owned.collect(), &desired.collect()), expected);
    }

    fn put(key: &str, value: &str) -> Step {
        Step::Put { key: key.into(), value: value.into() }
    }

    fn share(key: &str, value: &str) -> Step {
        Step::Share { key: key.into(), value: value.into() }
    }

    fn delete(key: &str) -> Step {
        Step::Delete { key: key.into() }
    }

    fn release(key: &str) -> Step {
        Step::Release { key: key.into() }
    }

    use LeaseKind::{Host, Shared};

    #[test]
    fn what_is_missing_is_written() {
        check(&[], &[("/s/a", "1", Host), ("/s/port", "80", Shared)], &[put("/s/a", "1"), share("/s/port", "80")]);
    }

    #[test]
    fn what_is_unchanged_is_left_alone() {
        let rows = [("/s/a", "1", Host), ("/s/port", "80", Shared)];
        check(&rows, &rows, &[]);
    }

    #[test]
    fn what_changed_is_written_once() {
        check(
            &[("/s/a", "1", Host), ("/s/port", "80", Shared)],
            &[("/s/a", "2", Host), ("/s/port", "81", Shared)],
            &[put("/s/a", "2"), share("/s/port", "81")],
        );
    }

    #[test]
    fn what_is_unwanted_goes_and_releases_come_last() {
        check(
            &[("/a/port", "80", Shared), ("/a/x", "1", Host), ("/b/y", "1", Host)],
            &[("/c/z", "1", Host)],
            &[delete("/a/x"), delete("/b/y"), put("/c/z", "1"), release("/a/port")],
        );
    }

    #[test]
    fn a_change_of_holder_is_one_step() {
        check(&[("/s/a", "1", Host)], &[("/s/a", "1", Shared)], &[share("/s/a", "1")]);
        check(&[("/s/a", "1", Shared)], &[("/s/a", "1", Host)], &[put("/s/a", "1")]);
    }
}
