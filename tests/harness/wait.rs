//! Waiting for a value with a deadline: how tests let time pass.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often a value is looked at.
const EVERY: Duration = Duration::from_millis(50);

/// Calls `probe` until it succeeds and returns what it gave; panics with what it saw last when `within` is over.
#[track_caller]
pub fn eventually<T>(within: Duration, what: &str, mut probe: impl FnMut() -> anyhow::Result<T>) -> T {
    let deadline = Instant::now() + within;
    let found = ticking(|| match probe() {
        Ok(value) => Some(Ok(value)),
        Err(error) if Instant::now() >= deadline => Some(Err(error)),
        Err(_) => None,
    });
    match found {
        Ok(value) => value,
        Err(last) => panic!("not within {within:?}: {what}; last seen: {last:#}"),
    }
}

/// Calls `probe` over and over for the whole of `period`; panics with what it saw when it fails once.
#[track_caller]
pub fn always(period: Duration, what: &str, mut probe: impl FnMut() -> anyhow::Result<()>) {
    let start = Instant::now();
    let failed = ticking(|| match probe() {
        Err(error) => Some(Some(error)),
        Ok(()) if start.elapsed() >= period => Some(None),
        Ok(()) => None,
    });
    if let Some(error) = failed {
        panic!("not all of {period:?}, but only {:?}: {what}; seen: {error:#}", start.elapsed());
    }
}

/// Calls `turn` at every tick until it returns something.
fn ticking<T>(mut turn: impl FnMut() -> Option<T>) -> T {
    let clock = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a clock");
    clock.block_on(async {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Some(done) = turn() {
                return done;
            }
        }
    })
}
