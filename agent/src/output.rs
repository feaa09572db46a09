//! Services to parts, and parts to files: what one proxy reads.
//!
//! A service that cannot be rendered, or whose lines the proxy's check refuses, stays as it was; the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;
use imbl::ordmap::DiffItem;

use crate::model::{Node, Part, Rendering, Service, Services, check_part};
use crate::plugin::{CallError, Plugin, batches};
use crate::status::Status;

pub mod files;
mod memory;
mod selection;
pub mod write;

use files::{Composed, Files};
pub use memory::Memory;
pub use selection::{Filter, Selection, Wants};

/// Services that the files do not follow, and what the files have of them instead.
pub type Kept = BTreeMap<Arc<str>, Option<Arc<Service>>>;

/// One output and what it rendered so far.
pub struct Output {
    plugin: Plugin,
    node: Arc<Node>,
    status: Status,
    place: String,
    /// The services it takes, as of the last turn.
    seen: Services,
    /// The services as the files have them.
    standing: Services,
    files: Files,
    framed: bool,
    /// Services the plugin crashed on.
    retry: BTreeSet<Arc<str>>,
    /// Services the plugin refused.
    refused: BTreeSet<Arc<str>>,
    /// Services that changed since the files were last put into place, and their parts as they are there.
    before: BTreeMap<Arc<str>, Vec<Part>>,
    /// Parts that are tried again at the next turn: the check blamed none of them, or the fault may pass.
    waiting: BTreeMap<Arc<str>, Vec<Part>>,
    /// Services that the check is to blame on, until they change.
    held: BTreeSet<Arc<str>>,
    /// Services left out because others have what they want.
    beaten: BTreeSet<Arc<str>>,
    parallel: usize,
}

impl Output {
    /// An output named `name`.
    pub fn new(name: &str, plugin: Plugin, node: Arc<Node>, status: Status) -> Self {
        Output {
            plugin,
            node,
            status,
            place: format!("output {name}"),
            seen: Services::new(),
            standing: Services::new(),
            files: Files::new(),
            framed: false,
            retry: BTreeSet::new(),
            refused: BTreeSet::new(),
            before: BTreeMap::new(),
            waiting: BTreeMap::new(),
            held: BTreeSet::new(),
            beaten: BTreeSet::new(),
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
    pub async fn update(&mut self, services: &Services) {
        self.frame().await;
        for (name, parts) in std::mem::take(&mut self.waiting) {
            self.set(&name, parts);
        }
        let mut changed = std::mem::take(&mut self.retry);
        for change in self.seen.diff(services) {
            match change {
                DiffItem::Add(name, _) | DiffItem::Update { new: (name, _), .. } | DiffItem::Remove(name, _) => {
                    changed.insert(Arc::clone(name));
                }
            }
        }
        self.seen = services.clone();
        let (gone, render): (Vec<_>, Vec<_>) = changed.into_iter().partition(|name| !self.seen.contains_key(name));
        for name in gone {
            self.refused.remove(&name);
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
        let beaten: BTreeSet<Arc<str>> = self.files.conflicts().into_keys().map(Arc::from).collect();
        let back = std::mem::replace(&mut self.beaten, beaten);
        for name in std::mem::take(&mut self.before).into_keys().chain(back) {
            let blamed = self.held.contains(&name) || self.waiting.contains_key(&name);
            if !blamed {
                self.status.resolved(&self.place, &name);
            }
            if blamed || self.refused.contains(&name) || self.retry.contains(&name) {
                if self.files.parts(&name).is_empty() {
                    self.standing.remove(&name);
                }
            } else {
                self.stands(name);
            }
        }
        self.beaten.iter().for_each(|name| _ = self.standing.remove(name));
    }

    /// The files have a service as the catalog does.
    fn stands(&mut self, name: Arc<str>) {
        match self.seen.get(&name) {
            Some(service) => _ = self.standing.insert(name, Arc::clone(service)),
            None => _ = self.standing.remove(&name),
        }
    }

    /// The services that the files do not follow, for whoever else brings the proxy after the catalog.
    pub fn kept(&self) -> Kept {
        let all = self.held.iter().chain(&self.refused).chain(&self.retry).chain(&self.beaten);
        all.map(|name| (Arc::clone(name), self.standing.get(name).cloned())).collect()
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

    fn take(&mut self, service: &Arc<Service>, answer: Result<Rendering, CallError>) {
        let name: Arc<str> = service.name.as_str().into();
        if matches!(answer, Err(CallError::Crashed(_) | CallError::Resting)) {
            self.retry.insert(Arc::clone(&name));
        }
        if matches!(answer, Err(CallError::Resting)) {
            return;
        }
        match answer.map_err(|error| error.to_string()).and_then(|found| sound(found.parts)) {
            Ok(parts) => {
                self.refused.remove(&name);
                self.set(&name, parts);
            }
            Err(text) => {
                let how = if self.files.parts(&name).is_empty() { "it is left out" } else { "it stays as it was" };
                self.status.problem(&self.place, &name, format!("{how}: {text}"));
                self.refused.insert(name);
            }
        }
    }

    fn set(&mut self, name: &Arc<str>, parts: Vec<Part>) {
        self.waiting.remove(name);
        self.held.remove(name);
        if !self.before.contains_key(name) {
            self.before.insert(Arc::clone(name), self.files.parts(name));
        }
        self.files.set(name, parts);
    }
}

/// Parts that keep to the rules, or the first that does not.
fn sound(parts: Vec<Part>) -> Result<Vec<Part>, String> {
    match parts.iter().find_map(|part| check_part(part).err()) {
        Some(error) => Err(format!("what the plugin returned is refused: {error}")),
        None => Ok(parts),
    }
}
