//! The right loop: what all hosts registered becomes the catalog, and the catalog becomes files.
//!
//! Two functions: [`follow`] reads the registry, [`serve`] feeds one output. They take what they read and write as
//! parameters and their time from `tokio::time`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::catalog::{Catalog, Doubt};
use crate::layout::{Decoder, Directories};
use crate::model::{Entries, Services};
use crate::output::write::Directory;
use crate::output::{Output, Wants};
use crate::proxy::Proxy;
use crate::status::{OutputState, Status};

mod doubts;
mod write;

use doubts::Doubts;
use write::write;

/// One layout that is read: its entries and what they mean.
pub struct Reading {
    /// Everything below the layout's prefixes.
    pub entries: watch::Receiver<Option<Entries>>,
    /// The stage that knows what they mean.
    pub decoder: Decoder,
    /// What doubts a sudden loss, where several hosts write; then the entries have what agents say of themselves too.
    pub doubt: Option<Doubt>,
}

impl Reading {
    async fn update(&mut self) -> bool {
        let Some(entries) = self.entries.borrow_and_update().clone() else { return false };
        self.decoder.update(&entries).await;
        if let Some(doubt) = &mut self.doubt {
            doubt.update(&entries, self.decoder.directories(), Instant::now());
        }
        true
    }

    fn directories(&self) -> &Directories {
        self.doubt.as_ref().map_or(self.decoder.directories(), Doubt::directories)
    }
}

/// Keeps the catalog in step with the registry until `stop` fires.
///
/// # Errors
/// When an input ends, which only a bug can do.
pub async fn follow(
    mut readings: Vec<Reading>,
    catalog_out: watch::Sender<Option<Services>>,
    status: Status,
    stop: CancellationToken,
) -> Result<()> {
    let mut catalog = Catalog::default();
    let mut doubts = Doubts::default();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        let mut complete = true;
        for (index, reading) in readings.iter_mut().enumerate() {
            complete &= reading.update().await;
            catalog.update(index, reading.directories());
        }
        doubts.show(&readings, &status);
        // Nothing is shown before every layout was listed once: half a catalog would empty the proxies.
        if complete {
            let services = catalog.services();
            status.services(services);
            catalog_out.send_if_modified(|shown| {
                let same = shown.as_ref().is_some_and(|shown| shown.ptr_eq(services));
                *shown = Some(services.clone());
                !same
            });
        }
        let retry = if readings.iter().any(|reading| reading.decoder.wants_retry()) {
            backoff.next_delay()
        } else {
            backoff.reset();
            Duration::MAX
        };
        let due = readings.iter().filter_map(|reading| reading.doubt.as_ref()?.due()).min();
        let retry = due.map_or(retry, |due| retry.min(due.saturating_duration_since(Instant::now())));
        let changed =
            futures::future::select_all(readings.iter_mut().map(|reading| Box::pin(reading.entries.changed())));
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            (ended, ..) = changed => ended.context("the registry is no longer followed")?,
            () = tokio::time::sleep(retry) => {}
        }
    }
}

/// Quiet time before a storm of changes is rendered, and the longest it may be put off.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Quiet time.
    pub min: Duration,
    /// The longest a change may wait.
    pub max: Duration,
}

/// What [`serve`] reads.
pub struct Inputs {
    /// All services, once they are known.
    pub services: watch::Receiver<Option<Services>>,
    /// What containers of this host want within reach.
    pub wants: watch::Receiver<Wants>,
}

/// Where [`serve`] puts what it renders.
pub struct Target {
    /// Name of the output in log and status.
    pub name: String,
    /// Directory of the files.
    pub directory: Directory,
    /// The process that reads them.
    pub proxy: Proxy,
    /// Whether a supervised proxy goes on without the agent.
    pub leave: Arc<AtomicBool>,
}

/// Keeps one proxy in step with the catalog until `stop` fires.
///
/// # Errors
/// When an input ends, which only a bug can do.
pub async fn serve(
    mut output: Output,
    mut inputs: Inputs,
    target: Target,
    pace: Pace,
    status: Status,
    stop: CancellationToken,
) -> Result<()> {
    let place = format!("output {}", target.name);
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let mut reloads = target.proxy.status();
    let mut state = OutputState { directory: target.directory.root().display().to_string(), ..OutputState::default() };
    let mut last_turn: Option<Instant> = None;
    // What an earlier agent wrote is served before the registry answers, and taken up where it was not.
    let mut begun = target.directory.is_written();
    if begun {
        target.proxy.request_reload();
    }
    loop {
        let services = inputs.services.borrow_and_update().clone();
        let wants = inputs.wants.borrow_and_update().clone();
        let mut retry = Duration::MAX;
        if let Some(services) = services {
            output.update(&services, &wants).await;
            match write(&mut output, &target, !begun).await {
                Ok(written) => {
                    begun = true;
                    state.writes += u64::from(written);
                    state.error = None;
                    status.resolved(&place, "files");
                }
                Err(error) => {
                    // Files may be in place all the same, and then the next good turn has to tell the proxy.
                    begun = false;
                    state.error = Some(format!("{error:#}"));
                    status.problem(&place, "files", format!("the old files stay: {error:#}"));
                    retry = backoff.next_delay();
                }
            }
            if output.wants_retry() {
                retry = retry.min(backoff.next_delay());
            }
            if retry == Duration::MAX {
                backoff.reset();
            }
            last_turn = Some(Instant::now());
        }
        state.services = output.services();
        let again = tokio::time::sleep(retry);
        tokio::pin!(again);
        loop {
            let reload = reloads.borrow_and_update().clone();
            state.reloads = reload.reloads;
            state.settled = reload.done == reload.wanted && state.error.is_none();
            match &reload.last_error {
                Some(text) => status.problem(&place, "reload", text.clone()),
                None => status.resolved(&place, "reload"),
            }
            status.output(&target.name, state.clone());
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    if target.leave.load(Ordering::Acquire) { target.proxy.leave().await } else { target.proxy.stop().await }
                    return Ok(());
                }
                changed = inputs.services.changed() => { changed.context("the catalog ended")?; break }
                changed = inputs.wants.changed() => { changed.context("the wishes of containers ended")?; break }
                () = &mut again => break,
                Ok(()) = reloads.changed() => {}
            }
        }
        settle(&mut inputs, pace, last_turn, &stop).await;
    }
}

/// Leading edge: the first change of a quiet system goes through at once, a storm is merged.
async fn settle(inputs: &mut Inputs, pace: Pace, last_turn: Option<Instant>, stop: &CancellationToken) {
    let now = Instant::now();
    if last_turn.is_none_or(|last| now.duration_since(last) >= pace.min) {
        return;
    }
    let deadline = now + pace.max;
    loop {
        inputs.services.mark_unchanged();
        inputs.wants.mark_unchanged();
        let quiet = deadline.min(Instant::now() + pace.min);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(quiet) => return,
            Ok(()) = inputs.services.changed() => {}
            Ok(()) = inputs.wants.changed() => {}
        }
    }
}

/// The catalog once, from entries that were read before: for commands that do not stay.
pub async fn catalog_of(readings: Vec<(Entries, Decoder)>) -> Services {
    let mut catalog = Catalog::default();
    for (index, (entries, mut decoder)) in readings.into_iter().enumerate() {
        decoder.update(&entries).await;
        catalog.update(index, decoder.directories());
    }
    catalog.services().clone()
}
