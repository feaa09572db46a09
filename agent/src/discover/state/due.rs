//! When the files are due.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::State;
use super::compare::same;
use super::files::{Pace, REST};

impl State {
    /// Services that were refused before are part of the next files.
    pub fn retries(&mut self, names: BTreeSet<Arc<str>>) {
        self.writing.retried.extend(names);
    }

    /// How long the files have taken that are being written.
    pub fn writing_took(&self, now: Instant) -> Duration {
        self.writing.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began))
    }

    /// When the files are to be written next; none when they are right, or being written.
    ///
    /// Leading edge: the first change of a quiet system goes through at once, a storm is merged. Files that the proxy does
    /// not wait for follow when there is time.
    pub(super) fn write_due(&self, now: Instant) -> Option<Instant> {
        let writing = &self.writing;
        if writing.is_under_way || !(writing.is_owed || self.files_differ()) {
            return None;
        }
        let Some(last) = writing.began.filter(|_| self.written.is_some()) else { return Some(now) };
        if writing.error.is_some() && !writing.is_owed && writing.since.is_none() {
            return None;
        }
        let Pace { min, max } = writing.pace;
        let since = writing.since.unwrap_or(writing.changed_at);
        let quiet = (writing.changed_at + min).min(since + max);
        if self.waits_for_files() || writing.is_owed {
            return Some(if since >= last + min { since } else { quiet });
        }
        Some(quiet.max(last + writing.spacing).max(last + writing.took * REST))
    }

    /// Whether the files on disk are not what is accepted.
    pub(super) fn files_differ(&self) -> bool {
        let Some(written) = &self.written else { return true };
        !same(&written.services, &self.accepted)
            || self.base.as_ref().is_some_and(|base| !Arc::ptr_eq(base, &written.base) && **base != *written.base)
    }

    /// Whether the proxy gets something only from files that are not written yet.
    fn waits_for_files(&self) -> bool {
        let Some(running) = &self.running else { return true };
        let Some(written) = &self.written else { return true };
        let is_missing = |(name, version): (&Arc<str>, &Option<_>)| written.services.get(name) != version.as_ref();
        let has_base = self.base.as_ref().is_none_or(|base| **base == *written.base);
        !self.writing.suspects.is_empty()
            || running.is_away()
            || running.soon()
            || !has_base
            || running.stuck().iter().any(is_missing)
    }
}
