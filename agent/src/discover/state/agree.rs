//! Whether the five states agree, and what is owed when they do not.

use std::sync::Arc;

use tokio::time::Instant;

use super::State;
use super::running::Running;
use crate::simulated::{Fault, has};

/// Most services that are named in one sentence.
const NAMED: usize = 5;

impl State {
    /// Whether a reload is owed: written and loaded differ in something that live updates cannot bring.
    pub(super) fn owed(&self, now: Instant) -> bool {
        let Some(written) = &self.written else { return false };
        let Some(loaded) = &self.loaded else { return true };
        if !loaded.has_base_of(written) {
            return true;
        }
        let Some(running) = &self.running else { return loaded.number != written.number };
        let differ = loaded.number != written.number;
        let brings = |(name, version): (&Arc<str>, &Option<Arc<_>>)| {
            let is_missing = loaded.services.get(name) != version.as_ref() || has(Fault::StuckForEver);
            written.services.get(name) == version.as_ref() && is_missing
        };
        let soon = running.soon() && differ && !self.files_differ();
        soon || (differ && running.is_away()) || running.stuck().iter().any(brings) || running.is_repair_due(now)
    }

    /// Whether the last reload was reported as successful, but the old process still answers.
    pub fn is_reload_lost(&self) -> bool {
        self.running.as_ref().is_some_and(Running::is_lost)
    }

    /// What the states differ in, in words; nothing when the output is up to date.
    pub fn differences(&self, now: Instant) -> Vec<String> {
        let mut said = Vec::new();
        if self.written.is_none() && self.writing.error().is_none() {
            said.push("it has not begun".to_owned());
        }
        if !self.behind.is_empty() {
            let named: Vec<&str> = self.behind.iter().take(NAMED).map(|name| &**name).collect();
            let more = if self.behind.len() > NAMED { ", …" } else { "" };
            let count = self.behind.len();
            let what = if count == 1 { "1 service is" } else { &format!("{count} services are") };
            said.push(format!("{what} not served as wanted: {}{more}", named.join(", ")));
        }
        if self.is_new {
            said.push("what is wanted has just changed".to_owned());
        }
        if let Some(error) = self.writing.error() {
            said.push(format!("the files are not written: {error}"));
        } else if self.written.is_some() && (self.files_differ() || self.writing.is_under_way()) {
            said.push("the files follow".to_owned());
        }
        if self.owed(now) || self.reloads.done != self.reloads.wanted {
            said.push("the proxy is to be reloaded".to_owned());
        }
        if self.is_reload_lost() {
            said.push("the last reload had no effect: the old process still answers".to_owned());
        }
        let queries = self.running.as_ref().map_or(0, |running| running.open_queries(&self.accepted));
        if queries > 0 && self.loaded.is_some() {
            said.push(format!("the proxy is being told or asked about {queries} services"));
        }
        let left_out = self.written.iter().flat_map(|written| &written.left_out);
        said.extend(left_out.map(|key| format!("{key} is left out, since somebody else has its address")));
        said
    }
}
