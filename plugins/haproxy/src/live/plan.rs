//! Plans the commands that bring the running process to the desired state.

use std::collections::{BTreeMap, BTreeSet};

use super::answers::{Process, ServerState, Servers};
use super::change::{NeedsReload, ServiceChange};
use super::lines::{LINE_LIMIT, pack};
use super::routes::Routes;
use super::servers::{self, Abilities, Steps};
use super::{cookies, standby};
use crate::desired::Desired;
use crate::files::STANDBYS;
use crate::names::{DEFAULTS, STANDBY};
use crate::settings::{Routing, Settings};

/// The commands for a set of changes.
pub(super) struct Plan {
    /// Command lines for the stats socket, in order.
    pub(super) lines: Vec<String>,
    /// Whether a reload should come soon.
    pub(super) reload_soon: bool,
}

/// The backend that has the servers of a service, or gets them.
struct TargetBackend<'a> {
    section: String,
    servers: &'a Servers,
    /// The commands that make the backend the service's.
    opening: Option<String>,
}

static NO_SERVERS: Servers = BTreeMap::new();

struct Planner<'a> {
    settings: &'a Settings,
    process: &'a Process,
    abilities: Abilities,
    routes: Routes<'a>,
    /// Standby backends assigned by this plan.
    taken: BTreeSet<String>,
    removals: Vec<String>,
    additions: Vec<String>,
    reload_soon: bool,
    /// Only a reload removes what is left of a service, and no command remains.
    file_only: bool,
}

impl Plan {
    /// Plans all changes: across all services, removals come before additions.
    ///
    /// # Errors
    /// A change needs a reload.
    pub(super) fn make(settings: &Settings, changes: &[ServiceChange], process: &Process) -> Result<Plan, NeedsReload> {
        if let Some([change, _]) = changes.array_windows().find(|[one, other]| one.name == other.name) {
            return Err(change.needs_reload("one service with this section name replaces another"));
        }
        let mut planner = Planner {
            settings,
            process,
            abilities: Abilities::of(settings, process.version).map_err(NeedsReload)?,
            routes: Routes::of(settings, changes, process)?,
            taken: BTreeSet::new(),
            removals: Vec::new(),
            additions: Vec::new(),
            reload_soon: false,
            file_only: false,
        };
        for change in changes {
            match (&change.before, &change.after) {
                (_, Some(after)) => planner.plan(change, after)?,
                (Some(before), None) => planner.remove(change, before),
                (None, None) => {}
            }
        }
        let Planner { removals, additions, reload_soon, file_only, .. } = planner;
        let lines = pack(removals.iter().chain(&additions).map(String::as_str));
        Ok(Plan { reload_soon: file_only || (reload_soon && !lines.is_empty()), lines })
    }
}

impl<'a> Planner<'a> {
    fn plan(&mut self, change: &ServiceChange, after: &Desired) -> Result<(), NeedsReload> {
        let start = (self.removals.len(), self.additions.len());
        let target = self.target(change, after)?;
        let steps = servers::steps(&self.abilities, &target.section, after.servers(), target.servers, &ids(change))
            .map_err(|why| change.needs_reload(&why))?;
        let mending = self.mend(change, after, &target, &steps)?;
        self.removals.extend(steps.removals);
        match target.opening {
            // The next round adds what does not fit: a lost line must not leave servers in a backend that is no one's.
            Some(mut opening) => {
                for step in steps.additions {
                    if opening.len() + 2 + step.len() <= LINE_LIMIT {
                        opening = format!("{opening}; {step}");
                    }
                }
                self.additions.push(opening);
            }
            None => self.additions.extend(steps.additions),
        }
        self.additions.extend(mending);
        self.removals.extend(self.routes.removals(change, self.process));
        for command in self.routes.additions(change, self.process) {
            // Services share markers, and a map takes an entry twice.
            if !self.additions.contains(&command) {
                self.additions.push(command);
            }
        }
        let has_commands = start != (self.removals.len(), self.additions.len());
        self.reload_soon |= has_commands && self.routes.leaves_marker(change);
        Ok(())
    }

    /// Returns commands that make the section accept requests and set cookies.
    fn mend(
        &self,
        change: &ServiceChange,
        after: &Desired,
        target: &TargetBackend,
        steps: &Steps,
    ) -> Result<Vec<String>, NeedsReload> {
        let TargetBackend { section, servers, .. } = target;
        let Some(traffic) = self.process.traffic(section).filter(|_| after.http().is_some()) else {
            return Ok(Vec::new());
        };
        let mut commands = Vec::new();
        if traffic.is_unpublished {
            commands.push(format!("publish backend {section}"));
        }
        let is_bare = |name: &String, server: &ServerState| {
            traffic.bare.contains(name) && !server.is_out() && servers::is_desired(after.servers(), name, server)
        };
        let are_bare = servers.iter().any(|(name, server)| server.host.is_none() && is_bare(name, server));
        let adds = self.process.version < (3, 0) && !steps.additions.is_empty();
        if let Some(key) = cookies::key(self.settings)
            && traffic.has_cookie
            && (are_bare || adds)
        {
            commands.push(cookies::mend(section, key).map_err(|why| change.needs_reload(&why))?);
        }
        Ok(commands)
    }

    /// Returns the service's own section, or the standby backend that it has, or a free one.
    fn target(&mut self, change: &ServiceChange, after: &Desired) -> Result<TargetBackend<'a>, NeedsReload> {
        let process = self.process;
        let assigned = process.assigned_standby(&change.name);
        if let Some(servers) = process.section(&change.name) {
            if assigned.is_some() {
                return Err(change.needs_reload("it has a standby backend in addition to its own"));
            }
            self.check_reusable(change, after, &change.name, servers)?;
            return Ok(TargetBackend { section: change.name.clone(), servers, opening: None });
        }
        if after.http().is_none() || self.settings.routing == Routing::Acl {
            return Err(change.needs_reload("the process has no section for it"));
        }
        if let Some(standby) = assigned {
            let servers = process.section(standby).filter(|_| standby.starts_with(STANDBY));
            let servers = servers.ok_or_else(|| change.needs_reload("its standby backend is unknown"))?;
            if process.assigned.iter().flat_map(|assigned| assigned.values()).filter(|other| *other == standby).count()
                > 1
            {
                return Err(change.needs_reload("another service has its standby backend as well"));
            }
            self.check_reusable(change, after, standby, servers)?;
            return Ok(TargetBackend { section: standby.to_owned(), servers, opening: None });
        }
        if self.abilities.adds_backends {
            let name = &change.name;
            let opening = format!("add backend {name} from {DEFAULTS} mode http; publish backend {name}");
            return Ok(TargetBackend { section: name.clone(), servers: &NO_SERVERS, opening: Some(opening) });
        }
        self.allocate_standby(change)
    }

    /// Checks that a new service may use a section that exists. `team/app` and `team_app` have the same section, so the
    /// section must be free of another service's servers and requests. An entry in `standby.map` proves that its servers
    /// belong to the service.
    fn check_reusable(
        &self,
        change: &ServiceChange,
        after: &Desired,
        section: &str,
        servers: &Servers,
    ) -> Result<(), NeedsReload> {
        let process = self.process;
        if change.before.is_some() {
            return Ok(());
        }
        if after.http().is_some() && process.traffic(section).is_some_and(|traffic| traffic.listens) {
            return Err(change.needs_reload("there is a tcp service of this name"));
        }
        let live = servers.iter().filter(|(_, server)| !server.is_out());
        let (own, others): (Vec<_>, Vec<_>) =
            live.partition(|(name, server)| servers::is_desired(after.servers(), name, server));
        if !others.is_empty() && section == change.name {
            return Err(change.needs_reload("its section has servers of another service"));
        }
        if own.is_empty() && change.name.contains('_') && !process.is_empty(section) {
            return Err(change.needs_reload("its section may still serve requests for another service"));
        }
        Ok(())
    }

    /// Returns a standby backend that no service has and that has no traffic; prefers one without servers.
    fn allocate_standby(&mut self, change: &ServiceChange) -> Result<TargetBackend<'a>, NeedsReload> {
        let process = self.process;
        let total = self.settings.standbys();
        let none = || change.needs_reload("no standby backend is free");
        let assigned = process.assigned.as_ref().ok_or_else(none)?;
        let mut lingering = 0;
        let mut free = Vec::new();
        for standby in standby::candidates(total, &change.name) {
            let Some(servers) = process.section(&standby) else { continue };
            if self.taken.contains(&standby) || assigned.values().any(|other| *other == standby) {
                continue;
            }
            if process.is_empty(&standby) {
                free.push((standby, servers));
            } else if process.traffic(&standby).is_some() {
                lingering += 1;
            }
        }
        let (section, servers) = free.into_iter().min_by_key(|(_, servers)| servers.len()).ok_or_else(none)?;
        self.taken.insert(section.clone());
        self.reload_soon |= 2 * (assigned.len() + lingering + self.taken.len()) > usize::from(total);
        let opening = format!("add map {STANDBYS} {} {section}", change.name);
        Ok(TargetBackend { section, servers, opening: Some(opening) })
    }

    /// Plans the removal of a service. Its section stays until the next reload. Its standby backend becomes free last, when
    /// nothing of the service is left.
    fn remove(&mut self, change: &ServiceChange, before: &Desired) {
        let process = self.process;
        let ids = ids(change);
        let start = self.removals.len();
        // First the routes to it: the standby backend becomes free after later answers show no traffic in it.
        self.removals.extend(self.routes.removals(change, process));
        let assigned = process.assigned_standby(&change.name);
        let standby = assigned.filter(|standby| standby.starts_with(STANDBY));
        for section in [Some(change.name.as_str()), standby].into_iter().flatten() {
            let servers = process.section(section).unwrap_or(&NO_SERVERS);
            if let Ok(steps) = servers::steps(&self.abilities, section, &[], servers, &ids) {
                self.removals.extend(steps.removals);
            }
        }
        let is_gone = self.removals.len() == start;
        // A server that is deleted now went into maintenance earlier, and so did the routes.
        let leaves_now = self.removals[start..].iter().any(|said| !said.starts_with("del server "));
        if is_gone && assigned.is_some() {
            self.removals.push(format!("del map {STANDBYS} {}", change.name));
        }
        self.reload_soon |= leaves_now && self.routes.leaves_marker(change);
        // Its ACL would still match requests that another service may claim, and its port would accept connections only to
        // close them. (`shutdown frontend` does not help: HAProxy 2.8 and 3.0 keep the socket open and let clients wait.)
        let is_in_file = before.tcp().is_some() || self.settings.routing == Routing::Acl;
        self.file_only |= is_in_file && self.is_open(change, before);
    }

    /// Returns whether the process still has the port of a tcp service or the section of an http service.
    fn is_open(&self, change: &ServiceChange, before: &Desired) -> bool {
        match before.tcp() {
            Some(_) => self.process.traffic(&change.name).is_some_and(|traffic| traffic.listens),
            None => self.process.section(&change.name).is_some(),
        }
    }
}

/// Returns the ids of the servers that the service had.
fn ids(change: &ServiceChange) -> BTreeSet<&str> {
    change.before.iter().flat_map(Desired::servers).map(|server| server.id.as_str()).collect()
}
