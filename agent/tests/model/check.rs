//! What must hold when all is quiet, from the rules and not from the agent's code.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::catalog::{Offer, Offers, server};
use crate::process::{Process, View};
use crate::run::{LINGER, differing};
use crate::world::World;

/// What was seen of services so far.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    /// Who had which key when all was quiet last, and has asked for it since.
    holders: BTreeMap<String, &'static str>,
    /// Forms that a service ever had.
    forms: BTreeMap<&'static str, Vec<Offer>>,
    /// Services that left, when, and the keys that led to them and nobody else has asked for since.
    left: BTreeMap<&'static str, (Instant, BTreeSet<String>)>,
}

/// The service that a server stands for.
fn service<'a>(offers: &'a BTreeMap<&'static str, Vec<Offer>>, server_line: &str) -> Option<&'a &'static str> {
    let id = server_line.split(' ').next()?;
    offers.keys().find(|name| (0..8).any(|number| server(name, number) == id))
}

fn section(name: &str) -> String {
    name.replace('/', "_")
}

impl Witness {
    /// These are offered now.
    pub(crate) fn offered(&mut self, offers: &Offers) {
        for (name, offer) in offers {
            let forms = self.forms.entry(name).or_default();
            if !forms.contains(offer) {
                forms.push(offer.clone());
            }
            self.left.remove(name);
            let keys = offer.keys();
            for (other, (_, theirs)) in &mut self.left {
                let is_same_section = section(other) == section(name);
                theirs.retain(|key| !is_same_section && !keys.contains(key));
            }
        }
        // Who does not ask for a key any more may lose it; who left may lose it to whoever asks anew.
        let left = &self.left;
        self.holders.retain(|key, holder| match offers.get(holder) {
            Some(offer) => offer.keys().contains(key),
            None => left.get(holder).is_some_and(|(_, keys)| keys.contains(key)),
        });
    }

    /// A service left.
    pub(crate) fn left(&mut self, name: &'static str) {
        let keys = self.holders.iter().filter(|(_, holder)| **holder == name).map(|(key, _)| key.clone()).collect();
        self.left.insert(name, (Instant::now(), keys));
    }

    /// What led to services that left a moment ago still does.
    pub(crate) fn lingers(&self, world: &mut World) {
        let Some(view) = world.process.as_ref().map(Process::view) else { return };
        for (name, (at, keys)) in &self.left {
            for key in keys.iter().filter(|key| !key.starts_with("port ")) {
                let found = view.routes.get(key).map(|(name, _)| name.clone());
                if at.elapsed() < LINGER * 3 / 4 && found.as_deref() != Some(&section(name)) {
                    world.violate(format!(
                        "{key} led to {name}, which left {:?} ago, and now to {found:?}",
                        at.elapsed()
                    ));
                }
            }
        }
    }

    /// What is wrong now.
    pub(crate) fn settled(&self, world: &mut World, offers: &Offers, differences: &[String]) -> Vec<String> {
        let mut wrong = Vec::new();
        let Some(process) = &world.process else { return vec!["the proxy does not run".to_owned()] };
        let view = process.view().without_markers();
        match Process::load(&world.files) {
            // Somebody took a port after the check and before the reload: it is tried until he leaves it.
            Ok(fresh) if fresh.ports().iter().any(|port| world.taken.contains(port)) => return Vec::new(),
            Ok(fresh) => same(&view, &fresh, process, &mut wrong),
            Err((line, text)) => wrong.push(format!("the files are invalid: line {line}: {text}")),
        }
        let holders = self.holders_in(&view);
        let is_behind = offers.iter().any(|(name, offer)| !is_whole(world, name, offer, &holders));
        let is_left_out = world.taken.iter().any(|port| *port == 8080);
        let retries = offers.values().any(|offer| is_refused(world, offer));
        for text in differences {
            let is_fine = (is_behind && text.contains("not served as wanted"))
                || ((is_left_out) && text.contains("left out"))
                || (retries && text.contains("the files follow"));
            if !is_fine {
                wrong.push(format!("the agent says: {text}"));
            }
        }
        for (name, offer) in offers {
            self.service(name, offer, offers, &view, &holders, world, &mut wrong);
        }
        for (owner, servers) in &view.live {
            for line in servers {
                let name = service(&self.forms, line);
                if name.is_none_or(|name| !offers.contains_key(name)) {
                    wrong.push(format!("{owner} sends requests to {line}, which nobody offers"));
                }
            }
        }
        for (key, holder) in &self.holders {
            let Some(now) = holders.get(key) else { continue };
            if now != holder && offers.contains_key(holder) && !is_refused(world, &offers[holder]) {
                wrong.push(format!("{key} was {holder}'s, which never ceased to ask for it, and is {now}'s"));
            }
        }
        wrong
    }

    /// Who is served under which key.
    fn holders_in(&self, view: &View) -> BTreeMap<String, &'static str> {
        let mut holders = BTreeMap::new();
        let routes = view.routes.iter().map(|(key, (_, servers))| (key.clone(), servers));
        let ports = view.ports.iter().map(|(port, (_, servers))| (format!("port {port}"), servers));
        for (key, servers) in routes.chain(ports) {
            if let Some(name) = servers.iter().find_map(|line| service(&self.forms, line)) {
                holders.insert(key, *name);
            }
        }
        holders
    }

    /// One service: all that is its alone leads to its servers, and what does not leads to another that asks for it too.
    #[expect(clippy::too_many_arguments, reason = "all that is known of one service")]
    fn service(
        &self,
        name: &'static str,
        offer: &Offer,
        offers: &Offers,
        view: &View,
        holders: &BTreeMap<String, &'static str>,
        world: &World,
        wrong: &mut Vec<String>,
    ) {
        let keys = offer.keys();
        let home = view.live.get(&section(name)).cloned().unwrap_or_default();
        let is_home = home.iter().any(|line| service(&self.forms, line) == Some(&name));
        if is_refused(world, offer) {
            let known = self.forms.get(name).into_iter().flatten().filter(|form| !form.is_bad() && *form != offer);
            if is_home && !known.into_iter().any(|form| form.servers(name) == home) {
                wrong.push(format!("{name} is refused and is not what it was: {home:?}"));
            }
            return;
        }
        if is_home && home != offer.servers(name) {
            wrong.push(format!("{name} has other servers: {}", differing(&home, &offer.servers(name))));
        }
        let rivals: Vec<_> = offers.iter().filter(|(other, _)| **other != name).collect();
        let has_rival =
            |key: &String| rivals.iter().any(|(_, other)| is_refused(world, other) || other.keys().contains(key));
        let has_section_rival = rivals.iter().any(|(other, _)| section(other) == section(name));
        let mut served = 0;
        for key in &keys {
            match holders.get(key) {
                Some(holder) if *holder == name => served += 1,
                Some(holder) if may_have(world, holder, key, offers) => {}
                Some(holder) => wrong.push(format!("{name} asks for {key}, and {holder} has it, which does not")),
                None => {
                    if !(has_rival(key) || has_section_rival) {
                        wrong.push(format!("{name} asks for {key}, and nobody has it"));
                    }
                }
            }
        }
        if served == 0 && is_home && view.routes.values().any(|(owner, _)| *owner == section(name)) {
            wrong.push(format!("{name} is served under none of its keys"));
        }
    }

    /// Takes down who has what.
    pub(crate) fn remember(&mut self, world: &World, offers: &Offers) {
        let Some(process) = &world.process else { return };
        self.left.clear();
        let holders = self.holders_in(&process.view());
        self.holders = holders
            .into_iter()
            .filter(|(key, holder)| offers.get(holder).is_some_and(|offer| offer.keys().contains(key)))
            .collect();
    }
}

fn may_have(world: &World, holder: &str, key: &String, offers: &Offers) -> bool {
    offers.get(holder).is_some_and(|offer| is_refused(world, offer) || offer.keys().contains(key))
}

/// Whether a service is served as it is wanted, as far as can be seen from outside.
fn is_whole(world: &World, name: &str, offer: &Offer, holders: &BTreeMap<String, &'static str>) -> bool {
    !is_refused(world, offer) && offer.keys().iter().all(|key| holders.get(key).is_some_and(|holder| *holder == name))
}

/// Whether the plugin or the check refuses a service as it is, or somebody else has its port.
fn is_refused(world: &World, offer: &Offer) -> bool {
    offer.is_bad() || offer.keys().iter().any(|key| is_taken(world, key))
}

/// Whether somebody else has what a key needs.
fn is_taken(world: &World, key: &str) -> bool {
    let port = key.strip_prefix("port ").and_then(|port| port.parse::<u16>().ok());
    port.is_some_and(|port| world.taken.contains(&port))
}

/// The process runs what a fresh one would, though a service may live in a prepared section.
fn same(view: &View, fresh: &Process, process: &Process, wrong: &mut Vec<String>) {
    let fresh_view = fresh.view().without_markers();
    let routes = |view: &View| view.routes.iter().map(|one| format!("{one:?}")).collect::<BTreeSet<_>>();
    let ports = |view: &View| view.ports.iter().map(|one| format!("{one:?}")).collect::<BTreeSet<_>>();
    if routes(view) != routes(&fresh_view) {
        wrong.push(format!(
            "routes of the process and of its files: {}",
            differing(&routes(view), &routes(&fresh_view))
        ));
    }
    if ports(view) != ports(&fresh_view) {
        wrong.push(format!("ports of the process and of its files: {}", differing(&ports(view), &ports(&fresh_view))));
    }
    if view.live != fresh_view.live {
        wrong.push(format!("servers of the process {:?} and of its files {:?}", view.live, fresh_view.live));
    }
    if process.structure() != fresh.structure() {
        wrong.push("the process has not the base of its files".to_owned());
    }
}
