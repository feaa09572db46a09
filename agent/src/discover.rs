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
use crate::catalog::Catalog;
use crate::layout::Decoder;
use crate::model::{Ages, Entries, Services};
use crate::status::Status;

mod clock;
mod disk;
mod once;
mod self_preservation;
mod serve;
mod source;
pub mod state;
mod talk;
mod target;
mod write;

pub use once::once;
use self_preservation::SelfPreservationReport;
pub use serve::{Engine, run, serve};
pub use source::LayoutSource;
pub use state::Pace;
pub use talk::{Runtime, Speaker};
pub use target::{Inputs, LiveOptions, Target};
pub use write::{Candidate, Disk};

/// Keeps the catalog, and the ages of its services, in step with the registry until `stop` fires.
///
/// # Errors
/// When an input ends, which only a bug can do.
pub async fn follow(
    mut sources: Vec<LayoutSource>,
    catalog_out: watch::Sender<Option<Services>>,
    ages_out: watch::Sender<Ages>,
    status: Status,
    stop: CancellationToken,
) -> Result<()> {
    let mut catalog = Catalog::default();
    let mut self_preservation = SelfPreservationReport::default();
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        let mut complete = true;
        for (index, source) in sources.iter_mut().enumerate() {
            complete &= source.update().await;
            catalog.update(index, source.directories(), source.decoder.ages());
        }
        self_preservation.show(&sources, &status);
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
        let retry = if sources.iter().any(|source| source.decoder.wants_retry()) {
            backoff.next_delay()
        } else {
            backoff.reset();
            Duration::MAX
        };
        let due = sources.iter().filter_map(|source| source.self_preservation.as_ref()?.due()).min();
        let retry = due.map_or(retry, |due| retry.min(due.saturating_duration_since(Instant::now())));
        let changed = futures::future::select_all(sources.iter_mut().map(|source| Box::pin(source.entries.changed())));
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            (ended, ..) = changed => ended.context("the registry is no longer followed")?,
            () = tokio::time::sleep(retry) => {}
        }
    }
}

/// The catalog and its ages once, from entries that were read before: for commands that do not stay.
pub async fn catalog_of(sources: Vec<(Entries, Decoder)>) -> (Services, Ages) {
    let mut catalog = Catalog::default();
    for (index, (entries, mut decoder)) in sources.into_iter().enumerate() {
        decoder.update(&entries).await;
        catalog.update(index, decoder.directories(), decoder.ages());
    }
    (catalog.services().clone(), catalog.ages().clone())
}
