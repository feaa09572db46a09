//! When a service has no instance, so that 503 is the right answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells a load when what it asks for is away. Clones speak of the same service.
#[derive(Clone, Debug, Default)]
pub struct Away {
    /// Odd while it is away.
    turns: Arc<AtomicU64>,
}

impl Away {
    /// Its last instance is about to leave.
    pub fn begin(&self) {
        self.turn(0);
    }

    /// It has an instance again, and the proxy is known to route to it.
    pub fn end(&self) {
        self.turn(1);
    }

    fn turn(&self, from: u64) {
        let before = self.turns.fetch_add(1, Ordering::SeqCst);
        assert_eq!(before % 2, from, "it was told twice in a row");
    }

    /// What to give to [`Away::was_since`].
    pub(super) fn now(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }

    /// Whether it was away at any time since `then`.
    pub(super) fn was_since(&self, then: u64) -> bool {
        then % 2 == 1 || self.now() != then
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_overlaps_the_time_without_an_instance_is_away() {
        let away = Away::default();
        let before = away.now();
        assert!(!away.was_since(before));
        away.begin();
        let within = away.now();
        assert!(away.was_since(before) && away.was_since(within));
        away.end();
        let after = away.now();
        assert!(away.was_since(before) && away.was_since(within) && !away.was_since(after));
    }
}
