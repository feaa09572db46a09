//! What to ask.

use std::collections::BTreeSet;

use super::change::ServiceChange;
use super::lines::LINE_LIMIT;
use super::{cookies, standby};
use crate::files::{ROUTES, STANDBYS};
use crate::settings::Settings;

/// A query to HAProxy; each has an answer that ends in an empty line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    /// Which HAProxy it is.
    Version,
    /// Which service has which standby backend.
    Claims,
    /// The servers of a section.
    Servers(String),
    /// How many connections they have.
    Connections(String),
    /// Who is in a section: its frontend and backend, and with `true` its servers too.
    Traffic(String, bool),
    /// Where a key of the map leads to.
    Route(String),
}

impl Ask {
    fn command(&self) -> String {
        match self {
            Ask::Version => "show version".to_owned(),
            Ask::Claims => format!("show map {STANDBYS}"),
            Ask::Servers(section) => format!("show servers state {section}"),
            Ask::Connections(section) => format!("show servers conn {section}"),
            Ask::Traffic(section, false) => format!("show stat {section} 3 -1"),
            Ask::Traffic(section, true) => format!("show stat {section} 7 -1"),
            Ask::Route(key) => format!("get map {ROUTES} {key}"),
        }
    }
}

/// Up to so many changes of one call are asked about closely: the traffic of a section has a header of 2 to 4 KB. When
/// that matters among more, it is a reload, and the agent asks about each alone.
const FEW: usize = 4;

/// Everything that decides on these services, each query once.
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
            asks.insert(Ask::Claims);
        }
        let with_cookies = has_cookies && change.after.as_ref().is_some_and(|after| after.http().is_some());
        let traffic = |section: &String| Ask::Traffic(section.clone(), with_cookies);
        let is_new = change.before.is_none();
        // One that should have its place may have lost it all the same.
        let places = match change.after {
            _ if with_cookies || is_new => candidates.len(),
            Some(_) if are_few => 2,
            _ => 0,
        };
        asks.extend(candidates.iter().take(places).map(traffic));
        if with_cookies || is_new || change.leaves_empty() || (are_few && change.before == change.after) {
            asks.insert(traffic(&change.name));
        }
        for section in candidates.into_iter().chain([change.name.clone()]) {
            asks.extend([Ask::Servers(section.clone()), Ask::Connections(section)]);
        }
    }
    asks.into_iter().collect()
}

/// Asked first on every line: the process that answers it.
pub(super) const PROCESS: &str = "show info";

/// The queries that share a line.
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

/// The lines as they are sent.
pub(super) fn texts(asks: &[Ask]) -> Vec<String> {
    let text = |asks: &[Ask]| asks.iter().fold(PROCESS.to_owned(), |line, ask| format!("{line}; {}", ask.command()));
    lines(asks).into_iter().map(text).collect()
}
