//! The entries of `routes.map`.

use std::collections::{BTreeMap, BTreeSet};

use super::answers::Process;
use super::change::{NeedsReload, Turn};
use crate::files::ROUTES;
use crate::names::NOBODY;
use crate::settings::Settings;

/// What is wanted of the map by the services that change.
pub(super) struct Routes<'a> {
    settings: &'a Settings,
    /// Key to section.
    wanted: BTreeMap<String, &'a str>,
    /// Keys that led to a section and no longer do.
    unwanted: BTreeMap<&'a str, BTreeSet<String>>,
}

impl<'a> Routes<'a> {
    /// # Errors
    /// Two services want one key, or the process has no map.
    pub(super) fn of(settings: &'a Settings, turns: &'a [Turn], process: &Process) -> Result<Self, NeedsReload> {
        let mut routes = Routes { settings, wanted: BTreeMap::new(), unwanted: BTreeMap::new() };
        for turn in turns.iter().filter(|turn| turn.is_routed(settings)) {
            if !process.has_routes {
                return Err(turn.needs_reload("it is the first http service"));
            }
            let [before, after] = turn.keys();
            for key in &after {
                if let Some(other) = routes.wanted.insert(key.clone(), &turn.name) {
                    return Err(turn.needs_reload(&format!("{other} wants {key} as well")));
                }
            }
            let gone = before.into_iter().filter(|key| !after.contains(key)).collect();
            routes.unwanted.insert(&turn.name, gone);
        }
        Ok(routes)
    }

    /// Commands that take entries away: a key which another service has by now is that one's.
    pub(super) fn leave(&self, turn: &Turn, process: &Process) -> Vec<String> {
        let gone = self.unwanted.get(turn.name.as_str()).into_iter().flatten();
        gone.filter(|key| !self.wanted.contains_key(*key) && process.route(key) == Some(turn.name.as_str()))
            .map(|key| format!("del map {ROUTES} {key}"))
            .collect()
    }

    /// Commands that make the entries of a service. What leads elsewhere is taken over: only one service is given what
    /// another claims as well, and the other one takes away no entry but its own.
    pub(super) fn join(&self, turn: &Turn, process: &Process) -> Vec<String> {
        let mut commands = Vec::new();
        let own = self.wanted.iter().filter(|(_, name)| **name == turn.name);
        let [_, markers] = if turn.is_routed(self.settings) { turn.markers() } else { Default::default() };
        let markers = markers.iter().map(|marker| (marker, NOBODY));
        for (key, name) in own.map(|(key, name)| (key, *name)).chain(markers) {
            match process.route(key) {
                None => commands.push(format!("add map {ROUTES} {key} {name}")),
                Some(other) if other == name => {}
                Some(_) => commands.push(format!("set map {ROUTES} {key} {name}")),
            }
        }
        commands
    }

    /// Whether it leaves a marker that others may share: the file knows whether it stays.
    pub(super) fn leaves_marker(&self, turn: &Turn) -> bool {
        let [before, after] = turn.markers();
        let [_, keys] = turn.keys();
        // With the root of the domain in the map nothing looks for the marker.
        let is_left = |marker: &String| !after.contains(marker) && !keys.iter().any(|key| *marker == format!("{key}/"));
        turn.is_routed(self.settings) && before.iter().any(is_left)
    }
}
