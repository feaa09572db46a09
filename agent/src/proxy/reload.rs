//! When to reload: requests merge, reloads never overlap, and what failed is tried again until it is done.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::backoff::{Backoff, sleep_until};
use crate::shutdown::Shutdown;

#[cfg(test)]
mod tests;

/// Bounds of the pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Least pause after the proxy itself refused its files. An address that cannot be bound costs `HAProxy` two
/// seconds in which it accepts nothing, so it must not be asked again at once, not even for newer files.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// A proxy that ran this long did not end because of how it was started.
const STEADY: Duration = Duration::from_secs(30);

/// How reloading stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadStatus {
    /// Requests so far.
    pub wanted: u64,
    /// The last request whose files the proxy is known to run; all is done when it equals `wanted`.
    pub done: u64,
    /// Reloads and starts that were begun.
    pub begun: u64,
    /// The number of the files that the proxy took up last; see `Proxy::exchange`.
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

/// Why a reload failed.
#[derive(Debug)]
pub struct Failure {
    /// The proxy was reached, looked at its files and stayed with what it had, so it is not asked again at once.
    pub refused: bool,
    /// What was found, and what to do.
    pub error: anyhow::Error,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure { refused: false, error }
    }
}

/// A proxy that ended by itself.
#[derive(Debug)]
pub(super) struct Ended {
    /// How it ended and what it said last.
    pub(super) text: String,
    /// How long it ran.
    pub(super) ran: Duration,
}

/// A way to make a proxy take up its files.
#[async_trait::async_trait]
pub(super) trait Reloader: Send + 'static {
    /// Before anything else; finds a proxy that runs already.
    async fn open(&mut self) {}
    /// Makes the proxy take up its files, and comes back when it has. May be dropped at any time.
    async fn reload(&mut self) -> Result<(), Failure>;
    /// Comes back when a proxy of ours ended; never when there is none. May be dropped at any time.
    async fn ended(&mut self) -> Ended {
        std::future::pending().await
    }
    /// Whether it starts the proxy when it does not run.
    fn starts(&self) -> bool {
        false
    }
    /// The proxy of ours.
    fn running(&self) -> Option<u32> {
        None
    }
    /// The last call: stops a proxy of ours, or leaves it to a later agent.
    async fn close(&mut self, _stop: bool) {}
}

/// What is due, and when.
#[derive(Debug)]
struct Turns {
    min_interval: Duration,
    retry: Backoff,
    restart: Backoff,
    /// The request that was last carried out.
    done: u64,
    /// The request that was last tried.
    tried: u64,
    /// The proxy ended and has to be started again.
    down: bool,
    /// When the last reload began.
    began: Option<Instant>,
    /// When to try again what failed; a newer request does not wait for it.
    again_at: Option<Instant>,
    /// Nothing is tried before.
    not_before: Option<Instant>,
}

impl Turns {
    fn new(min_interval: Duration) -> Self {
        let backoff = Backoff::new(RETRY.0, RETRY.1);
        Turns {
            min_interval,
            retry: backoff.clone(),
            restart: backoff,
            done: 0,
            tried: 0,
            down: false,
            began: None,
            again_at: None,
            not_before: None,
        }
    }

    /// When the next reload may begin; none when nothing is to do.
    fn due(&self, wanted: u64, now: Instant) -> Option<Instant> {
        if wanted == self.done && !self.down {
            return None;
        }
        let paced = self.began.map(|began| began + self.min_interval);
        let again = self.again_at.filter(|_| wanted == self.tried);
        Some([Some(now), paced, again, self.not_before].into_iter().flatten().max().unwrap_or(now))
    }

    fn begin(&mut self, wanted: u64, now: Instant) {
        self.tried = wanted;
        self.began = Some(now);
    }

    fn succeeded(&mut self) {
        self.done = self.tried;
        self.down = false;
        self.again_at = None;
        self.not_before = None;
        self.retry.reset();
    }

    /// Gives the pause until the next try.
    fn failed(&mut self, refused: bool, now: Instant) -> Duration {
        let least = if refused { REFUSED_PAUSE } else { Duration::ZERO };
        let pause = self.retry.next_delay().max(least);
        self.not_before = Some(now + least);
        self.again_at = Some(now + pause);
        pause
    }

    /// Gives the pause until the proxy is started again.
    fn ended(&mut self, ran: Duration, now: Instant) -> Duration {
        if ran >= STEADY {
            self.restart.reset();
        }
        self.down = true;
        let pause = self.restart.next_delay();
        self.not_before = Some(now + pause);
        pause
    }
}

/// What the task shares with its owner.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) min_interval: Duration,
    /// Counts requests.
    pub(super) wanted: watch::Receiver<u64>,
    pub(super) status: Arc<watch::Sender<ReloadStatus>>,
    /// Ends the task, and says whether a proxy of ours goes on.
    pub(super) shutdown: Shutdown,
    /// The number of the files that are in place; locked while they are exchanged, and while a proxy takes them up.
    pub(super) files: Arc<Mutex<u64>>,
    /// A proxy of ours that does not run is to be started.
    pub(super) start: Arc<Notify>,
}

/// Reloads when it is asked to, until it is stopped.
pub(super) async fn run(mut reloader: impl Reloader, mut line: Line) {
    let mut turns = Turns::new(line.min_interval);
    reloader.open().await;
    loop {
        line.publish(reloader.running(), reloader.starts());
        let wanted = *line.wanted.borrow_and_update();
        let due = turns.due(wanted, Instant::now());
        tokio::select! {
            biased;
            () = line.shutdown.requested() => break,
            ended = reloader.ended() => line.restart(&mut turns, &ended),
            () = sleep_until(due) => {
                turns.begin(wanted, Instant::now());
                tokio::select! {
                    biased;
                    () = line.shutdown.requested() => break,
                    (number, result) = line.take_up(&mut reloader) => line.settle(&mut turns, number, result),
                }
            }
            () = line.start.notified() => turns.down |= reloader.starts() && reloader.running().is_none(),
            changed = line.wanted.changed() => if changed.is_err() { break },
        }
    }
    reloader.close(!line.shutdown.keeps_proxy(&line.name)).await;
    line.publish(None, false);
}

impl Line {
    fn publish(&self, running: Option<u32>, is_supervised: bool) {
        let is_down = is_supervised && running.is_none();
        self.status.send_if_modified(|status| {
            let before = (status.running, status.is_down);
            (status.running, status.is_down) = (running, is_down);
            before != (running, is_down)
        });
    }

    /// No file is exchanged meanwhile; gives the number of those that were there.
    async fn take_up(&self, reloader: &mut impl Reloader) -> (u64, Result<(), Failure>) {
        let number = self.files.lock().await;
        self.status.send_modify(|status| status.begun += 1);
        (*number, reloader.reload().await)
    }

    fn settle(&self, turns: &mut Turns, number: u64, result: Result<(), Failure>) {
        match result {
            Ok(()) => {
                turns.succeeded();
                self.status.send_modify(|status| {
                    status.loaded = Some(number);
                    status.done = turns.done;
                    status.reloads += 1;
                    status.last_error = None;
                });
                info!(proxy = self.name, request = turns.done, "proxy reloaded");
            }
            Err(Failure { refused, error }) => {
                let pause = turns.failed(refused, Instant::now());
                let error = format!("{error:#}");
                warn!(proxy = self.name, %error, retry_in = ?pause, "reload failed; the proxy keeps its configuration");
                self.status.send_modify(|status| status.last_error = Some(error));
            }
        }
    }

    fn restart(&self, turns: &mut Turns, ended: &Ended) {
        let pause = turns.ended(ended.ran, Instant::now());
        warn!(proxy = self.name, error = ended.text, restart_in = ?pause, "proxy exited; restarting it");
        self.status.send_modify(|status| status.last_error = Some(ended.text.clone()));
    }
}
