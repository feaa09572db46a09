//! The entries of `routes.map`.

use std::collections::{BTreeMap, BTreeSet};

use super::answers::Process;
use super::{NeedsReload, Turn};
use crate::ROUTES;
use crate::settings::Settings;

/// What is wanted of the map by the services that change.
pub(super) struct Routes<'a> {
    /// Key to section.
    wanted: BTreeMap<String, &'a str>,
    /// Keys that led to a section and no longer do.
    unwanted: BTreeMap<&'a str, BTreeSet<String>>,
}

impl<'a> Routes<'a> {
    /// # Errors
    /// Two services want one key, or the process has no map.
    pub(super) fn of(settings: &Settings, turns: &'a [Turn], process: &Process) -> Result<Self, NeedsReload> {
        let mut routes = Routes { wanted: BTreeMap::new(), unwanted: BTreeMap::new() };
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

    /// Commands that make the entries of a service.
    ///
    /// # Errors
    /// One leads elsewhere: which of the two services has it is decided where the files are made.
    pub(super) fn join(&self, turn: &Turn, process: &Process) -> Result<Vec<String>, NeedsReload> {
        let mut commands = Vec::new();
        let own = self.wanted.iter().filter(|(_, name)| **name == turn.name);
        for (key, name) in own {
            match process.route(key) {
                None => commands.push(format!("add map {ROUTES} {key} {name}")),
                Some(other) if other == *name => {}
                Some(other) if self.gives_up(other, key) => commands.push(format!("set map {ROUTES} {key} {name}")),
                Some(other) => return Err(turn.needs_reload(&format!("{key} leads to {other}"))),
            }
        }
        Ok(commands)
    }

    /// Whether a service that is asked about as well has this key and does not want it any more.
    fn gives_up(&self, name: &str, key: &str) -> bool {
        self.unwanted.get(name).is_some_and(|keys| keys.contains(key))
    }
}
