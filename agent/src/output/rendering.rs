//! What the plugin makes of services, with all that they ask for and then without what others have.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;

use super::served::{checked, sound};
use super::{Output, Refusal, Served};
use crate::model::{Rendering, Service};
use crate::plugin::{CallError, batches};

impl Output {
    pub(super) async fn render_base(&mut self) {
        if self.base.is_some() {
            return;
        }
        let answer = self.renderer.base(&self.node).await;
        match answer.map_err(|error| error.to_string()).and_then(sound) {
            Ok(fragments) => {
                self.base = Some(fragments.into());
                self.status.resolved(&self.component, "base");
            }
            Err(text) => self.status.problem(&self.component, "base", text),
        }
    }

    /// Renders services with all that they ask for, to learn what that is.
    pub(super) async fn render(&mut self, work: Vec<Arc<Service>>, now: u64) {
        for (service, answer) in self.answers(work).await {
            let name: Arc<str> = service.name.as_str().into();
            match self.taken(&name, answer) {
                Some(Ok(rendering)) => {
                    self.without.remove(&name);
                    // One that is held back keeps what it had, however often it is rendered.
                    let is_held = |refusal: &&Refusal| {
                        refusal.version.as_ref().is_some_and(|version| version.service.instances == service.instances)
                    };
                    let claims = match self.refusals.get(&name).filter(is_held) {
                        Some(Refusal { instead: Some(instead), .. }) => instead.claims.clone(),
                        Some(_) => Vec::new(),
                        None => rendering.claims.clone(),
                    };
                    if self.kept.get(&name).is_some_and(|kept| kept.iter().all(|claim| claims.contains(claim))) {
                        // It asks for all that it would stay with.
                        self.kept.remove(&name);
                    }
                    self.ask(&name, claims, now);
                    self.take(&name, &service, rendering);
                }
                Some(Err(text)) => {
                    let how = if self.rendered.contains_key(&name) { "it stays as it was" } else { "it is left out" };
                    self.problems.insert(Arc::clone(&name), (format!("{how}: {text}"), true));
                    self.unrendered.insert(name);
                }
                None => self.waits(name),
            }
        }
    }

    /// The plugin rests: that is said where nothing says why.
    fn waits(&mut self, name: Arc<str>) {
        let how = if self.rendered.contains_key(&name) { "it stays as it was" } else { "it is left out" };
        let text = || (format!("{how}: {}", CallError::Suspended), true);
        self.problems.entry(Arc::clone(&name)).or_insert_with(text);
        self.unrendered.insert(name);
    }

    /// Settles who has what, and renders who loses or gains something; those services.
    pub(super) async fn settle(&mut self, rendered: BTreeSet<Arc<str>>, now: u64) -> BTreeSet<Arc<str>> {
        let mut touched = BTreeSet::new();
        let mut open = rendered;
        open.extend(self.claims.settle(now));
        while !open.is_empty() {
            let mut work = Vec::new();
            for name in std::mem::take(&mut open) {
                let denied = self.claims.denied(&name);
                if self.without.get(&name).map_or(&[][..], Vec::as_slice) == denied {
                    continue;
                }
                if let Some(service) = self.seen.get(&name) {
                    work.push(Arc::new(Service { denied: denied.clone(), ..Service::clone(service) }));
                }
                self.without.insert(Arc::clone(&name), denied);
                touched.insert(name);
            }
            self.without.retain(|_, denied| !denied.is_empty());
            for (service, answer) in self.answers(work).await {
                let name: Arc<str> = service.name.as_str().into();
                match self.taken(&name, answer) {
                    Some(Ok(rendering)) => self.take(&name, &service, rendering),
                    Some(Err(text)) => {
                        self.rendered.remove(&name);
                        let text = if service.denied.is_empty() { text } else { self.loss(&service.denied) };
                        self.problems.insert(Arc::clone(&name), (format!("it is left out: {text}"), true));
                        self.unrendered.insert(name);
                    }
                    // What it had may be another one's now.
                    None => {
                        self.rendered.remove(&name);
                        self.waits(name);
                    }
                }
            }
            open = self.claims.settle(now);
        }
        touched
    }

    async fn answers(&self, work: Vec<Arc<Service>>) -> Vec<(Arc<Service>, Result<Rendering, CallError>)> {
        let answers = futures::stream::iter(batches(work, self.parallel))
            .map(|batch| async { batch.clone().into_iter().zip(self.renderer.render(&self.node, batch).await) })
            .buffer_unordered(self.parallel);
        answers.flat_map(futures::stream::iter).collect().await
    }

    /// A plugin's answer, checked; none while the plugin rests.
    fn taken(&mut self, name: &Arc<str>, answer: Result<Rendering, CallError>) -> Option<Result<Rendering, String>> {
        if matches!(answer, Err(CallError::Crashed(_) | CallError::Suspended)) {
            self.again.insert(Arc::clone(name));
        }
        match answer {
            Err(CallError::Suspended) => None,
            Err(error) => Some(Err(error.to_string())),
            Ok(rendering) => Some(checked(rendering)),
        }
    }

    fn take(&mut self, name: &Arc<str>, service: &Arc<Service>, rendering: Rendering) {
        self.unrendered.remove(name);
        let Rendering { fragments, claims } = rendering;
        let served = Arc::new(Served { service: Arc::clone(service), fragments, claims });
        if service.denied.is_empty() {
            if self.problems.get(name).is_some_and(|(_, by_plugin)| *by_plugin) {
                self.problems.remove(name);
            }
        } else {
            self.problems.insert(Arc::clone(name), (self.loss(&service.denied), true));
        }
        // An unchanged form stays the same in memory, so that nobody takes it for a change.
        if self.rendered.get(name).is_none_or(|known| *known != served) {
            self.rendered.insert(Arc::clone(name), served);
        }
    }
}
