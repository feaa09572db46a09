//! One output: carries out what [`State`] says, and reports what came of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use super::disk::RealDisk;
use super::state::{Action, Ended, Pace, State, Talk};
use super::talk::Speaker;
use super::target::{Inputs, Target};
use super::write::{Disk, Outcome, Writer};
use crate::backoff::{Backoff, sleep_until};
use crate::output::{Linger, Output, SavedState};
use crate::proxy::{Bind, ReloadStatus, asked};
use crate::shutdown::Shutdown;
use crate::status::{OutputState, Status};

mod change_log;
mod events;
mod show;

use change_log::ChangeLog;

/// What the loop of one output works with.
pub struct Engine<D> {
    /// Name of the output in log and status.
    pub name: String,
    /// Directory of the files, to be shown.
    pub directory: String,
    /// What its plugin makes of services.
    pub output: Output,
    /// What leads to services that left.
    pub linger: Linger,
    /// What an earlier agent served, where that is kept.
    pub saved_state: Option<SavedState>,
    /// The files.
    pub disk: D,
    /// Who speaks with the running proxy, and how often about everything.
    pub speaker: Option<(Speaker, Duration)>,
    /// Asks for a reload; never blocks.
    pub request_reload: Box<dyn Fn() + Send>,
    /// Whether there is a proxy that is reloaded; without one the files are all there is.
    pub is_reloaded: bool,
    /// How reloading stands.
    pub reloads: watch::Receiver<ReloadStatus>,
    /// Addresses that the files bind which are there.
    pub found: BTreeSet<Bind>,
    /// When files are written.
    pub pace: Pace,
    /// Where all of it is shown.
    pub status: Status,
}

/// Keeps one proxy in step with the catalog until the agent shuts down.
///
/// # Errors
/// When an input ends, which only a bug can do.
pub async fn serve(
    output: Output,
    inputs: Inputs,
    target: Target,
    pace: Pace,
    status: Status,
    shutdown: Shutdown,
) -> Result<()> {
    let Target { name, directory, saved_state, linger, proxy, live } = target;
    let proxy = Arc::new(proxy);
    // What an earlier agent wrote is served before the registry answers.
    let found = directory.files();
    if directory.is_written() {
        proxy.start();
    }
    let speaker = live.map(|live| {
        let (renderer, node, name) = (live.renderer, live.node, name.clone());
        (Speaker { renderer, node, runtime: Arc::new(live.socket), name }, live.resync)
    });
    let requested = Arc::clone(&proxy);
    let engine = Engine {
        directory: directory.root().display().to_string(),
        output,
        linger: Linger::new(linger),
        saved_state: Some(saved_state),
        disk: RealDisk::new(&name, directory, Arc::clone(&proxy)),
        speaker,
        request_reload: Box::new(move || requested.request_reload()),
        is_reloaded: proxy.is_reloaded(),
        reloads: proxy.status(),
        found: asked(&found).into_iter().map(|one| one.bind).collect(),
        pace,
        status,
        name: name.clone(),
    };
    let outcome = run(engine, inputs, shutdown.token()).await;
    if shutdown.keeps_proxy(&name) {
        proxy.leave().await;
    } else {
        proxy.stop().await;
    }
    outcome
}

/// The loop of one output, whatever its disk and its proxy are.
///
/// # Errors
/// When an input ends.
pub async fn run<D: Disk + 'static>(engine: Engine<D>, inputs: Inputs, stop: CancellationToken) -> Result<()> {
    let mut serving = Serving::new(engine, inputs);
    loop {
        let wake = serving.act().await;
        serving.publish();
        let event = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            event = serving.event(wake) => event?,
        };
        serving.take(event);
    }
    serving.end().await;
    Ok(())
}

/// Something that happened.
enum Event {
    /// The catalog, the names that containers consume, or the time of services that left.
    Wanted,
    Reloads,
    Talked(Option<Ended>),
    Wrote(Box<Outcome>),
    Time,
}

struct Serving<D> {
    output: Output,
    linger: Linger,
    saved_state: Option<SavedState>,
    inputs: Inputs,
    state: State,
    /// The writer, while it writes nothing.
    writer: Option<Box<Writer<D>>>,
    writing: Option<JoinHandle<(Box<Writer<D>>, Outcome)>>,
    speaker: Option<Speaker>,
    talking: Option<(Talk, BoxFuture<'static, Result<Ended>>)>,
    request_reload: Box<dyn Fn() + Send>,
    reloads: watch::Receiver<ReloadStatus>,
    status: Status,
    component: String,
    name: String,
    shown: OutputState,
    changes: ChangeLog,
    clock: Clock,
    /// Pauses between tries of what the plugin crashed on, and of what was refused and may pass.
    again: Backoff,
    retry: Backoff,
}

impl<D: Disk + 'static> Serving<D> {
    fn new(engine: Engine<D>, inputs: Inputs) -> Self {
        let Engine { name, mut output, mut linger, mut saved_state, disk, speaker, reloads, found, status, .. } =
            engine;
        let clock = Clock::new();
        saved_state.iter_mut().for_each(|saved_state| saved_state.load(&mut output, &mut linger, clock.now()));
        let (speaker, resync) = speaker.unzip();
        let state = State::new(engine.pace, resync, (found, output.accepted().clone()));
        let mut serving = Serving {
            output,
            linger,
            saved_state,
            inputs,
            state,
            writer: Some(Box::new(Writer::new(&name, disk))),
            writing: None,
            speaker,
            talking: None,
            request_reload: engine.request_reload,
            reloads,
            status,
            component: format!("output {name}"),
            changes: ChangeLog::new(&name, engine.is_reloaded),
            name,
            shown: OutputState { directory: engine.directory, ..OutputState::default() },
            clock,
            again: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)),
            retry: Backoff::new(Duration::from_millis(500), Duration::from_secs(15)),
        };
        serving.want();
        serving
    }

    /// Carries out what is to be done now; gives the time at which there may be more.
    async fn act(&mut self) -> Option<Instant> {
        loop {
            let (actions, wake) = self.state.next(Instant::now());
            let is_immediate = actions.iter().any(|action| matches!(action, Action::Accept | Action::TryAgain));
            for action in actions {
                self.state.begin(&action, Instant::now());
                self.carry_out(action).await;
            }
            if !is_immediate {
                let linger = self.linger.due().map(|due| self.clock.at(due));
                return wake.into_iter().chain(linger).min();
            }
        }
    }

    async fn carry_out(&mut self, action: Action) {
        match action {
            Action::Accept => {
                let ages = self.inputs.ages.borrow_and_update().clone();
                self.output.update(&self.state.wanted, &ages, self.clock.now()).await;
                self.accepted();
            }
            Action::TryAgain => {
                self.state.retries(self.output.retryable());
                self.output.try_again(self.clock.now());
            }
            Action::Talk(talk) => {
                let Some(speaker) = self.speaker.clone() else { return };
                let said = talk.clone();
                self.talking = Some((talk, Box::pin(async move { speaker.hold(&said).await })));
            }
            Action::Write(job) => {
                let Some(mut writer) = self.writer.take() else { return };
                self.writing = Some(tokio::spawn(async move {
                    let outcome = writer.write(job).await;
                    (writer, outcome)
                }));
            }
            Action::Reload => (self.request_reload)(),
        }
    }

    /// Tells the state what may be served now.
    fn accepted(&mut self) {
        let now = Instant::now();
        let again = if self.output.wants_retry() {
            Some(now + self.again.next_delay())
        } else {
            self.again.reset();
            None
        };
        if let Some(written) = &self.state.written {
            self.output.written(&written.services);
        }
        self.changes.accepted(self.output.accepted(), now);
        self.state.accept(
            self.output.accepted(),
            self.output.base(),
            [self.output.behind(), self.output.on_trial()],
            again,
            now,
        );
    }

    /// Waits for whatever comes first; may be dropped at any time.
    async fn event(&mut self, wake: Option<Instant>) -> Result<Event> {
        let talking = async {
            match &mut self.talking {
                Some((_, talking)) => talking.await,
                None => std::future::pending().await,
            }
        };
        let writing = async {
            match &mut self.writing {
                Some(writing) => writing.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = self.inputs.services.changed() => changed.context("the catalog ended").map(|()| Event::Wanted),
            changed = self.inputs.consumed.changed() => {
                changed.context("the names that containers consume ended").map(|()| Event::Wanted)
            }
            Ok(()) = self.reloads.changed() => Ok(Event::Reloads),
            talked = talking => {
                let error = talked.as_ref().err().map(|error| format!("changes wait for a reload: {error:#}"));
                match error.filter(|_| self.state.loaded.is_some()) {
                    Some(text) => self.status.problem(&self.component, "stats socket", text),
                    None => self.status.resolved(&self.component, "stats socket"),
                }
                Ok(Event::Talked(talked.ok()))
            }
            wrote = writing => {
                let (writer, outcome) = wrote.context("writing files panicked")?;
                self.writer = Some(writer);
                Ok(Event::Wrote(Box::new(outcome)))
            }
            () = sleep_until(wake) => Ok(Event::Time),
        }
    }
}
