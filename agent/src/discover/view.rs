//! What one output is to show now, and the running proxy that follows it at once.

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use super::live::Live;
use crate::backoff::sleep_until;
use crate::model::Services;
use crate::output::{Kept, Selection, Wants};
use crate::proxy::ReloadStatus;

/// What [`serve`](super::serve()) reads.
pub struct Inputs {
    /// All services, once they are known.
    pub services: watch::Receiver<Option<Services>>,
    /// What containers of this host want within reach.
    pub wants: watch::Receiver<Wants>,
    /// Which services are for this output.
    pub selection: Selection,
}

/// Something that happened outside.
pub(super) enum Event {
    /// The catalog or the wishes of containers changed.
    Changed,
    /// Something about reloading changed.
    Reloads,
    /// The running proxy is to be asked how it is.
    Look,
}

/// What is wanted now, and the running proxy that follows it at once.
pub(super) struct View {
    inputs: Inputs,
    pub(super) reloads: watch::Receiver<ReloadStatus>,
    /// Reloads as of the last look.
    reloaded: u64,
    /// The services of this output; none before the catalog is known.
    pub(super) taken: Option<Services>,
    /// When that last changed.
    pub(super) changed_at: Instant,
    kept: Kept,
    pub(super) live: Option<Live>,
}

impl View {
    pub(super) fn new(inputs: Inputs, live: Option<Live>, kept: Kept, reloads: watch::Receiver<ReloadStatus>) -> Self {
        let now = Instant::now();
        View { inputs, reloads, reloaded: 0, taken: None, changed_at: now, kept, live }
    }

    /// Waits for whatever comes first; may be dropped at any time.
    pub(super) async fn next(&mut self) -> Result<Event> {
        let look = self.live.as_ref().map(Live::due);
        tokio::select! {
            biased;
            changed = self.inputs.services.changed() => changed.context("the catalog ended").map(|()| Event::Changed),
            changed = self.inputs.wants.changed() => {
                changed.context("the wishes of containers ended").map(|()| Event::Changed)
            }
            Ok(()) = self.reloads.changed() => Ok(Event::Reloads),
            () = sleep_until(look) => Ok(Event::Look),
        }
    }

    pub(super) async fn handle(&mut self, event: Event) {
        match (event, &mut self.live) {
            (Event::Changed, _) => self.bring().await,
            (Event::Reloads, live) => {
                let reloads = self.reloads.borrow_and_update().reloads;
                let new = std::mem::replace(&mut self.reloaded, reloads) != reloads;
                live.iter_mut().filter(|_| new).for_each(Live::reloaded);
            }
            (Event::Look, Some(live)) => live.look().await,
            (Event::Look, None) => {}
        }
    }

    /// Follows what happens until `work` is done; without a proxy to be brought along nothing needs to be followed.
    pub(super) async fn follow_while<T>(&mut self, mut work: BoxFuture<'_, T>) -> T {
        if self.live.is_none() {
            return work.await;
        }
        loop {
            let event = tokio::select! {
                biased;
                done = &mut work => return done,
                event = self.next() => event,
            };
            match event {
                Ok(event) => self.handle(event).await,
                // The end of an input is for the caller to judge: it may be about to stop.
                Err(_) => return work.await,
            }
        }
    }

    /// Takes in what is wanted now, and brings the running proxy there.
    pub(super) async fn bring(&mut self) {
        let services = self.inputs.services.borrow_and_update().clone();
        let wants = self.inputs.wants.borrow_and_update().clone();
        let Some(services) = services else { return };
        let taken = self.inputs.selection.update(&services, &wants).clone();
        if self.taken.as_ref() != Some(&taken) {
            self.changed_at = Instant::now();
        }
        if let Some(live) = &mut self.live {
            live.bring(&taken, &self.kept).await;
        }
        self.taken = Some(taken);
    }

    /// The files are in place; the running proxy follows them where they do not follow the catalog.
    pub(super) async fn written(&mut self, kept: Kept) {
        self.kept = kept;
        if let (Some(live), Some(taken)) = (&mut self.live, &self.taken) {
            live.written(&self.kept);
            live.bring(taken, &self.kept).await;
        }
    }
}
