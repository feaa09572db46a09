//! Services to parts, and parts to files: what one proxy reads.
//!
//! A service that cannot be rendered, or whose lines the proxy's check refuses, stays as it was; the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use globset::GlobMatcher;
use imbl::ordmap::DiffItem;

use crate::model::{Node, Part, Service, Services, check_part};
use crate::plugin::{CallError, Plugin, batches};
use crate::status::Status;

pub mod files;
pub mod write;

use files::{Composed, Files};

/// What containers of this host want within reach: service names, or `*.` and a suffix.
pub type Wants = BTreeSet<String>;

/// Which services an output takes.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Patterns; `None` takes every service.
    pub patterns: Option<Vec<GlobMatcher>>,
}

impl Filter {
    fn takes(&self, name: &str, wants: &Wants) -> bool {
        let Some(patterns) = &self.patterns else { return true };
        patterns.iter().any(|pattern| pattern.is_match(name))
            || wants.iter().any(|want| match want.strip_prefix("*.") {
                Some(suffix) => name.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.')),
                None => name == want,
            })
    }
}

/// One output and what it rendered so far.
pub struct Output {
    plugin: Plugin,
    node: Arc<Node>,
    status: Status,
    place: String,
    filter: Filter,
    wants: Wants,
    /// All services and those it takes, as of the last turn.
    offered: Services,
    seen: Services,
    files: Files,
    framed: bool,
    /// Services the plugin crashed on.
    retry: BTreeSet<Arc<str>>,
    /// Services that changed since the files were last put into place, and their parts as they are there.
    before: BTreeMap<Arc<str>, Vec<Part>>,
    /// Parts that are tried again at the next turn: the check blamed none of them, or the fault may pass.
    waiting: BTreeMap<Arc<str>, Vec<Part>>,
    /// Services to blame in this turn.
    held: BTreeSet<Arc<str>>,
    parallel: usize,
}

impl Output {
    /// An output named `name` that takes what `filter` takes.
    pub fn new(name: &str, plugin: Plugin, node: Arc<Node>, filter: Filter, status: Status) -> Self {
        Output {
            plugin,
            node,
            status,
            place: format!("output {name}"),
            filter,
            wants: Wants::new(),
            offered: Services::new(),
            seen: Services::new(),
            files: Files::new(),
            framed: false,
            retry: BTreeSet::new(),
            before: BTreeMap::new(),
            waiting: BTreeMap::new(),
            held: BTreeSet::new(),
            parallel: std::thread::available_parallelism().map_or(1, std::num::NonZero::get) * 2,
        }
    }

    /// How many services it takes.
    pub fn services(&self) -> usize {
        self.seen.len()
    }

    /// Whether something is worth another try: the plugin crashed on it, or it waits.
    pub fn wants_retry(&self) -> bool {
        !self.retry.is_empty() || !self.waiting.is_empty() || !self.framed
    }

    /// Renders the services that differ from the last turn, and those that failed then.
    pub async fn update(&mut self, services: &Services, wants: &Wants) {
        self.frame().await;
        self.held.clear();
        for (name, parts) in std::mem::take(&mut self.waiting) {
            self.set(&name, parts);
        }
        let mut changed = std::mem::take(&mut self.retry);
        let taken = self.taken(services, wants);
        for change in self.seen.diff(&taken) {
            match change {
                DiffItem::Add(name, _) | DiffItem::Update { new: (name, _), .. } | DiffItem::Remove(name, _) => {
                    changed.insert(Arc::clone(name));
                }
            }
        }
        self.seen = taken;
        let (gone, render): (Vec<_>, Vec<_>) = changed.into_iter().partition(|name| !self.seen.contains_key(name));
        for name in gone {
            self.set(&name, Vec::new());
        }
        let work: Vec<Arc<Service>> = render.iter().filter_map(|name| self.seen.get(name).cloned()).collect();
        let (plugin, node) = (self.plugin.clone(), Arc::clone(&self.node));
        let mut answers = futures::stream::iter(batches(work, self.parallel))
            .map(|batch| async { batch.clone().into_iter().zip(plugin.render(&node, batch).await) })
            .buffer_unordered(self.parallel);
        while let Some(batch) = answers.next().await {
            batch.for_each(|(service, answer)| self.take(&service, answer));
        }
        drop(answers);
        self.plugin.trim();
    }

    /// The files as they are to be now; names services that want what another one has.
    pub fn compose(&mut self) -> Composed {
        let composed = self.files.compose();
        let conflicts = self.files.conflicts().into_iter().map(|(name, conflict)| {
            let holder = if conflict.holder.is_empty() { "the configuration itself" } else { &conflict.holder };
            (name, format!("it is left out: {holder} has {} in {}", conflict.key, conflict.path))
        });
        self.status.replace(&format!("{} claims", self.place), conflicts.collect());
        composed
    }

    /// The files are in place: what they hold is the last good state.
    pub fn committed(&mut self) {
        for name in std::mem::take(&mut self.before).into_keys() {
            if !self.held.contains(&name) && !self.waiting.contains_key(&name) {
                self.status.resolved(&self.place, &name);
            }
        }
    }

    /// Whether a line belongs to no one service: to the frame, or to several services alike.
    pub fn is_common(&self, path: &str, line: usize) -> bool {
        self.files.is_common(path, line)
    }

    /// Of files that cannot be side by side, the one that gives way: not the frame's, rather one that a service changed
    /// than one that was good before, and the last by the name of its service.
    pub fn yielding<'a>(&self, paths: &'a [String]) -> Option<&'a str> {
        let rank = |path: &str| {
            let name = self.files.service_at(path, 1).filter(|_| !self.files.is_common(path, 1));
            (name.is_some(), name.is_some_and(|name| self.before.contains_key(name)), name.map(str::to_owned))
        };
        paths.iter().map(String::as_str).max_by_key(|path| rank(path))
    }

    /// Whether the parts that are there whatever the services are known.
    pub fn is_framed(&self) -> bool {
        self.framed
    }

    /// Takes a service out that did not change but is refused now; false when the line is no service's.
    pub fn expel(&mut self, path: &str, line: usize, reason: &str) -> bool {
        let Some(name) = self.files.service_at(path, line).map(Arc::<str>::from) else { return false };
        self.before.entry(Arc::clone(&name)).or_insert_with(|| self.files.parts(&name));
        self.files.set(&name, Vec::new());
        self.status.problem(&self.place, &name, format!("it is left out, it was good before: {reason}"));
        self.held.insert(name);
        true
    }

    /// Takes back what the service that wrote this line changed; false when nobody is to blame for it. What may pass
    /// is tried again.
    pub fn hold(&mut self, path: &str, line: usize, reason: &str, may_pass: bool) -> bool {
        let Some(name) = self.files.service_at(path, line).map(Arc::<str>::from) else { return false };
        let Some(before) = self.before.get(&name).cloned() else { return false };
        // When it is named again, even what it was is refused now, and it has to go.
        let stays = if self.files.parts(&name) == before { Vec::new() } else { before };
        if stays.is_empty() && self.files.parts(&name).is_empty() {
            return false;
        }
        let how = if stays.is_empty() { "it is left out" } else { "it stays as it was" };
        self.status.problem(&self.place, &name, format!("{how}: {reason} ({path} line {line})"));
        if may_pass {
            self.waiting.entry(Arc::clone(&name)).or_insert_with(|| self.files.parts(&name));
        }
        self.files.set(&name, stays);
        self.held.insert(name);
        true
    }

    /// Takes every change since the last good state back until something else changes.
    pub fn hold_all(&mut self) {
        self.withhold(&self.changed());
    }

    /// The services that changed since the last good state.
    pub fn changed(&self) -> Vec<Arc<str>> {
        self.before.keys().cloned().collect()
    }

    /// Takes what these services changed back, to be admitted later.
    pub fn withhold(&mut self, names: &[Arc<str>]) {
        for name in names {
            let Some(before) = self.before.get(name) else { continue };
            self.waiting.entry(Arc::clone(name)).or_insert_with(|| self.files.parts(name));
            self.files.set(name, before.clone());
        }
    }

    /// Lets what these services changed in again.
    pub fn admit(&mut self, names: &[Arc<str>]) {
        for name in names {
            if let Some(parts) = self.waiting.remove(name) {
                self.files.set(name, parts);
            }
        }
    }

    /// Leaves a service as it was until it changes, and says why.
    pub fn blame(&mut self, name: &Arc<str>, reason: &str) {
        self.waiting.remove(name);
        self.held.insert(Arc::clone(name));
        let how = if self.files.parts(name).is_empty() { "it is left out" } else { "it stays as it was" };
        self.status.problem(&self.place, name, format!("{how}: {reason}"));
    }

    async fn frame(&mut self) {
        if self.framed {
            return;
        }
        let answer = self.plugin.frame(&self.node).await;
        match answer.map_err(|error| error.to_string()).and_then(sound) {
            Ok(parts) => {
                self.files.set_frame(parts);
                self.framed = true;
                self.status.resolved(&self.place, "frame");
            }
            Err(text) => self.status.problem(&self.place, "frame", text),
        }
    }

    fn take(&mut self, service: &Arc<Service>, answer: Result<Vec<Part>, CallError>) {
        let name: Arc<str> = service.name.as_str().into();
        if matches!(answer, Err(CallError::Crashed(_) | CallError::Resting)) {
            self.retry.insert(Arc::clone(&name));
        }
        if matches!(answer, Err(CallError::Resting)) {
            return;
        }
        match answer.map_err(|error| error.to_string()).and_then(sound) {
            Ok(parts) => self.set(&name, parts),
            Err(text) => self.status.problem(&self.place, &name, format!("it stays as it was: {text}")),
        }
    }

    fn set(&mut self, name: &Arc<str>, parts: Vec<Part>) {
        self.waiting.remove(name);
        if !self.before.contains_key(name) {
            self.before.insert(Arc::clone(name), self.files.parts(name));
        }
        self.files.set(name, parts);
    }

    /// The services this output takes; work follows what changed, and the wishes when they did.
    fn taken(&mut self, services: &Services, wants: &Wants) -> Services {
        if self.filter.patterns.is_none() {
            return services.clone();
        }
        let mut taken = if self.wants == *wants { self.seen.clone() } else { Services::new() };
        let before = if self.wants == *wants { std::mem::take(&mut self.offered) } else { Services::new() };
        for change in before.diff(services) {
            match change {
                DiffItem::Add(name, service) | DiffItem::Update { new: (name, service), .. } => {
                    if self.filter.takes(name, wants) {
                        taken.insert(Arc::clone(name), Arc::clone(service));
                    }
                }
                DiffItem::Remove(name, _) => _ = taken.remove(name),
            }
        }
        self.offered = services.clone();
        self.wants.clone_from(wants);
        taken
    }
}

/// Parts that keep to the rules, or the first that does not.
fn sound(parts: Vec<Part>) -> Result<Vec<Part>, String> {
    match parts.iter().find_map(|part| check_part(part).err()) {
        Some(error) => Err(format!("what the plugin returned is refused: {error}")),
        None => Ok(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_patterns_and_wishes() {
        let filter = |patterns: &[&str]| {
            let globs = patterns.iter().map(|text| globset::Glob::new(text).unwrap().compile_matcher());
            Filter { patterns: Some(globs.collect()) }
        };
        let wants: Wants = ["*.dev.app1.internal".to_owned(), "exact".to_owned()].into();
        assert!(filter(&[]).takes("ghost.example.web.dev.app1.internal", &wants));
        assert!(filter(&[]).takes("exact", &wants));
        assert!(!filter(&[]).takes("dev.app1.internal", &wants));
        assert!(!filter(&[]).takes("xdev.app1.internal", &wants));
        assert!(filter(&["web*"]).takes("web-1", &Wants::new()));
        assert!(!filter(&["web*"]).takes("db", &Wants::new()));
        assert!(Filter::default().takes("anything", &Wants::new()));
    }
}
