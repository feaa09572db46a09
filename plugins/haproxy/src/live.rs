//! Applies the catalog to a running HAProxy over its stats socket.
//!
//! The plugin keeps no state: the commands follow from the desired state and from what the process answers, so the next
//! queries repair a lost command, another client's change or a restart. A line holds several commands, separated by `;`,
//! because a connection costs more than a command.
//!
//! A new http service moves into a standby backend: `standby.map`, empty in the file, says which one it has. The
//! routes always lead to the service's own name, so that the process has the same routes as the file.

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

/// Identifies the process that answered [`queries`], by its process id.
pub fn process(answers: &[String]) -> Option<String> {
    answers::process(answers)
}

/// Lists the queries that the process has to answer before [`plan`], one line each; without changes the one that
/// [`process`] needs.
///
/// # Errors
/// `invalid-input` when HAProxy cannot proxy one of the services.
pub fn queries(settings: &Settings, changes: &[Change]) -> Result<Vec<String>, PluginError> {
    if changes.is_empty() {
        return Ok(vec![ask::PROCESS.to_owned()]);
    }
    let changes = change::read(settings, changes)?;
    Ok(ask::texts(&ask::asks(settings, &changes)))
}

/// Plans the commands for these changes, given the answers to [`queries`].
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
    if changes.is_empty() {
        return Ok(LivePlan::Commands(Vec::new()));
    }
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
