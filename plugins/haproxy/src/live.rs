//! Brings a running HAProxy to what the catalog says, over its stats socket.
//!
//! Nothing is remembered: what to say follows from what is wanted and what the process answers, so a lost command, another
//! hand on the socket or a restart is put right by asking again. A line holds several commands, separated by `;`, because
//! a connection costs more than a command.
//!
//! A new http service moves into a standby backend: `standby.map`, empty in the file, says which one it has. The
//! routes lead to the service's own name all the time, so that the routes of the process are those of the file.

mod answers;
mod ask;
mod change;
mod cookies;
mod lines;
mod plan;
mod routes;
mod servers;
mod standby;
#[cfg(test)]
mod tests;
mod traffic;

use waypost_plugin_sdk::{Change, LivePlan, Node, PluginError, log};

use crate::settings::Settings;
use answers::Process;
use change::NeedsReload;
use plan::Plan;

/// The process that gave the answers to [`queries`].
pub fn process(answers: &[String]) -> Option<String> {
    answers::process(answers).map(|number| number.to_string())
}

/// What to ask the process about these services.
///
/// # Errors
/// `invalid-input` when HAProxy cannot carry one of them.
pub fn queries(settings: &Settings, changes: &[Change]) -> Result<Vec<String>, PluginError> {
    let changes = change::read(settings, changes)?;
    Ok(ask::texts(&ask::asks(settings, &changes)))
}

/// What to tell it, given the answers to [`queries`].
///
/// # Errors
/// `invalid-input` as above; `other` when an answer is none that HAProxy gives, or when two processes answered: asking
/// again helps.
pub fn plan(
    settings: &Settings,
    _node: &Node,
    changes: &[Change],
    answers: &[String],
) -> Result<LivePlan, PluginError> {
    let changes = change::read(settings, changes)?;
    let process = Process::read(&ask::asks(settings, &changes), answers).map_err(PluginError::Other)?;
    match changes
        .iter()
        .try_for_each(|change| change.check(settings))
        .and_then(|()| Plan::make(settings, &changes, &process))
    {
        Ok(plan) if plan.reload_soon => Ok(LivePlan::CommandsAndReload(plan.lines)),
        Ok(plan) => Ok(LivePlan::Commands(plan.lines)),
        Err(NeedsReload(why)) => {
            log::debug(&format!("a reload is needed: {why}"));
            Ok(LivePlan::Reload)
        }
    }
}
