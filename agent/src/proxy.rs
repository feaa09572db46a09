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

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, OwnedMutexGuard, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

mod bind;
mod check;
mod command;
mod lines;
mod listener;
mod live;
mod master;
mod methods;
mod notify;
mod own;
mod process;
mod record;
mod reload;
mod signal;
mod supervise;

pub use bind::{Asked, Bind, asked};
pub use check::{Place, Verdict};
pub use live::Socket;
pub use methods::Call;
pub use reload::Failure;
pub use signal::Signal;

use own::Own;

/// How to check and reload a proxy.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// The output's directory; `{dir}` in a reload.
    pub dir: PathBuf,
    /// Command that ends with 0 when the files in `{dir}` are valid; nothing is checked without one.
    pub check: Option<Vec<String>>,
    /// Whether addresses that the files newly bind are tried first; not for a proxy with a network of its own.
    pub bind_check: bool,
    /// How to reload; without one the files are all there is.
    pub reload: Option<Reload>,
    /// Longest time that one check, and one reload, may take.
    pub timeout: Duration,
    /// Least time between the beginnings of two reloads. It defers and never drops.
    pub min_interval: Duration,
    /// Name of the output, for logs and for the agent's own files in the directory.
    pub name: String,
}

/// How to make a proxy take up its files.
#[derive(Clone, Debug)]
pub enum Reload {
    /// Runs a command, an argument list in which `{dir}` is the output's directory. It ends with 0 when the proxy
    /// reloaded.
    Command(Vec<String>),
    /// Sends a signal to a process.
    PidFile {
        /// File whose first line is the pid.
        path: PathBuf,
        /// Signal that makes the process reload; USR2 is not sent to an nginx, which would start a second one.
        signal: Signal,
    },
    /// Gives the command `reload` at the socket of `HAProxy`'s master process, `haproxy -W -S SOCKET`.
    MasterSocket(PathBuf),
    /// Calls what reaches the proxy.
    Call(Call),
    /// Runs the proxy itself, and reloads it with a signal.
    ///
    /// It is started with the first request, when the files are there, and again with a growing pause when it ends
    /// by itself. It must stay in the foreground and keep its pid: `haproxy -Ws -f {dir}/haproxy.cfg`. With `-Ws`
    /// it tells on the notify socket when it is ready; without (`-W`) its worker processes tell, a little later.
    ///
    /// It outlives an agent that is killed, so that routes stay; the next agent adopts it. Three hidden files in the
    /// output's directory serve this: `.waypost-NAME.pid` (which process, and since when), `.waypost-NAME.notify`
    /// (the socket it reports to) and `.waypost-NAME.output` (the pipe it writes its lines to). A process whose
    /// command is not the configured one any more is stopped instead. Under systemd this needs
    /// `KillMode=process`, because systemd otherwise ends the whole group with the agent.
    Supervise {
        /// Argument list in which `{dir}` is the output's directory.
        command: Vec<String>,
        /// Signal that makes the process reload.
        signal: Signal,
    },
}

/// How reloading stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadStatus {
    /// Requests so far.
    pub wanted: u64,
    /// The last request whose files the proxy is known to run; all is done when it equals `wanted`.
    pub done: u64,
    /// Reloads and starts that were begun.
    pub begun: u64,
    /// The number of the files that the proxy took up last; see [`Proxy::exchange`].
    pub loaded: Option<u64>,
    /// What the last reload, or the end of a supervised proxy, failed with; none after a success.
    pub last_error: Option<String>,
    /// Reloads that succeeded, starts included.
    pub reloads: u64,
    /// Pid of the supervised proxy while it runs.
    pub running: Option<u32>,
    /// A proxy that is supervised does not run, so nothing of ours listens anywhere.
    pub is_down: bool,
}

/// The proxy of one output.
#[derive(Debug)]
pub struct Proxy {
    options: ProxyOptions,
    wanted: watch::Sender<u64>,
    status: Arc<watch::Sender<ReloadStatus>>,
    stop: CancellationToken,
    shutdown: watch::Sender<bool>,
    files: Arc<Mutex<u64>>,
    start: Arc<Notify>,
    task: std::sync::Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    /// Starts the task that reloads, on the current runtime; a supervised proxy that an earlier agent left is
    /// adopted. When `stop` fires the task ends and stops a supervised proxy.
    #[expect(clippy::needless_pass_by_value, reason = "every task is given its token last, and by value")]
    pub fn new(options: ProxyOptions, stop: CancellationToken) -> Self {
        let (wanted, requests) = watch::channel(0);
        let (shutdown, said) = watch::channel(true);
        let status = Arc::new(watch::channel(ReloadStatus::default()).0);
        let line = reload::Line {
            name: options.name.clone(),
            min_interval: options.min_interval,
            wanted: requests,
            status: status.clone(),
            stop: stop.child_token(),
            shutdown: said,
            files: Arc::default(),
            start: Arc::default(),
        };
        let (files, start) = (Arc::clone(&line.files), Arc::clone(&line.start));
        let stop = line.stop.clone();
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
        let task = std::sync::Mutex::new(Some(task));
        Proxy { options, wanted, status, stop, shutdown, files, start, task }
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
        let places = tokio::task::spawn_blocking(move || bind::refused(&new, |pid| own.is(pid))).await?;
        if places.is_empty() {
            return Ok(Verdict::Valid);
        }
        let text = places.iter().map(|place| place.text.as_str()).collect::<Vec<_>>().join("; ");
        Ok(Verdict::Invalid { text, places, overdue: false })
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
        self.end(true).await;
    }

    /// Ends the task; a supervised proxy goes on and is adopted by the next agent.
    pub async fn leave(&self) {
        self.end(false).await;
    }

    async fn end(&self, stop: bool) {
        self.shutdown.send_replace(stop);
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(task) = task else { return };
        if let Err(error) = task.await {
            tracing::error!(proxy = self.options.name, %error, "the reload task ended unexpectedly");
        }
    }
}
