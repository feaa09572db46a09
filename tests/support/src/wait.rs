//! Waiting for a value with a deadline: how tests let time pass.
#![expect(clippy::disallowed_methods, reason = "servers live in real time")]

use std::fmt::Debug;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use anyhow::{Error, ensure};

/// How long a change may take to be seen on a busy machine; most take milliseconds.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// How often [`always`] looks, and the longest pause of [`eventually`].
const EVERY: Duration = Duration::from_millis(50);

/// Calls `probe` until it succeeds and returns what it gave; panics with what it saw last when `within` is over.
#[track_caller]
pub fn eventually<T>(within: Duration, what: &str, probe: impl FnMut() -> anyhow::Result<T>) -> T {
    attempt(within, probe).unwrap_or_else(|last| panic!("{}", too_late(within, what, &last)))
}

/// The same without a panic.
pub(crate) fn attempt<T>(within: Duration, mut probe: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let start = Instant::now();
    loop {
        let seen = probe();
        if seen.is_ok() || start.elapsed() >= within {
            return seen;
        }
        park_timeout(pause(start.elapsed()));
    }
}

/// The same in an asynchronous test, whose other tasks go on meanwhile.
#[cfg(feature = "async")]
#[track_caller]
pub fn eventually_async<T>(
    within: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> anyhow::Result<T>,
) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    async move {
        let start = tokio::time::Instant::now();
        loop {
            match probe().await {
                Ok(value) => return value,
                Err(last) if start.elapsed() >= within => panic!("{caller}: {}", too_late(within, what, &last)),
                Err(_) => tokio::time::sleep(pause(start.elapsed())).await,
            }
        }
    }
}

/// Calls `probe` over and over for the whole of `period`; panics with what it saw when it fails once.
#[track_caller]
pub fn always(period: Duration, what: &str, mut probe: impl FnMut() -> anyhow::Result<()>) {
    let start = Instant::now();
    loop {
        if let Err(error) = probe() {
            panic!("not all of {period:?}, but only {:?}: {what}; seen: {error:#}", start.elapsed());
        }
        if start.elapsed() >= period {
            return;
        }
        park_timeout(EVERY);
    }
}

/// What a probe says of a condition; `seen` is what it looked at.
///
/// # Errors
/// When the condition does not hold.
pub fn holds(condition: bool, seen: impl Debug) -> anyhow::Result<()> {
    ensure!(condition, "{seen:?}");
    Ok(())
}

/// Pauses grow with the time already waited: what comes soon is seen soon, and what takes long is not asked often.
fn pause(waited: Duration) -> Duration {
    (waited / 8).clamp(Duration::from_millis(1), EVERY)
}

fn too_late(within: Duration, what: &str, last: &Error) -> String {
    format!("not within {within:?}: {what}; last seen: {last:#}")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use anyhow::Context as _;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    /// What a test would fail with.
    fn failure(test: impl FnOnce()) -> String {
        let payload = catch_unwind(AssertUnwindSafe(test)).unwrap_err();
        payload.downcast_ref::<String>().unwrap().clone()
    }

    #[test]
    fn the_value_is_returned_when_it_comes() {
        let turns = Cell::new(0);
        let third = || {
            turns.set(turns.get() + 1);
            (turns.get() == 3).then_some("here").context("not yet")
        };
        assert_eq!(eventually(DEADLINE, "it comes", third), "here");
        assert_eq!(turns.get(), 3);
    }

    #[test]
    fn the_panic_names_what_was_awaited_and_seen() {
        let said = failure(|| eventually(SOON, "the sun rises", || holds(false, ["a star"])));
        assert_eq!(said, r#"not within 20ms: the sun rises; last seen: ["a star"]"#);
        let said = failure(|| always(SOON, "the sun shines", || holds(false, "a cloud")));
        assert!(said.ends_with(r#"the sun shines; seen: "a cloud""#), "{said}");
        always(SOON, "nothing happens", || Ok(()));
    }

    #[cfg(feature = "async")]
    #[test]
    fn an_asynchronous_test_waits_in_the_same_way() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let coming = async {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let task = tokio::spawn(async move { sender.send("here") });
            let mut receiver = receiver;
            let come = eventually_async(DEADLINE, "it comes", async || Ok(receiver.try_recv()?)).await;
            task.await.unwrap().unwrap();
            come
        };
        assert_eq!(runtime.block_on(coming), "here");
        let said =
            failure(|| runtime.block_on(eventually_async(SOON, "the sun rises", async || holds(false, "night"))));
        assert!(said.contains(file!()), "{said}");
        assert!(said.ends_with(r#"not within 20ms: the sun rises; last seen: "night""#), "{said}");
    }
}
