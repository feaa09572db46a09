//! The right loop: what all hosts registered becomes the catalog, and the catalog becomes files.
//!
//! Two functions: [`follow`] reads the registry, [`serve`] feeds one output. They take what they read and write as
//! parameters and their time from `tokio::time`.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::catalog::{Catalog, Doubt};
use crate::layout::{Decoder, Directories};
use crate::model::{Ages, Entries, Services};
use crate::status::Status;

mod clock;
mod disk;
mod doubts;
mod once;
mod serve;
pub mod state;
mod talk;
mod target;
mod write;

use doubts::Doubts;
pub use once::once;
pub use serve::{Engine, run, serve};
pub use state::Pace;
pub use talk::{Runtime, Speaker};
pub use target::{Inputs, LiveOptions, Target};
pub use write::{Candidate, Disk};

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

/// Keeps the catalog, and the ages of its services, in step with the registry until `stop` fires.
///
/// # Errors
/// When an input ends, which only a bug can do.
pub async fn follow(
    mut readings: Vec<Reading>,
    catalog_out: watch::Sender<Option<Services>>,
    ages_out: watch::Sender<Ages>,
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
            catalog.update(index, reading.directories(), reading.decoder.ages());
        }
        doubts.show(&readings, &status);
        // Nothing is shown before every layout was listed once: half a catalog would empty the proxies.
        if complete {
            let services = catalog.services();
            status.services(services);
            // Before the services, so that who sees a new one sees its age.
            ages_out.send_if_modified(|shown| {
                let same = shown.ptr_eq(catalog.ages());
                *shown = catalog.ages().clone();
                !same
            });
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

/// The catalog and its ages once, from entries that were read before: for commands that do not stay.
pub async fn catalog_of(readings: Vec<(Entries, Decoder)>) -> (Services, Ages) {
    let mut catalog = Catalog::default();
    for (index, (entries, mut decoder)) in readings.into_iter().enumerate() {
        decoder.update(&entries).await;
        catalog.update(index, decoder.directories(), decoder.ages());
    }
    (catalog.services().clone(), catalog.ages().clone())
}
