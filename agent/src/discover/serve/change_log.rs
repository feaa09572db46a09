//! One line in the log for each instance of a service that changes: why, and how the change reached the proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use imbl::ordmap::DiffItem;
use tokio::time::Instant;
use tracing::info;

use crate::model::{Instance, Readiness, Service, printable};
use crate::output::Accepted;

/// Changes at once that get a line each; more are counted in one line.
const SINGLE: usize = 20;
/// In this time an instance gets at most [`REPEATS`] lines; more are counted in one line.
const WINDOW: Duration = Duration::from_mins(1);
/// Lines of an instance in a [`WINDOW`].
const REPEATS: u32 = 4;
/// Instances whose lines are counted, at most.
const COUNTED: usize = 10_000;

/// How a change reached the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Over the stats socket.
    Live,
    /// By a reload.
    Reload,
    /// Only in the files: nothing reloads the proxy.
    File,
}

impl Effect {
    fn name(self) -> &'static str {
        match self {
            Effect::Live => "live",
            Effect::Reload => "reload",
            Effect::File => "file only",
        }
    }
}

/// A change that the proxy does not have yet.
struct Pending {
    since: Instant,
    before: Option<Arc<Service>>,
}

/// How often an instance changed since `began`.
struct Count {
    began: Instant,
    lines: u32,
}

/// What is logged of the changes of one output.
pub(super) struct ChangeLog {
    output: String,
    /// How changes that are not applied live reach the proxy.
    fallback: Effect,
    seen: Accepted,
    pending: BTreeMap<Arc<str>, Pending>,
    counts: BTreeMap<(Arc<str>, String), Count>,
}

impl ChangeLog {
    /// `is_reloaded` says whether anything reloads the proxy.
    pub(super) fn new(output: &str, is_reloaded: bool) -> Self {
        ChangeLog {
            output: output.to_owned(),
            fallback: if is_reloaded { Effect::Reload } else { Effect::File },
            seen: Accepted::new(),
            pending: BTreeMap::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Notes what changed among the accepted services.
    pub(super) fn accepted(&mut self, accepted: &Accepted, now: Instant) {
        for change in self.seen.diff(accepted) {
            let (name, before) = match change {
                DiffItem::Add(name, _) => (name, None),
                DiffItem::Update { old: (name, old), .. } | DiffItem::Remove(name, old) => {
                    (name, Some(Arc::clone(&old.service)))
                }
            };
            self.pending.entry(Arc::clone(name)).or_insert(Pending { since: now, before });
        }
        self.seen = accepted.clone();
    }

    /// Logs that the running proxy has a service as it is in `after`.
    pub(super) fn live(&mut self, name: &Arc<str>, after: Option<&Arc<Service>>, now: Instant) {
        let Some(pending) = self.pending.remove(name) else { return };
        self.log(name, &pending, after, Effect::Live, now);
        let wanted = self.seen.get(name).map(|served| &served.service);
        if wanted != after {
            self.pending.insert(Arc::clone(name), Pending { since: now, before: after.cloned() });
        }
    }

    /// Logs the changes that a reload with these services brought.
    pub(super) fn loaded(&mut self, loaded: &Accepted, now: Instant) {
        let seen = &self.seen;
        let is_loaded = |name: &Arc<str>, _: &mut Pending| loaded.get(name) == seen.get(name);
        let done: Vec<(Arc<str>, Pending)> = self.pending.extract_if(.., is_loaded).collect();
        if done.len() > SINGLE {
            info!(output = self.output, services = done.len(), effect = self.fallback.name(), "services changed");
            return;
        }
        for (name, pending) in done {
            let after = loaded.get(&name).map(|served| Arc::clone(&served.service));
            self.log(&name, &pending, after.as_ref(), self.fallback, now);
        }
    }

    fn log(&mut self, name: &Arc<str>, pending: &Pending, after: Option<&Arc<Service>>, effect: Effect, now: Instant) {
        let changes = changes(pending.before.as_deref(), after.map(|service| &**service));
        let took = u64::try_from(now.saturating_duration_since(pending.since).as_millis()).unwrap_or(u64::MAX);
        if changes.len() > SINGLE {
            let (output, instances, effect) = (&self.output, changes.len(), effect.name());
            info!(output, service = &**name, instances, effect, took_ms = took, "service changed");
            return;
        }
        for (cause, instance) in changes {
            if !self.is_counted(name, instance, now) {
                let attribute = |key: &str| printable(instance.attributes.get(key).map_or("", String::as_str));
                let (output, effect) = (&self.output, effect.name());
                info!(
                    output,
                    service = &**name,
                    instance = printable(&instance.id),
                    container = attribute("container"),
                    host = attribute("node"),
                    cause,
                    effect,
                    took_ms = took,
                    "service changed"
                );
            }
        }
    }

    /// Whether an instance changes so often that its lines are only counted; logs the count with its first change after the
    /// window.
    fn is_counted(&mut self, name: &Arc<str>, instance: &Instance, now: Instant) -> bool {
        if self.counts.len() >= COUNTED {
            self.counts.retain(|_, count| count.began + WINDOW > now);
        }
        let key = (Arc::clone(name), instance.id.clone());
        let count = self.counts.entry(key).or_insert(Count { began: now, lines: 0 });
        if count.began + WINDOW <= now {
            if count.lines > REPEATS {
                let (output, instance) = (&self.output, printable(&instance.id));
                info!(output, service = &**name, instance, changes = count.lines, "instance is flapping");
            }
            *count = Count { began: now, lines: 0 };
        }
        count.lines += 1;
        count.lines > REPEATS
    }
}

/// The instances in which a service differs before and after, and why each one does.
fn changes<'a>(before: Option<&'a Service>, after: Option<&'a Service>) -> Vec<(&'static str, &'a Instance)> {
    let mut found = Vec::new();
    let old = before.map_or(&[][..], |service| &service.instances[..]);
    let new = after.map_or(&[][..], |service| &service.instances[..]);
    let known: BTreeMap<&str, &Instance> = old.iter().map(|instance| (instance.id.as_str(), &**instance)).collect();
    for instance in new {
        match known.get(instance.id.as_str()) {
            Some(was) if *was == &**instance => {}
            // An instance that is gone has no attributes any more.
            Some(was) if instance.readiness == Readiness::Gone => {
                found.extend(cause(Some(was), instance).map(|cause| (cause, *was)));
            }
            was => found.extend(cause(was.copied(), instance).map(|cause| (cause, &**instance))),
        }
    }
    let present: BTreeSet<&str> = new.iter().map(|instance| instance.id.as_str()).collect();
    let is_left = |one: &&Arc<Instance>| one.readiness != Readiness::Gone && !present.contains(one.id.as_str());
    found.extend(old.iter().filter(is_left).map(|instance| ("left", &**instance)));
    found
}

/// Why an instance is as it is now.
fn cause(before: Option<&Instance>, now: &Instance) -> Option<&'static str> {
    let was = before.map(|before| before.readiness);
    match (was, now.readiness) {
        (Some(Readiness::Gone) | None, Readiness::Gone) => None,
        (Some(Readiness::Gone) | None, Readiness::Ready) => Some("started"),
        (_, Readiness::Gone) => Some("left"),
        (Some(Readiness::Draining), Readiness::Ready) => Some("ready again"),
        (Some(Readiness::Draining), Readiness::Draining) | (Some(Readiness::Ready), Readiness::Ready) => {
            Some("changed")
        }
        (_, Readiness::Draining) => Some("stopping"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(instances: &[(&str, Readiness, u16)]) -> Service {
        let instance = |(id, readiness, port): &(&str, Readiness, u16)| {
            Arc::new(Instance {
                service: "web".to_owned(),
                id: (*id).to_owned(),
                address: "10.0.0.1".to_owned(),
                port: *port,
                transport: crate::model::Transport::Tcp,
                readiness: *readiness,
                weight: None,
                attributes: crate::model::Attributes::new(),
            })
        };
        Service { name: "web".to_owned(), instances: instances.iter().map(instance).collect(), denied: Vec::new() }
    }

    fn told(before: Option<&Service>, after: Option<&Service>) -> Vec<String> {
        changes(before, after).into_iter().map(|(cause, instance)| format!("{} {cause}", instance.id)).collect()
    }

    #[test]
    fn every_instance_that_differs_has_a_cause() {
        use Readiness::{Draining, Gone, Ready};
        let one = service(&[("a", Ready, 1), ("b", Ready, 2)]);
        assert_eq!(told(None, Some(&one)), ["a started", "b started"]);
        assert_eq!(told(Some(&one), Some(&one)), [""; 0]);
        let two = service(&[("a", Draining, 1), ("b", Ready, 3), ("c", Ready, 4)]);
        assert_eq!(told(Some(&one), Some(&two)), ["a stopping", "b changed", "c started"]);
        assert_eq!(told(Some(&two), Some(&service(&[("b", Ready, 3)]))), ["a left", "c left"]);
        // The last instance leaves, its routes stay for a while, and then they go without another word.
        let gone = service(&[("b", Gone, 3)]);
        assert_eq!(told(Some(&service(&[("b", Ready, 3)])), Some(&gone)), ["b left"]);
        assert_eq!(told(Some(&gone), None), [""; 0]);
        assert_eq!(told(Some(&gone), Some(&service(&[("b", Ready, 3)]))), ["b started"]);
    }

    #[test]
    fn an_instance_that_changes_again_and_again_gets_few_lines() {
        let mut log = ChangeLog::new("haproxy", true);
        let (name, one) = (Arc::from("web"), service(&[("a", Readiness::Ready, 1)]));
        let now = Instant::now();
        let lines = (0..100).filter(|_| !log.is_counted(&name, &one.instances[0], now)).count();
        assert_eq!(lines, REPEATS as usize);
        assert!(!log.is_counted(&name, &one.instances[0], now + WINDOW));
    }
}
