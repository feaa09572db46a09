//! Reports what is preserved: one problem, however many instances.

use std::time::SystemTime;

use tokio::time::Instant;

use super::source::LayoutSource;
use crate::status::Status;

const PLACE: &str = "catalog";
const UNIT: &str = "self-preservation";

/// What is said of preserved instances.
#[derive(Default)]
pub(super) struct SelfPreservationReport {
    shown: Option<(usize, Instant)>,
}

impl SelfPreservationReport {
    /// Says what is preserved now, takes it back when nothing is.
    pub(super) fn show(&mut self, sources: &[LayoutSource], status: &Status) {
        let preserved: Vec<_> =
            sources.iter().filter_map(|source| source.self_preservation.as_ref()?.preserved()).collect();
        let instances = preserved.iter().map(|one| one.instances).sum();
        let now = preserved.iter().map(|one| one.until).max().map(|until| (instances, until));
        let before = std::mem::replace(&mut self.shown, now);
        let Some((instances, until)) = now.filter(|_| now != before) else {
            if now.is_none() && before.is_some() {
                status.resolved(PLACE, UNIT);
            }
            return;
        };
        let all: usize = preserved.iter().map(|one| one.of).sum();
        let mut hosts: Vec<_> = preserved.iter().flat_map(|one| &one.hosts).map(String::as_str).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let of = if hosts.is_empty() { String::new() } else { format!(" (hosts {})", hosts.join(", ")) };
        let until = SystemTime::now() + until.saturating_duration_since(Instant::now());
        let until = humantime::format_rfc3339_seconds(until);
        let text = format!(
            "{instances} of {all} instances vanished at once and no agent took them back{of}: they stay until {until}, or \
             until their agents are back without them; see whether those hosts and the registry are well"
        );
        // Their number changes while leases end and agents come back, which is no news for the log.
        if before.is_none() {
            status.problem(PLACE, UNIT, text);
        } else {
            status.update(PLACE, UNIT, text);
        }
    }
}
