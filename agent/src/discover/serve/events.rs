//! What happened, taken in.

use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;

use super::{Event, Serving};
use crate::discover::state::{End, Ended};
use crate::discover::write::{Disk, Outcome};

/// How long files may take that are being written when the agent ends.
const END: Duration = Duration::from_secs(2);

impl<D: Disk + 'static> Serving<D> {
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Wanted => self.want(),
            Event::Reloads => {
                let (status, now) = (self.reloads.borrow_and_update().clone(), Instant::now());
                self.state.reloading(&status, now);
                if let Some(loaded) = &self.state.loaded {
                    self.changes.loaded(&loaded.services, now);
                }
            }
            Event::Talked(ended) => self.talked(ended.as_ref()),
            Event::Wrote(outcome) => {
                self.writing = None;
                self.wrote(*outcome);
            }
            Event::Time => {
                if self.linger.due().is_some_and(|due| due <= self.clock.now()) {
                    self.want();
                }
            }
        }
    }

    /// Takes in what is wanted now.
    pub(super) fn want(&mut self) {
        let services = self.inputs.services.borrow_and_update().clone();
        let consumed = self.inputs.consumed.borrow_and_update().clone();
        let Some(services) = services else { return };
        let taken = self.inputs.selection.update(&services, &consumed).clone();
        let accepted = self.output.accepted();
        let (is_offered, was_served) =
            (|name: &str| services.contains_key(name), |name: &str| accepted.contains_key(name));
        let wanted = self.linger.update(&taken, self.clock.now(), is_offered, was_served).clone();
        self.state.want(&wanted);
    }

    fn talked(&mut self, ended: Option<&Ended>) {
        let Some((talk, _)) = self.talking.take() else { return };
        let now = Instant::now();
        for (name, change) in &talk.changes {
            let is_change = change.before != change.after;
            match ended.and_then(|ended| ended.services.get(name)) {
                Some(End::Settled { .. }) if is_change => {
                    self.changes.live(name, change.after.as_ref(), now);
                    *self.shown.live.get_or_insert_default() += 1;
                }
                Some(End::Reload) => {
                    debug!(output = self.name, service = &**name, "this change needs a reload");
                }
                _ => {}
            }
        }
        self.state.talked(&talk, ended, now);
    }

    fn wrote(&mut self, outcome: Outcome) {
        let Outcome { written, refusals, left_out, conflicts } = outcome;
        let now = Instant::now();
        self.output.refuse(refusals, self.clock.now());
        let is_transient = written.is_err() || !left_out.is_empty() || !self.output.retryable().is_empty();
        let again = if is_transient {
            // A check that takes long because of what is tried again must not take all the time.
            Some(now + self.retry.next_delay().max(self.state.writing_took(now) * 4))
        } else {
            self.retry.reset();
            None
        };
        let waits = |(key, why): (String, String)| (key, format!("it is left out, what is served there waits: {why}"));
        self.status.replace(&format!("{} base", self.component), left_out.into_iter().map(waits).collect());
        let loses = |(name, conflict): (String, crate::output::files::Conflict)| {
            let holder = if conflict.holder.is_empty() { "the configuration itself" } else { &conflict.holder };
            (name, format!("it goes without {} in {}, which {holder} has", conflict.key, conflict.path))
        };
        self.status.replace(&format!("{} claims", self.component), conflicts.into_iter().map(loses).collect());
        match &written {
            Ok(written) => {
                let before = self.state.written.as_ref().map_or(0, |before| before.number);
                self.shown.writes += u64::from(written.number != before);
                self.output.written(&written.services);
                self.status.resolved(&self.component, "files");
                if let Some(saved_state) = &mut self.saved_state {
                    saved_state.save(&written.services, &self.output, &self.linger);
                }
            }
            Err(error) => self.status.problem(&self.component, "files", format!("the old files stay: {error:#}")),
        }
        self.state.wrote(written.map_err(|error| format!("{error:#}")), again, now);
        self.accepted();
    }

    /// Waits for files that are being put into place, and until the next agent finds what it has to know.
    pub(super) async fn end(mut self) {
        if let Some(writing) = self.writing.take() {
            let abort = writing.abort_handle();
            match tokio::time::timeout(END, writing).await {
                Ok(Ok((_, outcome))) => self.wrote(outcome),
                Ok(Err(_)) => {}
                Err(_) => abort.abort(),
            }
        }
        if let Some(saved_state) = self.saved_state.take() {
            let closing = tokio::task::spawn_blocking(move || saved_state.close());
            drop(tokio::time::timeout(END, closing).await);
        }
    }
}
