//! Containers to instances: the first plugin that finds some in a container has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::memo::{Answer, Failure, Memo, Subject};
use crate::model::{
    CheckError, Container, Containers, Instance, Node, Readiness, Role, check_consumed, check_instance,
};
use crate::plugin::Plugin;
use crate::status::Status;

/// Instances of this host by service and id.
pub type Provided = BTreeMap<(Arc<str>, Arc<str>), Arc<Instance>>;

/// The grouping stage and what it found so far, container by container.
pub struct Grouping {
    plugins: Vec<Plugin>,
    node: Arc<Node>,
    status: Status,
    roles: Memo<Arc<str>, Container, Role>,
}

impl Grouping {
    /// A stage that asks `plugins` in order.
    pub fn new(plugins: Vec<Plugin>, node: Arc<Node>, status: Status) -> Self {
        let roles = Memo::new("grouping".to_owned(), status.clone());
        Grouping { plugins, node, status, roles }
    }

    /// Asks about the containers that differ from the last turn, and those that failed then.
    pub async fn update(&mut self, containers: &Containers) {
        let (plugins, node) = (&self.plugins, &self.node);
        let now = containers.iter().map(|(id, container)| (Arc::clone(id), Arc::clone(container)));
        self.roles.update(now, |container| role(plugins, node, container)).await;
        self.plugins.iter().for_each(Plugin::trim);
    }

    /// Whether a plugin crashed on some container, which is worth another try.
    pub fn wants_retry(&self) -> bool {
        self.roles.wants_retry()
    }

    /// All instances of this host; what its container was told to stop is draining.
    pub fn provided(&self) -> Provided {
        let mut provided = Provided::new();
        let mut clashes = BTreeMap::new();
        for (_, container, role) in self.roles.results() {
            for offer in &role.provides {
                let key = (Arc::from(offer.service.as_str()), Arc::from(offer.id.as_str()));
                if provided.contains_key(&key) {
                    let text =
                        format!("its id {} in {} is taken by another container of this host", offer.id, offer.service);
                    clashes.insert(container.title(), text);
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
        self.roles.results().flat_map(|(_, _, role)| role.consumes.iter().cloned()).collect()
    }
}

/// What a container turns out to be; a plugin that fails on it leaves the whole container to the next turn.
async fn role(plugins: &[Plugin], node: &Arc<Node>, container: Arc<Container>) -> Answer<Role> {
    let mut role = Role::default();
    let mut complaints = Vec::new();
    for plugin in plugins {
        let found = plugin.group(node, &container).await.map_err(|error| {
            let text = format!("plugin {}: {error}", plugin.name());
            Failure { error, text }
        })?;
        let found = checked(plugin, found, &mut complaints);
        role.consumes.extend(found.consumes);
        if role.provides.is_empty() {
            role.provides = found.provides;
        }
    }
    Ok((role, complaints))
}

/// What remains of a role when everything that breaks the rules is left out and named.
fn checked(plugin: &Plugin, mut role: Role, complaints: &mut Vec<String>) -> Role {
    let mut refused = |error: CheckError| complaints.push(format!("plugin {}: left out: {error}", plugin.name()));
    role.provides.retain(|offer| check_instance(offer).map_err(&mut refused).is_ok());
    role.consumes.retain(|want| check_consumed(want).map_err(&mut refused).is_ok());
    role
}

impl Subject for Container {
    fn title(&self) -> String {
        format!("container {} ({})", self.short_id(), self.name)
    }

    /// Whether it stops is no plugin's business.
    fn differs(&self, before: &Self) -> bool {
        self != before
            && (self.stopping == before.stopping || Container { stopping: self.stopping, ..before.clone() } != *self)
    }

    fn has_moved(&self, before: &Self) -> bool {
        before.ports != self.ports || before.attachments != self.attachments || before.started_at != self.started_at
    }
}
