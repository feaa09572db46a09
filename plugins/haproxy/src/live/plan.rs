//! From what is wanted and what runs to commands.

use std::collections::{BTreeMap, BTreeSet};

use super::answers::{Process, Servers};
use super::routes::Routes;
use super::servers::{self, Abilities};
use super::{LINE_LIMIT, NeedsReload, Turn, join, spares};
use crate::SPARES;
use crate::names::{DEFAULTS, SPARE};
use crate::settings::{Routing, Settings};
use crate::wanted::Wanted;

/// What to say.
pub(super) struct Plan {
    /// Lines, in order.
    pub(super) lines: Vec<String>,
    /// Whether a reload should come soon.
    pub(super) reload_soon: bool,
}

/// Where the servers of a service are, or go.
struct Home<'a> {
    section: String,
    servers: &'a Servers,
    /// What makes it the service's home.
    opening: Option<String>,
}

static NO_SERVERS: Servers = BTreeMap::new();

struct Planner<'a> {
    settings: &'a Settings,
    process: &'a Process,
    abilities: Abilities,
    routes: Routes<'a>,
    /// Prepared backends given away in this plan.
    taken: BTreeSet<String>,
    leave: Vec<String>,
    join: Vec<String>,
    reload_soon: bool,
}

impl Plan {
    /// What leaves comes before what joins, over all services.
    ///
    /// # Errors
    /// Something can only be done by a reload.
    pub(super) fn make(settings: &Settings, turns: &[Turn], process: &Process) -> Result<Plan, NeedsReload> {
        let mut planner = Planner {
            settings,
            process,
            abilities: Abilities::of(settings, process.version).map_err(NeedsReload)?,
            routes: Routes::of(settings, turns, process)?,
            taken: BTreeSet::new(),
            leave: Vec::new(),
            join: Vec::new(),
            reload_soon: false,
        };
        for turn in turns {
            match (&turn.before, &turn.after) {
                (_, Some(after)) => planner.update(turn, after)?,
                (Some(before), None) => planner.remove(turn, before),
                (None, None) => {}
            }
        }
        let Planner { leave, join: joining, reload_soon, .. } = planner;
        let lines = join(leave.iter().chain(&joining).map(String::as_str));
        Ok(Plan { reload_soon: reload_soon && !lines.is_empty(), lines })
    }
}

impl<'a> Planner<'a> {
    fn update(&mut self, turn: &Turn, after: &Wanted) -> Result<(), NeedsReload> {
        let home = self.home(turn, after)?;
        let steps = servers::steps(&self.abilities, &home.section, after.servers(), home.servers, &ids(turn))
            .map_err(|why| turn.needs_reload(&why))?;
        self.leave.extend(steps.leave);
        match home.opening {
            // The next round adds what does not fit: a lost line must not leave servers in a backend that is no one's.
            Some(mut opening) => {
                for step in steps.join {
                    if opening.len() + 2 + step.len() <= LINE_LIMIT {
                        opening = format!("{opening}; {step}");
                    }
                }
                self.join.push(opening);
            }
            None => self.join.extend(steps.join),
        }
        self.leave.extend(self.routes.leave(turn, self.process));
        self.join.extend(self.routes.join(turn, self.process)?);
        Ok(())
    }

    /// Its own section, or the prepared one that it has, or one that is free.
    fn home(&mut self, turn: &Turn, after: &Wanted) -> Result<Home<'a>, NeedsReload> {
        let process = self.process;
        let claim = process.claim(&turn.name);
        if let Some(servers) = process.section(&turn.name) {
            if claim.is_some() {
                return Err(turn.needs_reload("it has a prepared backend beside its own"));
            }
            if turn.before.is_none() && after.http().is_some() && process.listens(&turn.name) {
                return Err(turn.needs_reload("there is a tcp service of this name"));
            }
            return Ok(Home { section: turn.name.clone(), servers, opening: None });
        }
        if after.http().is_none() || self.settings.routing == Routing::Acl {
            return Err(turn.needs_reload("the process has no section for it"));
        }
        if let Some(spare) = claim {
            let servers = process.section(spare).filter(|_| spare.starts_with(SPARE));
            let servers = servers.ok_or_else(|| turn.needs_reload("its prepared backend is unknown"))?;
            return Ok(Home { section: spare.to_owned(), servers, opening: None });
        }
        if self.abilities.adds_backends {
            let name = &turn.name;
            let opening = format!("add backend {name} from {DEFAULTS} mode http; publish backend {name}");
            return Ok(Home { section: name.clone(), servers: &NO_SERVERS, opening: Some(opening) });
        }
        self.free(turn)
    }

    /// A prepared backend that no service has; one with servers that wait for their last connections only if it must be.
    fn free(&mut self, turn: &Turn) -> Result<Home<'a>, NeedsReload> {
        let process = self.process;
        let total = self.settings.spares();
        let none = || turn.needs_reload("no prepared backend is free");
        let claims = process.claims.as_ref().ok_or_else(none)?;
        let candidates = spares::candidates(total, &turn.name).into_iter();
        let free = candidates.filter_map(|spare| {
            let servers = process.section(&spare)?;
            let is_free = servers.values().all(super::answers::Running::is_out)
                && !self.taken.contains(&spare)
                && !claims.values().any(|claimed| *claimed == spare);
            is_free.then_some((spare, servers))
        });
        let (section, servers) = free.min_by_key(|(_, servers)| servers.len()).ok_or_else(none)?;
        self.taken.insert(section.clone());
        self.reload_soon |= 2 * (claims.len() + self.taken.len()) > usize::from(total);
        let opening = format!("add map {SPARES} {} {section}", turn.name);
        Ok(Home { section, servers, opening: Some(opening) })
    }

    /// The section itself stays until the next reload. A prepared backend is given back last, when nothing of the service is left.
    fn remove(&mut self, turn: &Turn, before: &Wanted) {
        let process = self.process;
        let ids = ids(turn);
        let start = self.leave.len();
        let claim = process.claim(&turn.name);
        let spare = claim.filter(|spare| spare.starts_with(SPARE));
        for section in [Some(turn.name.as_str()), spare].into_iter().flatten() {
            let servers = process.section(section).unwrap_or(&NO_SERVERS);
            if let Ok(steps) = servers::steps(&self.abilities, section, &[], servers, &ids) {
                self.leave.extend(steps.leave);
            }
        }
        self.leave.extend(self.routes.leave(turn, process));
        let is_gone = self.leave.len() == start;
        if is_gone && claim.is_some() {
            self.leave.push(format!("del map {SPARES} {}", turn.name));
        }
        // Its rule still catches what another service may take; its port is still open, and what connects is turned away.
        // (`shutdown frontend` is no way out: HAProxy 2.8 and 3.0 keep the socket, and let clients wait.)
        self.reload_soon |= !is_gone && (before.tcp().is_some() || self.settings.routing == Routing::Acl);
    }
}

/// Ids of the servers that it had.
fn ids(turn: &Turn) -> BTreeSet<&str> {
    turn.before.iter().flat_map(Wanted::servers).map(|server| server.id.as_str()).collect()
}
