//! Plans the commands for the entries of `routes.map`.

use std::collections::{BTreeMap, BTreeSet};

use super::answers::Process;
use super::change::{NeedsReload, ServiceChange};
use crate::files::ROUTES;
use crate::names::NOBODY;
use crate::settings::Settings;

/// The desired entries of the services that change.
pub(super) struct Routes<'a> {
    settings: &'a Settings,
    /// Key to section.
    desired: BTreeMap<String, &'a str>,
    /// Keys that led to a section and no longer do.
    obsolete: BTreeMap<&'a str, BTreeSet<String>>,
}

impl<'a> Routes<'a> {
    /// Collects the entries.
    ///
    /// # Errors
    /// Two services want one key, or the process has no map.
    pub(super) fn of(
        settings: &'a Settings,
        changes: &'a [ServiceChange],
        process: &Process,
    ) -> Result<Self, NeedsReload> {
        let mut routes = Routes { settings, desired: BTreeMap::new(), obsolete: BTreeMap::new() };
        for change in changes.iter().filter(|change| change.is_routed(settings)) {
            if !process.has_routes {
                return Err(change.needs_reload("it is the first http service"));
            }
            let [before, after] = change.keys();
            for key in &after {
                if let Some(other) = routes.desired.insert(key.clone(), &change.name) {
                    return Err(change.needs_reload(&format!("{other} wants {key} as well")));
                }
            }
            let gone = before.into_iter().filter(|key| !after.contains(key)).collect();
            routes.obsolete.insert(&change.name, gone);
        }
        Ok(routes)
    }

    /// Returns the commands that remove entries, except those that lead to another service by now.
    pub(super) fn removals(&self, change: &ServiceChange, process: &Process) -> Vec<String> {
        let gone = self.obsolete.get(change.name.as_str()).into_iter().flatten();
        gone.filter(|key| !self.desired.contains_key(*key) && process.route(key) == Some(change.name.as_str()))
            .map(|key| format!("del map {ROUTES} {key}"))
            .collect()
    }

    /// Returns the commands that add the entries of a service. They also take over entries that lead elsewhere: the agent grants
    /// a claim to one service only, and the other service removes no entry but its own.
    pub(super) fn additions(&self, change: &ServiceChange, process: &Process) -> Vec<String> {
        let mut commands = Vec::new();
        let own = self.desired.iter().filter(|(_, name)| **name == change.name);
        let [_, markers] = if change.is_routed(self.settings) { change.markers() } else { Default::default() };
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

    /// Returns whether the service leaves a marker that others may share, so that only the file tells whether it stays.
    pub(super) fn leaves_marker(&self, change: &ServiceChange) -> bool {
        let [before, after] = change.markers();
        let [_, keys] = change.keys();
        // With the root of the domain in the map, no lookup reaches the marker.
        let is_left = |marker: &String| !after.contains(marker) && !keys.iter().any(|key| *marker == format!("{key}/"));
        change.is_routed(self.settings) && before.iter().any(is_left)
    }
}
