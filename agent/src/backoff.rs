//! How long to wait before trying again.

use std::time::Duration;

use tokio::time::Instant;

/// Sleeps until then, and forever without a time.
pub async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Delays that double from a least to a most, each shortened at random by up to a half.
#[derive(Clone, Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// A backoff between `min` and `max`; a `max` below `min` counts as `min`.
    pub fn new(min: Duration, max: Duration) -> Self {
        let random = crate::simulated::seed().map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        Backoff { min, max: max.max(min), failures: 0, random }
    }

    /// The next delay, twice the one before until the most is reached.
    pub fn next_delay(&mut self) -> Duration {
        let full = self.min.saturating_mul(1 << self.failures.min(20)).min(self.max);
        self.failures += 1;
        // Hosts that failed together must not come back together.
        full.mul_f64(1.0 - self.random.f64() / 2.0)
    }

    /// Starts over after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_stay_within_bounds() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(min, max);
        for turn in 0..100 {
            let full = min.saturating_mul(1 << turn.min(20)).min(max);
            let delay = backoff.next_delay();
            assert!(delay >= full / 2 && delay <= full, "turn {turn}: {delay:?} of {full:?}");
        }
        backoff.reset();
        assert!(backoff.next_delay() <= min);
    }
}
