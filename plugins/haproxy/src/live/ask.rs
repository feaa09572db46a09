//! Builds the queries.

use std::collections::BTreeSet;

use super::change::ServiceChange;
use super::lines::LINE_LIMIT;
use super::{cookies, standby};
use crate::files::{ROUTES, STANDBYS};
use crate::settings::Settings;

/// A query to HAProxy, whose answer ends in an empty line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    /// The version of HAProxy.
    Version,
    /// The standby backend of each service that has one.
    Standbys,
    /// The servers of a section.
    Servers(String),
    /// The number of connections of the servers of a section.
    Connections(String),
    /// The traffic of a section: of its frontend and backend, and with `true` of its servers too.
    Traffic(String, bool),
    /// The value of a key of the map.
    Route(String),
}

impl Ask {
    fn command(&self) -> String {
        match self {
            Ask::Version => "show version".to_owned(),
            Ask::Standbys => format!("show map {STANDBYS}"),
            Ask::Servers(section) => format!("show servers state {section}"),
            Ask::Connections(section) => format!("show servers conn {section}"),
            Ask::Traffic(section, false) => format!("show stat {section} 3 -1"),
            Ask::Traffic(section, true) => format!("show stat {section} 7 -1"),
            Ask::Route(key) => format!("get map {ROUTES} {key}"),
        }
    }
}

/// Up to so many changes in one call, the queries include all traffic: each such answer has a header of 2 to 4 KB. Where that
/// matters among more changes, the plan is a reload, and the agent asks about each change alone.
const FEW: usize = 4;

/// Returns every query that the plan for these changes needs, each once.
pub(super) fn asks(settings: &Settings, changes: &[ServiceChange]) -> Vec<Ask> {
    if changes.is_empty() {
        return Vec::new();
    }
    let mut asks = BTreeSet::from([Ask::Version]);
    if changes.iter().any(|change| change.check(settings).is_err()) {
        return asks.into_iter().collect();
    }
    let are_few = changes.len() <= FEW;
    let has_cookies = cookies::key(settings).is_some();
    for change in changes {
        let is_routed = change.is_routed(settings);
        let candidates = if is_routed { standby::candidates(settings.standbys(), &change.name) } else { Vec::new() };
        if is_routed {
            asks.extend(change.keys().into_iter().flatten().map(Ask::Route));
            asks.extend(change.markers().into_iter().flatten().map(Ask::Route));
        }
        if !candidates.is_empty() {
            asks.insert(Ask::Standbys);
        }
        let with_cookies = has_cookies && change.after.as_ref().is_some_and(|after| after.http().is_some());
        let traffic = |section: &String| Ask::Traffic(section.clone(), with_cookies);
        let is_new = change.before.is_none();
        let is_unchanged = change.before == change.after;
        // HAProxy goes through all sections for the traffic of one, so this is asked only where a service may need a standby
        // backend. One that has not changed should have its own, and may have lost it all the same.
        let places = match change.after {
            _ if with_cookies || is_new => candidates.len(),
            Some(_) if are_few && is_unchanged => 2,
            _ => 0,
        };
        asks.extend(candidates.iter().take(places).map(traffic));
        if with_cookies || is_new || change.leaves_port() || (are_few && is_unchanged) {
            asks.insert(traffic(&change.name));
        }
        for section in candidates.into_iter().chain([change.name.clone()]) {
            asks.extend([Ask::Servers(section.clone()), Ask::Connections(section)]);
        }
    }
    asks.into_iter().collect()
}

/// The first query of every line, which identifies the process.
pub(super) const PROCESS: &str = "show info";

/// Groups the queries that share a line.
pub(super) fn lines(asks: &[Ask]) -> Vec<&[Ask]> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut length = PROCESS.len() + 2;
    for (index, ask) in asks.iter().enumerate() {
        let own = ask.command().len() + 2;
        if index > start && length + own > LINE_LIMIT {
            lines.push(&asks[start..index]);
            (start, length) = (index, PROCESS.len() + 2);
        }
        length += own;
    }
    if start < asks.len() {
        lines.push(&asks[start..]);
    }
    lines
}

/// Renders the lines.
pub(super) fn texts(asks: &[Ask]) -> Vec<String> {
    let text = |asks: &[Ask]| asks.iter().fold(PROCESS.to_owned(), |line, ask| format!("{line}; {}", ask.command()));
    lines(asks).into_iter().map(text).collect()
}
