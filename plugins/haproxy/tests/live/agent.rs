//! What the agent does with the plugin's answers.

use std::time::{Duration, Instant};

use waypost_plugin_haproxy::{plan, queries};
use waypost_plugin_sdk::{Change, LivePlan};

use crate::haproxy::{Catalog, Haproxy, compose, node};

/// Most rounds before a reload.
const ROUNDS: usize = 5;

/// What a change took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) rounds: usize,
    pub(crate) queries: usize,
    pub(crate) commands: usize,
    /// It needs a reload.
    pub(crate) reload: bool,
    /// It asked for one soon.
    pub(crate) reload_soon: bool,
    /// Time in which HAProxy was spoken to.
    pub(crate) spoken: Duration,
}

impl Tally {
    fn ask(&mut self, haproxy: &Haproxy, line: &str) -> String {
        let start = Instant::now();
        let answer = haproxy.ask(line);
        self.spoken += start.elapsed();
        answer
    }
}

/// Asks and says until nothing is left; `lost` decides whether a line gets lost.
pub(crate) fn settle(haproxy: &Haproxy, changes: &[Change], lost: &mut dyn FnMut() -> bool) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..ROUNDS {
        tally.rounds += 1;
        let queries = queries(&haproxy.settings, changes).unwrap();
        let answers: Vec<String> = queries.iter().map(|line| tally.ask(haproxy, line)).collect();
        tally.queries += queries.len();
        let lines = match plan(&haproxy.settings, &node(), changes, &answers).unwrap() {
            LivePlan::Commands(lines) => lines,
            LivePlan::CommandsAndReload(lines) => {
                tally.reload_soon = true;
                lines
            }
            LivePlan::Reload if changes.len() > 1 => {
                for change in changes {
                    let own = settle(haproxy, std::slice::from_ref(change), lost);
                    tally.rounds += own.rounds;
                    tally.queries += own.queries;
                    tally.commands += own.commands;
                    tally.spoken += own.spoken;
                    tally.reload |= own.reload;
                    tally.reload_soon |= own.reload_soon;
                }
                return tally;
            }
            LivePlan::Reload => return Tally { reload: true, ..tally },
        };
        if lines.is_empty() {
            return tally;
        }
        for line in lines {
            tally.commands += 1;
            if !lost() {
                tally.ask(haproxy, &line);
            }
        }
    }
    Tally { reload: true, ..tally }
}

/// From what the files have of one catalog to what they have of another.
pub(crate) fn changes(haproxy: &Haproxy, before: &Catalog, after: &Catalog) -> Vec<Change> {
    let (before, after) = (compose(&haproxy.settings, before).1, compose(&haproxy.settings, after).1);
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let change = |name: &String| Change { before: before.get(name).cloned(), after: after.get(name).cloned() };
    names.into_iter().map(change).filter(|change| change.before != change.after).collect()
}

/// All services, as after a reload.
pub(crate) fn all(haproxy: &Haproxy, catalog: &Catalog) -> Vec<Change> {
    let accepted = compose(&haproxy.settings, catalog).1;
    accepted.into_values().map(|service| Change { before: Some(service.clone()), after: Some(service) }).collect()
}
