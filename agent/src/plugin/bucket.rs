//! A leaky bucket: what happens fills it, time empties it.

use tokio::time::Instant;

/// How much happened lately.
pub(super) struct Bucket {
    level: f64,
    /// What leaks in a second.
    leak: f64,
    at: Instant,
}

impl Bucket {
    /// An empty bucket that loses `leak` a second.
    pub(super) fn new(leak: f64) -> Self {
        Bucket { level: 0.0, leak, at: Instant::now() }
    }

    /// What is in it now.
    pub(super) fn level(&mut self) -> f64 {
        let now = Instant::now();
        self.level = (self.level - now.duration_since(self.at).as_secs_f64() * self.leak).max(0.0);
        self.at = now;
        self.level
    }

    /// Adds one.
    pub(super) fn add(&mut self) {
        self.level = self.level() + 1.0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_leaks() {
        let mut bucket = Bucket::new(2.0);
        (0..3).for_each(|_| bucket.add());
        assert!((bucket.level() - 3.0).abs() < 0.01);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!((bucket.level() - 1.0).abs() < 0.01);
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(bucket.level().abs() < 0.01, "it is never less than empty");
    }
}
