//! What to ask.

use std::collections::BTreeSet;

use super::{LINE_LIMIT, Turn, spares};
use crate::settings::Settings;
use crate::{ROUTES, SPARES};

/// A question to HAProxy; each has an answer that ends in an empty line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ask {
    /// Which HAProxy it is.
    Version,
    /// Which service has which prepared backend.
    Claims,
    /// The servers of a section.
    Servers(String),
    /// How many connections they have.
    Connections(String),
    /// Whether the section listens somewhere.
    Listener(String),
    /// Where a key of the map leads to.
    Route(String),
}

impl Ask {
    fn command(&self) -> String {
        match self {
            Ask::Version => "show version".to_owned(),
            Ask::Claims => format!("show map {SPARES}"),
            Ask::Servers(section) => format!("show servers state {section}"),
            Ask::Connections(section) => format!("show servers conn {section}"),
            Ask::Listener(section) => format!("show stat {section} 1 -1"),
            Ask::Route(key) => format!("get map {ROUTES} {key}"),
        }
    }
}

/// Everything that decides on these services, each question once.
pub(super) fn asks(settings: &Settings, turns: &[Turn]) -> Vec<Ask> {
    if turns.is_empty() {
        return Vec::new();
    }
    let mut asks = BTreeSet::from([Ask::Version]);
    if turns.iter().any(|turn| turn.check(settings).is_err()) {
        return asks.into_iter().collect();
    }
    for turn in turns {
        let mut sections = vec![turn.name.clone()];
        if turn.is_routed(settings) {
            asks.extend(turn.keys().into_iter().flatten().map(Ask::Route));
            let candidates = spares::candidates(settings.spares(), &turn.name);
            if !candidates.is_empty() {
                asks.insert(Ask::Claims);
            }
            sections.extend(candidates);
        }
        if turn.before.is_none() {
            asks.insert(Ask::Listener(turn.name.clone()));
        }
        asks.extend(sections.iter().cloned().map(Ask::Servers));
        asks.extend(sections.into_iter().map(Ask::Connections));
    }
    asks.into_iter().collect()
}

/// The questions that share a line.
pub(super) fn lines(asks: &[Ask]) -> Vec<&[Ask]> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut length = 0;
    for (index, ask) in asks.iter().enumerate() {
        let own = ask.command().len() + 2;
        if index > start && length + own > LINE_LIMIT {
            lines.push(&asks[start..index]);
            (start, length) = (index, 0);
        }
        length += own;
    }
    if start < asks.len() {
        lines.push(&asks[start..]);
    }
    lines
}

/// The line.
pub(super) fn text(asks: &[Ask]) -> String {
    let commands: Vec<String> = asks.iter().map(Ask::command).collect();
    commands.join("; ")
}
