//! Runs the proxy as a child that outlives a killed agent, and reloads it by a signal.
//!
//! A reload is done when the process says `READY=1` after it, does not say that it failed, and, for proxies
//! that renew their workers, has a new one. The workers matter because `HAProxy` 2.6 says `RELOADING=1` (twice)
//! and `READY=1` also when it refused its files; 3.0 adds `STATUS=Reload failed!` then. No signal is sent before
//! the one before it is confirmed, because a second one may be lost; one that nothing answers is sent again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::time::timeout;
use tracing::{info, warn};

use super::Signal;
use super::command;
use super::lines::Lines;
use super::methods::Workers;
use super::notify::NotifySocket;
use super::process::{self, Process};
use super::record::{self, Record};
use super::reload::{Ended, Failure, Reloader};
use crate::dialect::is_fault;

mod running;

use running::{Ready, Running, Unready};

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
    /// It was adopted, and may still be busy with what an earlier agent asked of it.
    adopted: bool,
    /// How a process ended, and how long it ran, until that was told.
    gone: Option<(String, Duration)>,
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
            adopted: false,
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
                    warn!(proxy = self.name, path = %self.pipe.display(), %error, "cannot create the output pipe; the proxy writes to the agent's output");
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
        self.running = Some(Running::new(process, None));
        self.adopted = true;
        if record.command == self.command {
            info!(proxy = self.name, pid = process.pid, "adopted the running proxy");
        } else {
            info!(proxy = self.name, pid = process.pid, "stopping a proxy that was started with another command");
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
        let process =
            child.id().and_then(Process::spawned).context("the process that was started is not to be seen in /proc")?;
        if let Err(error) = Record::of(process, &self.command).write(&self.record) {
            warn!(proxy = self.name, path = %self.record.display(), %error, "cannot write the pid file; the next agent will not find the proxy");
        }
        self.running = Some(Running::new(process, Some(child)));
        match self.ready(None, mark).await? {
            // HAProxy 3.4 says that it failed, and ends.
            Ready::Said { failed: true } => {
                let running = self.running.as_mut().context("the proxy does not run")?;
                let how = timeout(STOP, running.ended()).await.unwrap_or_else(|_| "it failed and went on".to_owned());
                return Err(self.lost(how, mark).await.into());
            }
            Ready::Said { .. } => info!(proxy = self.name, pid = process.pid, "proxy ready"),
            Ready::Seen => {
                info!(proxy = self.name, pid = process.pid, "proxy started; it does not report readiness");
            }
        }
        Ok(())
    }

    async fn signal(&mut self) -> Result<(), Failure> {
        let mark = self.lines.as_ref().map_or(0, Lines::count);
        let running = self.running.as_ref().context("the proxy does not run")?;
        let process = running.process;
        if running.is_busy() {
            // An earlier signal is not confirmed yet; one sent now might be lost.
            self.ready(None, mark).await?;
        }
        while self.notify.as_ref().is_some_and(|notify| notify.try_receive().is_some()) {}
        let workers = Workers::of(process);
        let mark = self.lines.as_ref().map_or(0, Lines::count);
        process.signal(self.signal)?;
        match self.ready(Some(&workers), mark).await? {
            Ready::Said { failed } if failed || !workers.renewed() => Err(self.refusal(mark).await),
            _ => Ok(()),
        }
    }

    /// Waits until the process is ready after its start or, when there are `workers` to compare with, its signal.
    async fn ready(&mut self, workers: Option<&Workers>, mark: u64) -> Result<Ready, Failure> {
        let (Some(notify), Some(running)) = (&self.notify, &mut self.running) else {
            return Err(anyhow!("the proxy does not run").into());
        };
        let waited = match workers {
            None => running.started(notify, self.limit).await,
            Some(workers) => running.reloaded(notify, self.limit, workers, self.signal).await,
        };
        let process = running.process;
        match waited {
            Ok(ready) => Ok(ready),
            Err(Unready::Ended(how)) => Err(self.lost(how, mark).await.into()),
            Err(Unready::Late) => Err(self.late(process, workers, mark).await),
            Err(Unready::NotSent(error)) => Err(error.into()),
        }
    }

    async fn late(&self, process: Process, workers: Option<&Workers>, mark: u64) -> Failure {
        let speaks = self.running.as_ref().is_some_and(Running::speaks);
        let failure = match workers {
            Some(workers) if !speaks => workers.not_renewed(self.limit),
            None if !speaks && process.renews_workers() => anyhow!(
                "process {} has no worker process {:?} after its start; run HAProxy with -Ws, nginx with its master process",
                process.pid,
                self.limit
            )
            .into(),
            _ => anyhow!("process {} did not say within {:?} that it is ready", process.pid, self.limit).into(),
        };
        let said = self.said(mark, is_fault).await;
        Failure { error: anyhow!("{}; it said: {said}", failure.error), ..failure }
    }

    async fn refusal(&self, mark: u64) -> Failure {
        let said = self.said(mark, is_fault).await;
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
            warn!(proxy = self.name, path = %self.record.display(), %error, "cannot remove the pid file");
        }
    }

    async fn stop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        let process = running.process;
        if let Err(error) = process.signal(Signal::Term) {
            warn!(proxy = self.name, error = %format_args!("{error:#}"), "cannot signal the proxy to stop");
        }
        match timeout(STOP, running.ended()).await {
            Ok(how) => info!(proxy = self.name, pid = process.pid, how, "proxy stopped"),
            Err(_) => {
                warn!(proxy = self.name, pid = process.pid, "proxy did not stop in time; killing it");
            }
        }
        process::kill_group(process.pid);
        if timeout(STOP, running.ended()).await.is_err() {
            warn!(proxy = self.name, pid = process.pid, "cannot kill the proxy");
        }
        self.forget();
    }
}

#[async_trait::async_trait]
impl Reloader for Supervisor {
    async fn open(&mut self) {
        if let Err(error) = self.bind() {
            warn!(proxy = self.name, error = %format_args!("{error:#}"), "cannot bind the notify socket; the first reload retries");
        }
        self.adopt().await;
    }

    fn starts(&self) -> bool {
        true
    }

    async fn reload(&mut self) -> Result<(), Failure> {
        self.bind()?;
        let adopted = std::mem::take(&mut self.adopted);
        if self.running.is_none() {
            return self.start().await;
        }
        // What it confirms first may be an earlier reload, which read the files before they were these.
        if adopted {
            self.signal().await?;
        }
        self.signal().await
    }

    async fn ended(&mut self) -> Ended {
        while self.gone.is_none() {
            let (Some(notify), Some(running)) = (&self.notify, &mut self.running) else {
                return std::future::pending().await;
            };
            tokio::select! {
                how = running.ended() => {
                    self.gone = Some((how, running.age()));
                    self.clear();
                }
                // Nobody asked, but a full socket would stop the process.
                message = notify.receive() => { running.hear(&message); },
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
