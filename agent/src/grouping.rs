//! Containers to instances: the first plugin that finds some in a container has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use imbl::ordmap::DiffItem;

use crate::model::{
    CheckError, Container, Containers, Instance, Node, Readiness, Role, check_consumed, check_instance,
};
use crate::plugin::{CallError, Plugin};
use crate::status::Status;

/// Containers asked about at the same time on a cold start.
const PARALLEL: usize = 8;

/// Instances of this host by service and id.
pub type Provided = BTreeMap<(Arc<str>, Arc<str>), Arc<Instance>>;

/// The grouping stage and what it found so far, container by container.
pub struct Grouping {
    plugins: Vec<Plugin>,
    node: Arc<Node>,
    status: Status,
    seen: Containers,
    /// What each container turned out to be, and the container as it was then.
    roles: BTreeMap<Arc<str>, (Arc<Container>, Role)>,
    retry: BTreeSet<Arc<str>>,
}

/// What a container turned out to be.
enum Outcome {
    Role(Role),
    /// A plugin refused it: asking again does not help.
    Refused,
    /// A plugin crashed: the last role stays, and asking again may help.
    Crashed,
}

impl Grouping {
    /// A stage that asks `plugins` in order.
    pub fn new(plugins: Vec<Plugin>, node: Arc<Node>, status: Status) -> Self {
        let (seen, roles, retry) = (Containers::new(), BTreeMap::new(), BTreeSet::new());
        Grouping { plugins, node, status, seen, roles, retry }
    }

    /// Asks about the containers that differ from the last turn, and those that failed then.
    pub async fn update(&mut self, containers: &Containers) {
        let mut ask = std::mem::take(&mut self.retry);
        for change in self.seen.diff(containers) {
            match change {
                DiffItem::Add(id, _) => _ = ask.insert(Arc::clone(id)),
                DiffItem::Update { old, new } if only_stopping(old.1, new.1) => {}
                DiffItem::Update { old, new } => {
                    if old.1.name != new.1.name {
                        self.status.gone("grouping", &title(old.1));
                    }
                    ask.insert(Arc::clone(new.0));
                }
                DiffItem::Remove(id, container) => {
                    self.roles.remove(id);
                    self.status.gone("grouping", &title(container));
                }
            }
        }
        self.seen = containers.clone();
        let asked: Vec<_> =
            ask.into_iter().filter_map(|id| Some((Arc::clone(&id), Arc::clone(containers.get(&id)?)))).collect();
        let stage = &*self;
        let answers: Vec<_> = futures::stream::iter(asked)
            .map(|(id, container)| async move { (id, stage.role(&container).await) })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        for (id, outcome) in answers {
            let Some(container) = containers.get(&id) else { continue };
            match outcome {
                Outcome::Role(role) => _ = self.roles.insert(id, (Arc::clone(container), role)),
                Outcome::Crashed => _ = self.retry.insert(id),
                // The last role stays, unless the container moved: an address that may be gone must not.
                Outcome::Refused => {
                    if self.roles.get(&id).is_some_and(|(then, _)| moved(then, container)) {
                        self.roles.remove(&id);
                    }
                }
            }
        }
        self.plugins.iter().for_each(Plugin::trim);
    }

    /// Whether a plugin crashed on some container, which is worth another try.
    pub fn wants_retry(&self) -> bool {
        !self.retry.is_empty()
    }

    /// All instances of this host; what its container was told to stop is draining.
    pub fn provided(&self) -> Provided {
        let mut provided = Provided::new();
        let mut clashes = BTreeMap::new();
        for (id, (_, role)) in &self.roles {
            let Some(container) = self.seen.get(id) else { continue };
            for offer in &role.provides {
                let key = (Arc::from(offer.service.as_str()), Arc::from(offer.id.as_str()));
                if provided.contains_key(&key) {
                    let text =
                        format!("its id {} in {} is taken by another container of this host", offer.id, offer.service);
                    clashes.insert(title(container), text);
                    continue;
                }
                let readiness = if container.stopping { Readiness::Draining } else { offer.readiness };
                provided.insert(key, Arc::new(Instance { readiness, ..offer.clone() }));
            }
        }
        self.status.replace("instance ids", clashes);
        provided
    }

    /// What containers of this host want within reach.
    pub fn consumed(&self) -> BTreeSet<String> {
        self.roles.values().flat_map(|(_, role)| role.consumes.iter().cloned()).collect()
    }

    async fn role(&self, container: &Arc<Container>) -> Outcome {
        let unit = title(container);
        let mut role = Role::default();
        let mut complaints = Vec::new();
        for plugin in &self.plugins {
            match plugin.group(&self.node, container).await {
                Ok(found) => {
                    let found = checked(plugin, found, &mut complaints);
                    role.consumes.extend(found.consumes);
                    if role.provides.is_empty() {
                        role.provides = found.provides;
                    }
                }
                Err(CallError::Resting) => return Outcome::Crashed,
                Err(error) => {
                    self.status.problem("grouping", &unit, format!("plugin {}: {error}", plugin.name()));
                    let refused = matches!(error, CallError::Refused(_));
                    return if refused { Outcome::Refused } else { Outcome::Crashed };
                }
            }
        }
        match complaints.is_empty() {
            true => self.status.resolved("grouping", &unit),
            false => self.status.problem("grouping", &unit, complaints.join("; ")),
        }
        Outcome::Role(role)
    }
}

/// What remains of a role when everything that breaks the rules is left out and named.
fn checked(plugin: &Plugin, mut role: Role, complaints: &mut Vec<String>) -> Role {
    let mut refused = |error: CheckError| complaints.push(format!("plugin {}: left out: {error}", plugin.name()));
    role.provides.retain(|offer| check_instance(offer).map_err(&mut refused).is_ok());
    role.consumes.retain(|want| check_consumed(want).map_err(&mut refused).is_ok());
    role
}

fn moved(then: &Container, now: &Container) -> bool {
    then.ports != now.ports || then.attachments != now.attachments || then.started_at != now.started_at
}

fn only_stopping(old: &Container, new: &Container) -> bool {
    old.stopping != new.stopping && Container { stopping: new.stopping, ..old.clone() } == *new
}

/// How people know a container.
fn title(container: &Container) -> String {
    format!("container {} ({})", container.short_id(), container.name)
}
