//! Services to fragments, and fragments to files: what one proxy reads.
//!
//! [`Output::accepted`] holds the services that may be served, each in its last good form. It leaves out what the plugin or
//! the proxy's check refused; claims that another service owns are rendered out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use imbl::ordmap::DiffItem;

use crate::model::{Ages, Claim, Fragment, Node, Readiness, Services, check_fragment};
use crate::plugin::Renderer;
use crate::simulated::{Fault, has};
use crate::status::Status;

mod claims;
mod composer;
pub mod files;
mod linger;
mod rendering;
mod saved_state;
mod selection;
mod served;
pub mod write;

pub use claims::Held;
use claims::{Claims, Holders};
pub use composer::Composer;
pub use linger::Linger;
pub use saved_state::SavedState;
pub use selection::{Consumed, Filter, Selection};
pub use served::{Accepted, Refusal, Served};

/// The fragments that are there whatever the services.
pub type Base = Arc<[Fragment]>;

/// One output, what its plugin made of each service, and what of it may be served.
pub struct Output {
    renderer: Arc<dyn Renderer>,
    node: Arc<Node>,
    status: Status,
    component: String,
    base: Option<Base>,
    /// The services that are wanted, as of the last update.
    seen: Services,
    /// What the plugin made of them.
    rendered: BTreeMap<Arc<str>, Arc<Served>>,
    claims: Claims,
    /// Services that were last rendered without some claims, and without which.
    without: BTreeMap<Arc<str>, Vec<Claim>>,
    /// What the check refused.
    refusals: BTreeMap<Arc<str>, Refusal>,
    /// The form of a service that was refused last, until a check passes it.
    suspects: BTreeMap<Arc<str>, Arc<Served>>,
    accepted: Accepted,
    /// Claims of the previous form, kept in case the new one is refused again.
    kept: BTreeMap<Arc<str>, Vec<Claim>>,
    /// Services to render again: the plugin crashed on them, or the set of claims that they may hold has changed.
    again: BTreeSet<Arc<str>>,
    /// Services that the plugin does not render as they are wanted now.
    unrendered: BTreeSet<Arc<str>>,
    /// What is wrong, by service: said by the plugin, or else by the check.
    problems: BTreeMap<Arc<str>, (String, bool)>,
    parallel: usize,
}

impl Output {
    /// An output named `name`.
    pub fn new(name: &str, renderer: Arc<dyn Renderer>, node: Arc<Node>, status: Status) -> Self {
        Output {
            renderer,
            node,
            status,
            component: format!("output {name}"),
            base: None,
            seen: Services::new(),
            rendered: BTreeMap::new(),
            claims: Claims::default(),
            without: BTreeMap::new(),
            refusals: BTreeMap::new(),
            suspects: BTreeMap::new(),
            kept: BTreeMap::new(),
            accepted: Accepted::new(),
            again: BTreeSet::new(),
            unrendered: BTreeSet::new(),
            problems: BTreeMap::new(),
            parallel: std::thread::available_parallelism().map_or(1, std::num::NonZero::get) * 2,
        }
    }

    /// How many services it takes, those that left not long ago included.
    pub fn services(&self) -> usize {
        self.seen.len()
    }

    /// The services that may be served.
    pub fn accepted(&self) -> &Accepted {
        &self.accepted
    }

    /// The fragments that are there whatever the services; none as long as the plugin did not give them.
    pub fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }

    /// The files of all that may be served, from nothing.
    pub fn compose(&self) -> files::Composed {
        Composer::default().compose(self.base.as_deref().unwrap_or_default(), &self.accepted)
    }

    /// Whether another [`Output::update`] may give something else though nothing changed outside.
    pub fn wants_retry(&self) -> bool {
        self.base.is_none() || !self.again.is_empty()
    }

    /// Services that are not served as they are wanted.
    pub fn behind(&self) -> BTreeSet<Arc<str>> {
        self.unrendered.iter().chain(self.refusals.keys()).chain(self.without.keys()).cloned().collect()
    }

    /// Services with a form that was refused before. Live updates wait until a check has passed it.
    pub fn on_trial(&self) -> BTreeSet<Arc<str>> {
        let is_tried = |(name, form): &(&Arc<str>, &Arc<Served>)| self.accepted.get(*name) == Some(*form);
        let tried = self.suspects.iter().filter(is_tried).map(|(name, _)| Arc::clone(name));
        tried.filter(|_| !has(Fault::RefusedIsLive)).collect()
    }

    /// Refused services whose cause may be gone by now.
    pub fn retryable(&self) -> BTreeSet<Arc<str>> {
        let passing = self.refusals.iter().filter(|(_, refusal)| refusal.is_transient);
        passing.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// Renders the services that changed, assigns claims, and so determines which services may be served. A free claim goes
    /// to the oldest service by `ages`.
    pub async fn update(&mut self, wanted: &Services, ages: &Ages, now: u64) {
        self.render_base().await;
        self.claims.ages = ages.clone();
        let is_first = self.seen.is_empty();
        let mut names = std::mem::take(&mut self.again);
        for change in self.seen.diff(wanted) {
            match change {
                DiffItem::Add(name, _) | DiffItem::Update { new: (name, _), .. } | DiffItem::Remove(name, _) => {
                    names.insert(Arc::clone(name));
                }
            }
        }
        self.seen = wanted.clone();
        for name in names.iter().filter(|name| !wanted.contains_key(*name)) {
            self.leave(name, now);
        }
        let work = names.iter().filter_map(|name| wanted.get(name).cloned()).collect();
        let mut touched = names.clone();
        self.render(work, now).await;
        if is_first {
            self.claims.forget_unasked();
        }
        touched.extend(self.settle(names, now).await);
        touched.iter().for_each(|name| self.accept(name));
        self.publish();
        self.renderer.trim();
    }

    /// Takes back what was accepted and is refused now.
    pub fn refuse(&mut self, refusals: BTreeMap<Arc<str>, Refusal>, now: u64) {
        let mut all_claims = Vec::new();
        for (name, refusal) in refusals {
            if self.accepted.get(&name) != refusal.version.as_ref() {
                continue;
            }
            let how = if refusal.instead.is_some() { "it stays as it was" } else { "it is left out" };
            self.problems.insert(Arc::clone(&name), (format!("{how}: {}", refusal.reason), false));
            // What is not served has no claim; what stays as it was keeps those it had.
            let claims = refusal.instead.as_ref().map(|served| served.claims.clone()).unwrap_or_default();
            let denied = refusal.instead.as_ref().map(|served| served.service.denied.clone()).unwrap_or_default();
            let had = claims.iter().filter(|claim| !denied.contains(claim)).cloned().collect();
            all_claims.push((Arc::clone(&name), claims));
            let version = self.rendered.get(&name).cloned();
            self.kept.remove(&name);
            self.ask(&name, had, now);
            self.suspects.extend(version.clone().map(|version| (Arc::clone(&name), version)));
            self.refusals.insert(Arc::clone(&name), Refusal { version, ..refusal });
            self.accept(&name);
        }
        let others = self.claims.settle(now);
        self.again.extend(others);
        // They wait for their other claims only after the free ones are assigned.
        all_claims.into_iter().for_each(|(name, claims)| self.ask(&name, claims, now));
        let others = self.claims.settle(now);
        self.again.extend(others);
        self.publish();
    }

    /// Accepts again what was refused for a cause that may be gone, so that the next check decides.
    pub fn try_again(&mut self, now: u64) {
        for name in self.retryable() {
            if let Some(Refusal { version, instead, .. }) = self.refusals.remove(&name) {
                let claims = version.map(|version| version.claims.clone()).unwrap_or_default();
                if let Some(instead) = instead {
                    self.kept.insert(Arc::clone(&name), instead.claims.clone());
                }
                self.claims.set_again(&name, self.with_kept(&name, claims), now);
                self.again.insert(name);
            }
        }
    }

    /// These files are in place, so every form in them is good.
    pub fn written(&mut self, written: &Accepted) {
        self.suspects.retain(|name, form| written.get(name) != Some(form));
        let wanted = |name: &Arc<str>| self.rendered.get(name).filter(|one| !one.fragments.is_empty());
        let good = |name: &Arc<str>| !self.refusals.contains_key(name) && written.get(name) == wanted(name);
        self.problems.retain(|name, (_, by_plugin)| *by_plugin || !good(name));
        let passed: Vec<_> = self.kept.keys().filter(|name| good(name)).cloned().collect();
        // Rendered again, they ask for the claims of their current form only.
        self.again.extend(passed.iter().inspect(|name| drop(self.kept.remove(*name))).cloned());
        self.publish();
    }

    /// Who has which claim.
    fn claims(&self) -> &Holders {
        self.claims.all()
    }

    /// Begins with what an earlier agent served: who had which claim, and each service as it is in the files.
    fn restore(&mut self, claims: Holders, services: &Accepted) {
        claims.into_iter().for_each(|(claim, held)| self.claims.restore(claim, held));
        for (name, served) in services {
            if served.fragments.iter().all(|fragment| check_fragment(fragment).is_ok()) {
                // It holds its old claims until its new form is accepted.
                self.claims.set(name, served.claims.clone(), false, 0);
                self.kept.insert(Arc::clone(name), served.claims.clone());
                self.accepted.insert(Arc::clone(name), Arc::clone(served));
                self.rendered.insert(Arc::clone(name), Arc::clone(served));
                self.again.insert(Arc::clone(name));
            }
        }
    }

    /// What a service goes without, who has that, and since when.
    fn loss(&self, denied: &[Claim]) -> String {
        let one = |claim: &Claim| match self.claims.held(claim) {
            Some(held) => {
                let since = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(held.since));
                format!("{claim}, which service {} has had since {since}", held.holder)
            }
            None => claim.to_string(),
        };
        let all: Vec<String> = denied.iter().map(one).collect();
        format!("it goes without {}", all.join("; "))
    }

    fn ask(&mut self, name: &Arc<str>, claims: Vec<Claim>, now: u64) {
        let is_gone = self
            .seen
            .get(name)
            .is_some_and(|service| service.instances.iter().all(|instance| instance.readiness == Readiness::Gone));
        self.claims.set(name, self.with_kept(name, claims), is_gone, now);
    }

    fn with_kept(&self, name: &str, mut claims: Vec<Claim>) -> Vec<Claim> {
        claims.extend(self.kept.get(name).into_iter().flatten().cloned());
        claims.sort_unstable();
        claims.dedup();
        claims
    }

    fn leave(&mut self, name: &Arc<str>, now: u64) {
        self.rendered.remove(name);
        self.refusals.remove(name);
        self.suspects.remove(name);
        self.kept.remove(name);
        self.without.remove(name);
        self.unrendered.remove(name);
        // What the check found stands until the files are good without the service.
        if self.problems.get(name).is_some_and(|(_, by_plugin)| *by_plugin) {
            self.problems.remove(name);
        }
        self.again.remove(name);
        self.claims.set(name, Vec::new(), false, now);
    }

    /// What of a service may be served now.
    fn accept(&mut self, name: &Arc<str>) {
        let rendered = self.rendered.get(name);
        let accepted = match self.refusals.get(name) {
            Some(refusal) if rendered == refusal.version.as_ref() && !has(Fault::RefusedIsLive) => {
                refusal.instead.clone()
            }
            _ => {
                self.refusals.remove(name);
                rendered.cloned()
            }
        };
        match accepted.filter(|served| !served.fragments.is_empty()) {
            Some(served) => {
                if self.accepted.get(name).is_none_or(|known| !Arc::ptr_eq(known, &served)) {
                    self.accepted.insert(Arc::clone(name), served);
                }
            }
            None => _ = self.accepted.remove(name),
        }
    }

    fn publish(&self) {
        let text = |(name, (text, _)): (&Arc<str>, &(String, bool))| (name.to_string(), text.clone());
        self.status.replace(&format!("{} service", self.component), self.problems.iter().map(text).collect());
    }
}
