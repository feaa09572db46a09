//! What the agent does with the plugin's answers.

use waypost_plugin_haproxy::{questions, update};
use waypost_plugin_sdk::{Change, Reaction};

use crate::haproxy::{Catalog, Haproxy, compose, node};

/// Most rounds before a reload.
const ROUNDS: usize = 5;

/// What a change took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) rounds: usize,
    pub(crate) questions: usize,
    pub(crate) commands: usize,
    /// It needs a reload.
    pub(crate) reload: bool,
    /// It asked for one soon.
    pub(crate) reload_soon: bool,
}

/// Asks and says until nothing is left; `lost` decides whether a line gets lost.
pub(crate) fn settle(haproxy: &Haproxy, changes: &[Change], lost: &mut dyn FnMut() -> bool) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..ROUNDS {
        tally.rounds += 1;
        let questions = questions(&haproxy.settings, changes).unwrap();
        let answers: Vec<String> = questions.iter().map(|line| haproxy.ask(line)).collect();
        tally.questions += questions.len();
        let lines = match update(&haproxy.settings, &node(), changes, &answers).unwrap() {
            Reaction::Commands(lines) => lines,
            Reaction::CommandsAndReload(lines) => {
                tally.reload_soon = true;
                lines
            }
            Reaction::Reload if changes.len() > 1 => {
                for change in changes {
                    let own = settle(haproxy, std::slice::from_ref(change), lost);
                    tally.rounds += own.rounds;
                    tally.questions += own.questions;
                    tally.commands += own.commands;
                    tally.reload |= own.reload;
                    tally.reload_soon |= own.reload_soon;
                }
                return tally;
            }
            Reaction::Reload => return Tally { reload: true, ..tally },
        };
        if lines.is_empty() {
            return tally;
        }
        for line in lines {
            tally.commands += 1;
            if !lost() {
                haproxy.ask(&line);
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
