//! One output: changes go to the running proxy at once where it takes them, and into the files soon after.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::live::Live;
use super::target::Target;
use super::write::write;
use crate::backoff::Backoff;
use crate::model::Services;
use crate::output::{Kept, Output, Selection, Wants};
use crate::proxy::ReloadStatus;
use crate::status::{OutputState, Status};

/// Files that the proxy does not wait for are written again only after this many times what it took the last time.
const REST: u32 = 4;

/// Quiet time before a storm of changes is rendered, and the longest it may be put off.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Quiet time.
    pub min: Duration,
    /// The longest a change may wait.
    pub max: Duration,
}

/// What [`serve`] reads.
pub struct Inputs {
    /// All services, once they are known.
    pub services: watch::Receiver<Option<Services>>,
    /// What containers of this host want within reach.
    pub wants: watch::Receiver<Wants>,
    /// Which services are for this output.
    pub selection: Selection,
}

/// Keeps one proxy in step with the catalog until `stop` fires.
///
/// # Errors
/// When an input ends, which only a bug can do.
pub async fn serve(
    mut output: Output,
    inputs: Inputs,
    mut target: Target,
    pace: Pace,
    status: Status,
    stop: CancellationToken,
) -> Result<()> {
    let place = format!("output {}", target.name);
    let live = target.live.take().map(|options| Live::new(options, &place, status.clone()));
    let mut view = View::new(inputs, live, target.proxy.status());
    let mut files = Pending::new(pace);
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let mut state = OutputState { directory: target.directory.root().display().to_string(), ..OutputState::default() };
    // What an earlier agent wrote is served before the registry answers, and taken up where it was not.
    let mut begun = target.directory.is_written();
    if begun {
        target.proxy.request_reload();
    }
    view.bring().await;
    loop {
        let is_due = files.due(&view).is_some_and(|due| due <= Instant::now());
        if let (true, Some(services)) = (is_due, view.taken.clone()) {
            let owed = view.live.as_mut().is_none_or(Live::take_reload);
            files.begin(&services);
            let work = Box::pin(async {
                output.update(&services).await;
                write(&mut output, &target).await
            });
            let written = view.follow_while(work).await;
            files.end();
            match written {
                Ok(changed) => {
                    state.writes += u64::from(changed);
                    state.error = None;
                    status.resolved(&place, "files");
                    let owed = if view.live.is_some() { owed } else { changed };
                    if owed || !std::mem::replace(&mut begun, true) {
                        target.proxy.request_reload();
                    }
                    view.written(output.kept()).await;
                }
                Err(error) => {
                    // Files may be in place all the same, and then the next good turn has to tell the proxy.
                    begun = false;
                    state.error = Some(format!("{error:#}"));
                    status.problem(&place, "files", format!("the old files stay: {error:#}"));
                }
            }
            if state.error.is_some() || output.wants_retry() {
                files.again_at = Some(Instant::now() + backoff.next_delay());
            } else {
                backoff.reset();
            }
            state.services = output.services();
        }
        view.publish(&mut state, &target.name, &place, &status);
        let due = files.due(&view);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            event = view.next() => view.handle(event?).await,
            () = sleep_until(due) => {}
        }
    }
    if target.leave.load(Ordering::Acquire) {
        target.proxy.leave().await;
    } else {
        target.proxy.stop().await;
    }
    Ok(())
}

/// Renders, checks and writes once, for commands that do not stay: how many services the output takes, and whether files
/// changed.
pub async fn once(mut output: Output, services: &Services, target: Target) -> (usize, Result<bool>) {
    output.update(services).await;
    let written = write(&mut output, &target).await;
    target.proxy.stop().await;
    (output.services(), written)
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// Something that happened outside.
enum Event {
    /// The catalog or the wishes of containers changed.
    Changed,
    /// Something about reloading changed.
    Reloads,
    /// The running proxy is to be asked how it is.
    Look,
}

/// What is wanted now, and the running proxy that follows it at once.
struct View {
    inputs: Inputs,
    reloads: watch::Receiver<ReloadStatus>,
    /// Reloads as of the last look.
    reloaded: u64,
    /// The services of this output; none before the catalog is known.
    taken: Option<Services>,
    /// When that last changed.
    changed_at: Instant,
    kept: Kept,
    live: Option<Live>,
}

impl View {
    fn new(inputs: Inputs, live: Option<Live>, reloads: watch::Receiver<ReloadStatus>) -> Self {
        let now = Instant::now();
        View { inputs, reloads, reloaded: 0, taken: None, changed_at: now, kept: Kept::new(), live }
    }

    /// Waits for whatever comes first; may be dropped at any time.
    async fn next(&mut self) -> Result<Event> {
        let look = self.live.as_ref().map(Live::due);
        tokio::select! {
            biased;
            changed = self.inputs.services.changed() => changed.context("the catalog ended").map(|()| Event::Changed),
            changed = self.inputs.wants.changed() => {
                changed.context("the wishes of containers ended").map(|()| Event::Changed)
            }
            Ok(()) = self.reloads.changed() => Ok(Event::Reloads),
            () = sleep_until(look) => Ok(Event::Look),
        }
    }

    async fn handle(&mut self, event: Event) {
        match (event, &mut self.live) {
            (Event::Changed, _) => self.bring().await,
            (Event::Reloads, live) => {
                let reloads = self.reloads.borrow_and_update().reloads;
                let new = std::mem::replace(&mut self.reloaded, reloads) != reloads;
                live.iter_mut().filter(|_| new).for_each(Live::reloaded);
            }
            (Event::Look, Some(live)) => live.look().await,
            (Event::Look, None) => {}
        }
    }

    /// Follows what happens until `work` is done; without a proxy to be brought along nothing needs to be followed.
    async fn follow_while<T>(&mut self, mut work: BoxFuture<'_, T>) -> T {
        if self.live.is_none() {
            return work.await;
        }
        loop {
            let event = tokio::select! {
                biased;
                done = &mut work => return done,
                event = self.next() => event,
            };
            match event {
                Ok(event) => self.handle(event).await,
                // The end of an input is for the caller to judge: it may be about to stop.
                Err(_) => return work.await,
            }
        }
    }

    /// Takes in what is wanted now, and brings the running proxy there.
    async fn bring(&mut self) {
        let services = self.inputs.services.borrow_and_update().clone();
        let wants = self.inputs.wants.borrow_and_update().clone();
        let Some(services) = services else { return };
        let taken = self.inputs.selection.update(&services, &wants).clone();
        if self.taken.as_ref() != Some(&taken) {
            self.changed_at = Instant::now();
        }
        if let Some(live) = &mut self.live {
            live.bring(&taken, &self.kept).await;
        }
        self.taken = Some(taken);
    }

    /// The files are in place; the running proxy follows them where they do not follow the catalog.
    async fn written(&mut self, kept: Kept) {
        self.kept = kept;
        if let (Some(live), Some(taken)) = (&mut self.live, &self.taken) {
            live.written(&self.kept);
            live.bring(taken, &self.kept).await;
        }
    }

    fn publish(&self, state: &mut OutputState, name: &str, place: &str, status: &Status) {
        let reload = self.reloads.borrow();
        state.reloads = reload.reloads;
        state.settled = reload.done == reload.wanted && state.error.is_none();
        state.live = self.live.as_ref().map(Live::brought);
        match &reload.last_error {
            Some(text) => status.problem(place, "reload", text.clone()),
            None => status.resolved(place, "reload"),
        }
        status.output(name, state.clone());
    }
}

/// When the files are to be written next.
struct Pending {
    pace: Pace,
    /// What the files were last made of.
    written: Option<Services>,
    /// When the files were last begun, and what it took.
    begun_at: Option<Instant>,
    took: Duration,
    /// When the first change was noticed that the files do not have.
    since: Option<Instant>,
    /// When to try again what went wrong.
    again_at: Option<Instant>,
}

impl Pending {
    fn new(pace: Pace) -> Self {
        Pending { pace, written: None, begun_at: None, took: Duration::ZERO, since: None, again_at: None }
    }

    fn begin(&mut self, services: &Services) {
        self.written = Some(services.clone());
        self.begun_at = Some(Instant::now());
        self.since = None;
        self.again_at = None;
    }

    fn end(&mut self) {
        self.took = self.begun_at.map_or(Duration::ZERO, |begun| begun.elapsed());
    }

    /// Leading edge: the first change of a quiet system goes through at once, a storm is merged. Files that the proxy
    /// does not wait for follow when it is quiet.
    fn due(&mut self, view: &View) -> Option<Instant> {
        let taken = view.taken.as_ref()?;
        let owed = view.live.as_ref().is_some_and(Live::owes_reload);
        let changed = self.written.as_ref().is_none_or(|written| !written.ptr_eq(taken) && written != taken);
        let changed = (changed || owed).then(|| {
            let Pace { min, max } = self.pace;
            let Some(last) = self.begun_at else { return Instant::now() };
            let since = *self.since.get_or_insert_with(|| view.changed_at.max(last));
            let quiet = (view.changed_at + min).min(since + max);
            match () {
                () if view.live.is_some() && !owed => quiet.max(last + self.took * REST),
                () if since >= last + min => since,
                () => quiet,
            }
        });
        changed.into_iter().chain(self.again_at).min()
    }
}
