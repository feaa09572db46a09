//! The time of day that goes on as the runtime's clock does, which may be paused in tests.

use std::time::Duration;

use tokio::time::Instant;

use crate::simulated::time_of_day;

/// Milliseconds since the Unix epoch at some instant.
pub(super) struct Clock(u64, Instant);

impl Clock {
    pub(super) fn new() -> Self {
        let now = time_of_day();
        Clock(u64::try_from(now.as_millis()).unwrap_or_default(), Instant::now())
    }

    /// Milliseconds since the Unix epoch.
    pub(super) fn now(&self) -> u64 {
        self.0 + u64::try_from(self.1.elapsed().as_millis()).unwrap_or_default()
    }

    pub(super) fn at(&self, time: u64) -> Instant {
        self.1 + Duration::from_millis(time.saturating_sub(self.0))
    }
}
