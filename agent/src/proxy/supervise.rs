//! Runs the proxy as a child that outlives a killed agent, and reloads it by a signal.
//!
//! A reload is done when the process says `READY=1` after it, does not say that it failed, and, for proxies that
//! renew their workers, has a new one: `HAProxy` 2.6 says `RELOADING=1`, `RELOADING=1`, `READY=1` also when it refused
//! its files. No signal is sent before the one before it is confirmed, because a second one may be lost; one
//! that nothing answers is sent again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::process::Child;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::Signal;
use super::command;
use super::lines::Lines;
use super::methods::{LOOK, Workers};
use super::notify::{Message, NotifySocket};
use super::process::{self, Process};
use super::record::{self, Record};
use super::reload::{Ended, Failure, Reloader};

/// A process that said nothing for this long after its start will not say anything later.
const SILENT: Duration = Duration::from_secs(2);
/// A process without workers that did not end for this long after a signal has taken it.
const SETTLED: Duration = Duration::from_millis(200);
/// A signal that nothing answers for this long was lost. The master answers within milliseconds.
const LOST: Duration = Duration::from_secs(2);
/// How long a process may take to end before it is killed.
const STOP: Duration = Duration::from_secs(10);

/// The proxy of one output as a child.
pub(super) struct Supervisor {
    name: String,
    command: Vec<String>,
    signal: Signal,
    limit: Duration,
    record: PathBuf,
    socket: PathBuf,
    pipe: PathBuf,
    notify: Option<NotifySocket>,
    lines: Option<Lines>,
    running: Option<Running>,
    /// How a process ended, and how long it ran, until that was told.
    gone: Option<(String, Duration)>,
}

/// The process.
struct Running {
    process: Process,
    /// None of one that an earlier agent started.
    child: Option<Child>,
    since: Instant,
    /// It has used the notify socket.
    speaks: bool,
    /// It was started or signalled, and has not said yet that it is ready.
    busy: bool,
}

impl Running {
    fn hear(&mut self, message: &Message) {
        if message.main_pid.is_none_or(|pid| pid == self.process.pid) {
            self.speaks = true;
            self.busy = !message.ready && (self.busy || message.reloading);
        }
    }
}

/// What made waiting for a process to be ready end well.
enum Ready {
    /// It said so.
    Said(Message),
    /// It does not speak, and is there.
    Seen,
}

impl Supervisor {
    pub(super) fn new(name: &str, dir: &Path, command: &[String], signal: Signal, limit: Duration) -> Self {
        // The child reads the socket's address wherever it runs.
        let dir = &std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let own = |suffix: &str| dir.join(format!(".waypost-{}.{suffix}", name.replace('/', "-")));
        Supervisor {
            name: name.to_owned(),
            command: command::filled(command, dir),
            signal,
            limit,
            record: own("pid"),
            socket: own("notify"),
            pipe: own("output"),
            notify: None,
            lines: None,
            running: None,
            gone: None,
        }
    }

    /// The socket and the pipe, bound once for the life of the agent.
    fn bind(&mut self) -> anyhow::Result<()> {
        if self.notify.is_none() {
            let socket = NotifySocket::bind(&self.socket);
            self.notify = Some(socket.with_context(|| format!("cannot bind the socket {}", self.socket.display()))?);
        }
        if self.lines.is_none() {
            match Lines::open(&self.pipe, &self.name) {
                Ok(lines) => self.lines = Some(lines),
                Err(error) => {
                    warn!(proxy = self.name, path = %self.pipe.display(), %error, "without a pipe the proxy writes where the agent does");
                }
            }
        }
        Ok(())
    }

    /// Takes over a process that an earlier agent started.
    async fn adopt(&mut self) {
        let Some(record) = Record::read(&self.record) else { return };
        let Some(process) = record.process() else {
            // Its workers may have outlived it, and would keep its ports.
            if record.has_left() {
                process::kill_group(record.pid);
            }
            return self.forget();
        };
        let running = Running { process, child: None, since: Instant::now(), speaks: false, busy: false };
        self.running = Some(running);
        if record.command == self.command {
            info!(proxy = self.name, pid = process.pid, "adopted the proxy that an earlier agent started");
        } else {
            info!(
                proxy = self.name,
                pid = process.pid,
                "stopping a proxy that an earlier agent started with another command"
            );
            self.stop().await;
        }
    }

    async fn start(&mut self) -> Result<(), Failure> {
        let notify = self.notify.as_ref().context("the notify socket is not bound")?;
        while notify.try_receive().is_some() {}
        self.gone = None;
        let mark = self.lines.as_ref().map_or(0, Lines::count);
        let mut prepared = command::prepared(&self.command)?;
        prepared.env("NOTIFY_SOCKET", &notify.address).kill_on_drop(false);
        if let Some(lines) = &self.lines {
            let pipe = || lines.stdio().context("cannot open the pipe for the proxy's output");
            prepared.stdout(pipe()?).stderr(pipe()?);
        }
        let child = prepared.spawn().map_err(|error| command::not_started(&self.command[0], error))?;
        let process = child.id().and_then(Process::find).context("the proxy ended as soon as it was started")?;
        if let Err(error) = Record::of(process, &self.command).write(&self.record) {
            warn!(proxy = self.name, path = %self.record.display(), %error, "an agent after this one will not find the proxy");
        }
        let since = Instant::now();
        self.running = Some(Running { process, child: Some(child), since, speaks: false, busy: true });
        match self.ready(since, None, mark).await? {
            Ready::Said(_) => info!(proxy = self.name, pid = process.pid, "the proxy is ready"),
            Ready::Seen => {
                info!(proxy = self.name, pid = process.pid, "the proxy runs; it does not say when it is ready")
            }
        }
        Ok(())
    }

    async fn signal(&mut self) -> Result<(), Failure> {
        let mark = self.lines.as_ref().map_or(0, Lines::count);
        let running = self.running.as_ref().context("the proxy does not run")?;
        let (process, busy, since) = (running.process, running.busy, running.since);
        if busy {
            // An earlier signal is not confirmed yet; one sent now might be lost.
            self.ready(since, None, mark).await?;
        }
        while self.notify.as_ref().is_some_and(|notify| notify.try_receive().is_some()) {}
        let workers = Workers::of(process);
        let mark = self.lines.as_ref().map_or(0, Lines::count);
        process.signal(self.signal)?;
        if let Some(running) = &mut self.running {
            running.busy = running.speaks;
        }
        match self.ready(Instant::now(), Some(&workers), mark).await? {
            Ready::Said(message) if message.tells_failure() || !workers.renewed() => Err(self.refusal(mark).await),
            _ => Ok(()),
        }
    }

    /// Waits until the process says that it is ready or, when it does not speak, can be seen to be; `workers` is what
    /// it had before a signal, and none after a start.
    async fn ready(&mut self, since: Instant, workers: Option<&Workers>, mark: u64) -> Result<Ready, Failure> {
        let deadline = Instant::now() + self.limit;
        let (mut asked, mut resent, mut reloading) = (Instant::now(), false, false);
        loop {
            let (Some(notify), Some(running)) = (&self.notify, &mut self.running) else {
                return Err(anyhow!("the proxy does not run").into());
            };
            let process = running.process;
            tokio::select! {
                biased;
                message = notify.receive() => {
                    running.hear(&message);
                    reloading |= message.reloading;
                    if message.ready && resent {
                        // The first signal may have been late rather than lost: wait out a second reload.
                        (resent, asked) = (false, Instant::now());
                        if let Ok(next) = timeout(LOST, notify.receive()).await {
                            running.hear(&next);
                            if !next.ready { continue; }
                        }
                    }
                    if message.ready {
                        return Ok(Ready::Said(message));
                    }
                }
                ended = ended(running) => return Err(self.lost(ended, mark).await.into()),
                () = sleep(LOOK) => {
                    if !running.speaks && seen(process, since, workers) {
                        running.busy = false;
                        return Ok(Ready::Seen);
                    }
                    if running.speaks && workers.is_some() && !reloading && asked.elapsed() >= LOST {
                        warn!(proxy = self.name, signal = %self.signal, "nothing answered the signal, it is sent again");
                        process.signal(self.signal)?;
                        (asked, resent) = (Instant::now(), true);
                    }
                }
                () = sleep_until(deadline) => return Err(self.late(process, workers)),
            }
        }
    }

    fn late(&self, process: Process, workers: Option<&Workers>) -> Failure {
        let speaks = self.running.as_ref().is_some_and(|running| running.speaks);
        match workers {
            Some(workers) if !speaks => workers.not_renewed(self.limit),
            None if !speaks && process.renews_workers() => anyhow!(
                "process {} has no worker process {:?} after its start; run HAProxy with -Ws, nginx with its master process",
                process.pid,
                self.limit
            )
            .into(),
            _ => anyhow!("process {} did not say within {:?} that it is ready", process.pid, self.limit).into(),
        }
    }

    async fn refusal(&self, mark: u64) -> Failure {
        let said = self.said(mark, |line| line.contains("[ALERT]") || line.contains("[emerg]")).await;
        Failure {
            refused: true,
            error: anyhow!("the proxy refused the new files and goes on with the old ones: {said}"),
        }
    }

    /// Forgets a process that ended, and ends what it left behind, which would keep its ports.
    fn clear(&mut self) {
        if let Some(running) = self.running.take() {
            process::kill_group(running.process.pid);
        }
        self.forget();
    }

    async fn lost(&mut self, how: String, mark: u64) -> anyhow::Error {
        self.clear();
        anyhow!("the proxy ended: {how}; it said: {}", self.said(mark, |_| true).await)
    }

    async fn said(&self, mark: u64, which: impl Fn(&str) -> bool) -> String {
        let lines = match &self.lines {
            Some(lines) => lines.after(mark).await,
            None => Vec::new(),
        };
        let chosen: Vec<_> = lines.into_iter().filter(|line| which(line)).collect();
        if chosen.is_empty() { "nothing".to_owned() } else { chosen.join(" | ") }
    }

    fn forget(&self) {
        if let Err(error) = record::remove(&self.record) {
            warn!(proxy = self.name, path = %self.record.display(), %error, "the pid file stays behind");
        }
    }

    async fn stop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let process = running.process;
        if let Err(error) = process.signal(Signal::Term) {
            warn!(proxy = self.name, error = %format_args!("{error:#}"), "the proxy could not be asked to end");
        }
        match timeout(STOP, ended(&mut running)).await {
            Ok(how) => info!(proxy = self.name, pid = process.pid, how, "the proxy has ended"),
            Err(_) => {
                warn!(proxy = self.name, pid = process.pid, "the proxy did not end within {STOP:?} and is killed")
            }
        }
        process::kill_group(process.pid);
        if timeout(STOP, ended(&mut running)).await.is_err() {
            warn!(proxy = self.name, pid = process.pid, "the proxy cannot be killed");
        }
        self.forget();
    }
}

/// Waits until the process ends, and says how.
async fn ended(running: &mut Running) -> String {
    match &mut running.child {
        Some(child) => child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string()),
        None => {
            running.process.ended().await;
            "how is not known of a proxy that was adopted".to_owned()
        }
    }
}

/// Whether a process that does not speak has come as far as can be told.
fn seen(process: Process, since: Instant, workers: Option<&Workers>) -> bool {
    match workers {
        Some(workers) if workers.tell() => workers.renewed(),
        Some(_) => since.elapsed() >= SETTLED,
        None => since.elapsed() >= SILENT && (!process.renews_workers() || !process.children().is_empty()),
    }
}

#[async_trait::async_trait]
impl Reloader for Supervisor {
    async fn open(&mut self) {
        if let Err(error) = self.bind() {
            warn!(proxy = self.name, error = %format_args!("{error:#}"), "trying again with the first reload");
        }
        self.adopt().await;
    }

    async fn reload(&mut self) -> Result<(), Failure> {
        self.bind()?;
        if self.running.is_some() { self.signal().await } else { self.start().await }
    }

    async fn ended(&mut self) -> Ended {
        while self.gone.is_none() {
            let (Some(notify), Some(running)) = (&self.notify, &mut self.running) else {
                return std::future::pending().await;
            };
            tokio::select! {
                how = ended(running) => {
                    self.gone = Some((how, running.since.elapsed()));
                    self.clear();
                }
                // Nobody asked, but a full socket would stop the process.
                message = notify.receive() => running.hear(&message),
            }
        }
        let said = self.said(0, |_| true).await;
        let (how, ran) = self.gone.take().unwrap_or_default();
        Ended { text: format!("the proxy ended: {how}; it said last: {said}"), ran }
    }

    fn running(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.process.pid)
    }

    async fn close(&mut self, stop: bool) {
        if !stop {
            return;
        }
        self.stop().await;
        if let Some(notify) = self.notify.take() {
            notify.remove();
        }
        if let Some(lines) = self.lines.take() {
            lines.remove();
        }
    }
}
