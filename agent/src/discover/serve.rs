//! One output: changes go to the running proxy at once where it takes them, and into the files soon after.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::live::Live;
use super::target::Target;
use super::view::{Inputs, View};
use super::write::write;
use crate::backoff::{Backoff, sleep_until};
use crate::model::Services;
use crate::output::Output;
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
    target.memory.recall(&mut output);
    let mut view = View::new(inputs, live, output.kept(), target.proxy.status());
    let mut files = Pending::new(pace);
    let mut writer = Writer::new(output, target, place, status);
    view.bring().await;
    loop {
        let is_due = files.due(&view).is_some_and(|due| due <= Instant::now());
        if let (true, Some(services)) = (is_due, view.taken.clone()) {
            files.begin(&services);
            files.again_at = writer.write(&services, &mut view).await;
            files.end();
        }
        writer.publish(&view);
        let due = files.due(&view);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            event = view.next() => view.handle(event?).await,
            () = sleep_until(due) => {}
        }
    }
    let Target { proxy, leave, .. } = writer.target;
    if leave.load(Ordering::Acquire) {
        proxy.leave().await;
    } else {
        proxy.stop().await;
    }
    Ok(())
}

/// The files of one output, and what became of them.
struct Writer {
    output: Output,
    target: Target,
    place: String,
    status: Status,
    state: OutputState,
    backoff: Backoff,
    /// The proxy was told of the files that are in place, or will be.
    begun: bool,
}

impl Writer {
    fn new(output: Output, target: Target, place: String, status: Status) -> Self {
        // What an earlier agent wrote is served before the registry answers, and taken up where it was not.
        let begun = target.directory.is_written();
        if begun {
            target.proxy.request_reload();
        }
        let state = OutputState { directory: target.directory.root().display().to_string(), ..OutputState::default() };
        let backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        Writer { output, target, place, status, state, backoff, begun }
    }

    /// Brings the files to these services while the running proxy goes on following; gives the time to try again what
    /// went wrong.
    async fn write(&mut self, services: &Services, view: &mut View) -> Option<Instant> {
        let owed = view.live.as_mut().is_none_or(Live::take_reload);
        let (output, target) = (&mut self.output, &self.target);
        let work = Box::pin(async {
            output.update(services).await;
            write(output, target).await
        });
        match view.follow_while(work).await {
            Ok(changed) => {
                self.target.memory.keep(&self.output);
                self.state.writes += u64::from(changed);
                self.state.error = None;
                self.status.resolved(&self.place, "files");
                let owed = if view.live.is_some() { owed } else { changed };
                let is_first = !std::mem::replace(&mut self.begun, true);
                if owed || is_first {
                    self.target.proxy.request_reload();
                }
                view.written(self.output.kept()).await;
            }
            Err(error) => {
                // Files may be in place all the same, and then the next good turn has to tell the proxy.
                self.begun = false;
                self.state.error = Some(format!("{error:#}"));
                self.status.problem(&self.place, "files", format!("the old files stay: {error:#}"));
            }
        }
        if self.state.error.is_some() || self.output.wants_retry() {
            return Some(Instant::now() + self.backoff.next_delay());
        }
        self.backoff.reset();
        None
    }

    fn publish(&mut self, view: &View) {
        let (reload, state) = (view.reloads.borrow().clone(), &mut self.state);
        state.services = self.output.services();
        state.reloads = reload.reloads;
        state.settled = self.begun && reload.done == reload.wanted && state.error.is_none();
        state.live = view.live.as_ref().map(Live::brought);
        match reload.last_error {
            Some(text) => self.status.problem(&self.place, "reload", text),
            None => self.status.resolved(&self.place, "reload"),
        }
        self.status.output(&self.target.name, state.clone());
    }
}

/// Renders, checks and writes once, for commands that do not stay: how many services the output takes, and whether files
/// changed.
pub async fn once(mut output: Output, services: &Services, mut target: Target) -> (usize, Result<bool>) {
    target.memory.recall(&mut output);
    output.update(services).await;
    let written = write(&mut output, &target).await;
    if written.is_ok() {
        target.memory.keep(&output);
    }
    target.proxy.stop().await;
    (output.services(), written)
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
