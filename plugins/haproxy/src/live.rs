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
mod cookies;
mod plan;
mod routes;
mod servers;
mod standby;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::BTreeSet;

use waypost_plugin_sdk::{Change, LivePlan, Node, PluginError, Service, log};

use crate::http::{Http, Route};
use crate::settings::{Routing, Settings};
use crate::wanted::{self, Kind, Wanted};
use answers::Process;
use plan::Plan;

/// Longest line, in bytes. A longer one than `tune.bufsize` (16 KiB unless changed) is cut off by HAProxy; this leaves room, and
/// keeps the answer to one line small.
const LINE_LIMIT: usize = 4096;

/// A service that changes.
struct Turn {
    /// Name of its section.
    name: String,
    before: Option<Wanted>,
    after: Option<Wanted>,
}

/// Why a reload is needed.
#[derive(Debug, PartialEq, Eq)]
struct NeedsReload(String);

/// The process that gave the answers to [`queries`].
pub fn process(answers: &[String]) -> Option<String> {
    answers::process(answers).map(|number| number.to_string())
}

/// What to ask the process about these services.
///
/// # Errors
/// `invalid-input` when HAProxy cannot carry one of them.
pub fn queries(settings: &Settings, changes: &[Change]) -> Result<Vec<String>, PluginError> {
    let turns = turns(settings, changes)?;
    Ok(ask::texts(&ask::asks(settings, &turns)))
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
    let turns = turns(settings, changes)?;
    let process = Process::read(&ask::asks(settings, &turns), answers).map_err(PluginError::Other)?;
    match turns.iter().try_for_each(|turn| turn.check(settings)).and_then(|()| Plan::make(settings, &turns, &process)) {
        Ok(plan) if plan.reload_soon => Ok(LivePlan::CommandsAndReload(plan.lines)),
        Ok(plan) => Ok(LivePlan::Commands(plan.lines)),
        Err(NeedsReload(why)) => {
            log::debug(&format!("a reload is needed: {why}"));
            Ok(LivePlan::Reload)
        }
    }
}

/// Bad instances were named when the files were rendered. A service that could not be carried before was not there.
fn turns(settings: &Settings, changes: &[Change]) -> Result<Vec<Turn>, PluginError> {
    let read = |service: &Option<Service>| match service {
        Some(service) => wanted::read(settings, service, &mut |_, _| {}),
        None => Ok(None),
    };
    let mut turns = Vec::new();
    for change in changes {
        let (before, after) = (read(&change.before).unwrap_or_default(), read(&change.after)?);
        let turn = |name: &str, before, after| Turn { name: name.to_owned(), before, after };
        match (before, after) {
            (None, None) => {}
            (Some(before), Some(after)) if before.name != after.name => {
                turns.push(turn(&before.name.clone(), Some(before), None));
                turns.push(turn(&after.name.clone(), None, Some(after)));
            }
            (before, after) => {
                let name = [&before, &after].into_iter().flatten().map(|wanted| wanted.name.clone()).next();
                turns.push(turn(&name.unwrap_or_default(), before, after));
            }
        }
    }
    turns.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(turns)
}

impl Turn {
    /// Whether it needs what only a file can say: a section, a port, a rule.
    fn check(&self, settings: &Settings) -> Result<(), NeedsReload> {
        let why =
            match (self.before.as_ref().map(|wanted| &wanted.kind), self.after.as_ref().map(|wanted| &wanted.kind)) {
                (None, Some(Kind::Tcp(_))) => "a new tcp service needs a port",
                (Some(Kind::Tcp(before)), Some(Kind::Tcp(after))) if before.port != after.port => {
                    "its listen-port changed"
                }
                (Some(Kind::Tcp(_)), Some(Kind::Http(_))) | (Some(Kind::Http(_)), Some(Kind::Tcp(_))) => {
                    "its protocol changed"
                }
                (None, Some(Kind::Http(_))) if settings.routing == Routing::Acl => "a new domain needs an acl",
                (Some(Kind::Http(before)), Some(Kind::Http(after)))
                    if settings.routing == Routing::Acl && before.routes != after.routes =>
                {
                    "its domains or paths changed, and they are acls"
                }
                _ => return Ok(()),
            };
        Err(self.needs_reload(why))
    }

    fn needs_reload(&self, why: &str) -> NeedsReload {
        NeedsReload(format!("{}: {why}", self.name))
    }

    /// What is read or written in `routes.map` for it.
    fn is_routed(&self, settings: &Settings) -> bool {
        let http = |wanted: &Option<Wanted>| wanted.as_ref().is_some_and(|wanted| wanted.http().is_some());
        settings.routing == Routing::Map && (http(&self.before) || http(&self.after))
    }

    /// Whether it leaves without servers, so that nothing but what the file says of it is left.
    fn leaves_empty(&self) -> bool {
        self.after.is_none() && self.before.as_ref().is_some_and(|before| before.servers().is_empty())
    }

    /// Keys of the map that keep the rest of a domain from `*`, before and after.
    fn markers(&self) -> [BTreeSet<String>; 2] {
        [&self.before, &self.after]
            .map(|wanted| wanted.as_ref().and_then(Wanted::http).map(Http::markers).unwrap_or_default())
    }

    /// Keys of the map that lead to it before and after.
    fn keys(&self) -> [Vec<String>; 2] {
        [&self.before, &self.after].map(|wanted| {
            let http = wanted.as_ref().and_then(Wanted::http);
            http.map(|http| http.routes.iter().map(Route::key).collect()).unwrap_or_default()
        })
    }
}

/// Joins commands, keeping their order, into lines that HAProxy takes.
fn join<'a>(commands: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for command in commands {
        match lines.last_mut() {
            Some(line) if line.len() + 2 + command.len() <= LINE_LIMIT => {
                line.push_str("; ");
                line.push_str(command);
            }
            _ => lines.push(command.to_owned()),
        }
    }
    lines
}
