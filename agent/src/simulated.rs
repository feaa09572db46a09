//! What a test that simulates the world sets for its own thread: chance, the time of day, and faults that it is to find.
//!
//! Nothing else sets any of it, so for an agent all of it is off.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A fault that the agent once had; the model test shows that it would find it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The proxy is taken for another process that has its ports.
    OwnIsForeign,
    /// After a start the proxy is taken to have what is written.
    LoadedIsWritten,
    /// Services that only a reload brings owe one for ever.
    StuckForEver,
    /// What the check refused is said to the proxy all the same.
    RefusedIsLive,
    /// After a reload nobody asks about what was removed since.
    RemovedIsForgotten,
    /// A standby backend is given away while a request is in it.
    PlacesAtOnce,
    /// A check that hangs says nothing of the files.
    HangingIsNoVerdict,
    /// A claim goes to the first by name of all who ask.
    FirstByName,
    /// Nothing outlives its last instance.
    NoLinger,
    /// Services are blamed for what no service wrote.
    BaseIsBlamed,
    /// A reload that was reported as successful is believed, whichever process answers.
    LostIsBelieved,
}

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
    static CLOCK: Cell<Option<Instant>> = const { Cell::new(None) };
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// From now on this thread's chance follows from `seed`, its time of day from tokio's clock, and it has this fault.
pub fn set(seed: u64, fault: Option<Fault>) {
    SEED.set(Some(seed | 1));
    CLOCK.set(Some(Instant::now()));
    FAULT.set(fault);
}

/// Whether this thread has a fault; no release has any.
pub fn has(fault: Fault) -> bool {
    cfg!(debug_assertions) && FAULT.get() == Some(fault)
}

/// A number by chance, where that is simulated.
pub(crate) fn seed() -> Option<u64> {
    let seed = SEED.get()?;
    let next = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    SEED.set(Some(next));
    Some((next >> 16) | 1)
}

/// Time since the Unix epoch.
pub(crate) fn time_of_day() -> Duration {
    let simulated = CLOCK.get().map(|began| Duration::from_hours(500_000) + began.elapsed());
    simulated.unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
