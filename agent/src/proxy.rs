//! Stage: files to a proxy that runs them. One way in: check, and a request to reload.
//!
//! A reload is carried out by a task of its own, so that nobody waits for it: requests merge while one runs,
//! reloads never overlap, and one that fails is tried again until it is done, also when no file changes
//! any more. What tells that a reload happened:
//!
//! * a command: its exit code;
//! * a pid file: the signal was delivered, and `haproxy` and `nginx` have a new worker process after it;
//! * the master socket of `HAProxy`: its answer, or its list of processes where it gives none;
//! * a container, or whatever else the agent reaches for it: what that [`Call`] returns;
//! * supervision: what the process says on its notify socket (`haproxy -Ws`), and its new worker process;
//!   see [`Reload::Supervise`].
//!
//! Processes and sockets stay in here; so does every path that begins with `.waypost-` and the output's name.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, OwnedMutexGuard, watch};
use tokio::task::JoinHandle;

use crate::shutdown::{Kept, Shutdown};

mod address;
mod bind;
mod check;
mod command;
mod lines;
mod listener;
mod live;
mod master;
mod methods;
mod notify;
mod options;
mod own;
mod process;
mod record;
mod reload;
mod supervise;

pub use address::Bind;
pub use bind::{Asked, asked};
pub use check::{Location, Verdict};
pub use live::Socket;
pub use methods::Call;
pub use options::{ProxyOptions, Reload};
pub use reload::{Failure, ReloadStatus};

pub use crate::signal::Signal;

use own::Own;

/// The proxy of one output.
#[derive(Debug)]
pub struct Proxy {
    options: ProxyOptions,
    wanted: watch::Sender<u64>,
    status: Arc<watch::Sender<ReloadStatus>>,
    shutdown: Shutdown,
    files: Arc<Mutex<u64>>,
    start: Arc<Notify>,
    task: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    /// Starts the task that reloads, on the current runtime; a supervised proxy that an earlier agent left is
    /// adopted.
    pub fn new(options: ProxyOptions) -> Self {
        let (wanted, requests) = watch::channel(0);
        let status = Arc::new(watch::channel(ReloadStatus::default()).0);
        let line = reload::Line {
            name: options.name.clone(),
            min_interval: options.min_interval,
            wanted: requests,
            status: status.clone(),
            shutdown: Shutdown::default(),
            files: Arc::default(),
            start: Arc::default(),
        };
        let (files, start) = (Arc::clone(&line.files), Arc::clone(&line.start));
        let shutdown = line.shutdown.clone();
        let (dir, limit) = (options.dir.clone(), options.timeout);
        let task = match options.reload.clone() {
            None => tokio::spawn(reload::run(methods::Nothing, line)),
            Some(Reload::Command(command)) => {
                tokio::spawn(reload::run(methods::ByCommand { command, dir, limit }, line))
            }
            Some(Reload::PidFile { path, signal }) => {
                tokio::spawn(reload::run(methods::ByPidFile { path, signal, limit }, line))
            }
            Some(Reload::MasterSocket(path)) => {
                tokio::spawn(reload::run(master::ByMasterSocket::new(path, limit), line))
            }
            Some(Reload::Call(call)) => tokio::spawn(reload::run(methods::ByCall { call, limit }, line)),
            Some(Reload::Supervise { command, signal }) => {
                let supervisor = supervise::Supervisor::new(&options.name, &dir, &command, signal, limit);
                tokio::spawn(reload::run(supervisor, line))
            }
        };
        let task = parking_lot::Mutex::new(Some(task));
        Proxy { options, wanted, status, shutdown, files, start, task }
    }

    /// Asks the proxy's own check about the files in `staged`, and whether the addresses in `new`, which the proxy does
    /// not listen on yet, can be bound. A check that takes longer than `limit` refuses them.
    ///
    /// # Errors
    /// The check could not be run: nothing is known of the files.
    pub async fn check(&self, staged: &Path, new: Vec<Asked>, limit: Option<Duration>) -> anyhow::Result<Verdict> {
        if let Some(command) = &self.options.check {
            let limit = limit.unwrap_or(self.options.timeout).min(self.options.timeout);
            let verdict = check::run(command, staged, limit).await?;
            if verdict != Verdict::Valid {
                return Ok(verdict);
            }
        }
        if !self.options.bind_check || new.is_empty() {
            return Ok(Verdict::Valid);
        }
        let own = Own::of(&self.options, self.status.borrow().running);
        let locations = tokio::task::spawn_blocking(move || bind::refused(&new, |pid| own.is(pid))).await?;
        if locations.is_empty() {
            return Ok(Verdict::Valid);
        }
        let text = locations.iter().map(|place| place.text.as_str()).collect::<Vec<_>>().join("; ");
        Ok(Verdict::Invalid { text, locations, overdue: false })
    }

    /// Keeps reloads from beginning while files are exchanged. The number is that of the files that are in place, 0 for
    /// those that were there before the agent; whoever exchanges them counts it up.
    pub async fn exchange(&self) -> OwnedMutexGuard<u64> {
        Arc::clone(&self.files).lock_owned().await
    }

    /// Starts a supervised proxy that does not run, with the files that are in place. Never blocks.
    pub fn start(&self) {
        self.start.notify_one();
    }

    /// Makes the proxy take up the files that are in place now, as soon as that may be. Never blocks.
    ///
    pub fn request_reload(&self) {
        self.status.send_modify(|status| status.wanted += 1);
        self.wanted.send_modify(|wanted| *wanted += 1);
    }

    /// Whether somebody reloads the files that are written.
    pub fn is_reloaded(&self) -> bool {
        self.options.reload.is_some()
    }

    /// Follows how reloading stands.
    pub fn status(&self) -> watch::Receiver<ReloadStatus> {
        self.status.subscribe()
    }

    /// Ends the task, and a supervised proxy with it: `TERM`, and `KILL` after ten seconds.
    pub async fn stop(&self) {
        self.shutdown.request();
        self.ended().await;
    }

    /// Ends the task; a supervised proxy goes on and is adopted by the next agent.
    pub async fn leave(&self) {
        self.shutdown.request_keeping(Kept::all());
        self.ended().await;
    }

    async fn ended(&self) {
        let task = self.task.lock().take();
        let Some(task) = task else { return };
        if let Err(error) = task.await {
            tracing::error!(proxy = self.options.name, %error, "the reload task ended unexpectedly");
        }
    }
}
