//! What is shown of one output.

use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

use super::Serving;
use crate::discover::write::Disk;

/// What is said of a reload that did nothing.
const LOST: &str = "it reported success, but the old process still answers with the old files: \
                    see whether the reload reaches this proxy; it is tried again";
/// Most services that are shown to have left.
const LINGERING: usize = 20;

impl<D: Disk + 'static> Serving<D> {
    pub(super) fn publish(&mut self) {
        let reloads = self.reloads.borrow().clone();
        let state = &mut self.shown;
        state.services = self.output.services();
        state.reloads = reloads.reloads;
        state.differences = self.state.differences(Instant::now());
        state.settled = state.differences.is_empty();
        let until = |time| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(time)).to_string();
        let lingering = self.linger.all().take(LINGERING).map(|(name, time)| (name.to_string(), until(time)));
        state.lingering = lingering.collect();
        if self.speaker.is_some() {
            state.live.get_or_insert_default();
        }
        let lost = self.state.is_reload_lost().then(|| LOST.to_owned());
        match reloads.last_error.or(lost) {
            Some(text) => self.status.problem(&self.component, "reload", text),
            None => self.status.resolved(&self.component, "reload"),
        }
        self.status.output(&self.name, state.clone());
    }
}
