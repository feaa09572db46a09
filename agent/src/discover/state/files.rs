//! When files are written.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Files that only the proxy's next start needs are written this long after the last ones, and twice as long each time
/// that changes go on.
const SPACING: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// Nor before this many times what the last ones took.
pub(super) const REST: u32 = 20;

/// Quiet time before a storm of changes is written, and the longest it may be put off.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Quiet time.
    pub min: Duration,
    /// The longest a change may wait.
    pub max: Duration,
}

/// What is known of writing.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) pace: Pace,
    pub(super) spacing: Duration,
    pub(super) is_under_way: bool,
    /// When files were last begun, and what they took.
    pub(super) began: Option<Instant>,
    pub(super) took: Duration,
    /// When the first change came that is not in the files, and the last one.
    pub(super) since: Option<Instant>,
    pub(super) changed_at: Instant,
    /// Why the files are not in place.
    pub(super) error: Option<String>,
    again_at: Option<Instant>,
    pub(super) is_owed: bool,
    pub(super) retried: BTreeSet<Arc<str>>,
    /// Those of them that are being written.
    on_trial: BTreeSet<Arc<str>>,
    /// Services in a form that was refused before.
    pub(super) suspects: BTreeSet<Arc<str>>,
}

impl Writing {
    pub(super) fn new(pace: Pace) -> Self {
        Writing {
            pace,
            spacing: SPACING.0,
            is_under_way: false,
            began: None,
            took: Duration::ZERO,
            since: None,
            changed_at: Instant::now(),
            error: None,
            again_at: None,
            is_owed: false,
            retried: BTreeSet::new(),
            on_trial: BTreeSet::new(),
            suspects: BTreeSet::new(),
        }
    }

    pub(super) fn is_under_way(&self) -> bool {
        self.is_under_way
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// When to try again what went wrong.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.again_at.filter(|_| !self.is_under_way)
    }

    pub(super) fn try_again(&mut self) {
        self.again_at = None;
        self.is_owed = true;
    }

    /// The files that are in place are to be looked at again.
    pub(super) fn look_again(&mut self) {
        self.is_owed = true;
    }

    /// Services that the check is likely to refuse.
    pub(super) fn retried(&self) -> BTreeSet<Arc<str>> {
        self.retried.union(&self.suspects).cloned().collect()
    }

    pub(super) fn suspect(&mut self, suspects: BTreeSet<Arc<str>>) {
        self.suspects = suspects;
    }

    /// Whether a service was refused before, and no check has passed it since: the proxy hears of it only then.
    pub(super) fn is_on_trial(&self, name: &str) -> bool {
        self.retried.contains(name) || self.on_trial.contains(name) || self.suspects.contains(name)
    }

    pub(super) fn changed(&mut self, now: Instant) {
        self.changed_at = now;
        self.since.get_or_insert(now);
    }

    pub(super) fn began(&mut self, now: Instant) {
        let goes_on = self.began.is_some_and(|began| now.saturating_duration_since(began) < 4 * self.spacing);
        self.spacing = if goes_on { (2 * self.spacing).min(SPACING.1) } else { SPACING.0 };
        (self.is_under_way, self.is_owed, self.began, self.since) = (true, false, Some(now), None);
        self.on_trial = std::mem::take(&mut self.retried);
    }

    pub(super) fn ended(&mut self, error: Option<String>, again_at: Option<Instant>, now: Instant) {
        self.took = self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        (self.is_under_way, self.error, self.again_at) = (false, error, again_at);
        self.on_trial.clear();
    }
}
