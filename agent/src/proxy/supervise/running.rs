//! A supervised process, and when it counts as started or reloaded.

use std::time::Duration;

use tokio::process::Child;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;

use crate::proxy::Signal;
use crate::proxy::methods::{LOOK, Workers};
use crate::proxy::notify::{Message, NotifySocket};
use crate::proxy::process::Process;

/// A process that said nothing for this long after its start will not say anything later.
const SILENT: Duration = Duration::from_secs(2);
/// A process without workers that did not end for this long after a signal has taken it.
const SETTLED: Duration = Duration::from_millis(200);
/// A signal that nothing answers for this long was lost; the master of `HAProxy` answers within milliseconds, before it
/// reads its files. Longer than a container's last seconds would be too long: its requests fail meanwhile.
const LOST: Duration = Duration::from_millis(300);

/// The process.
pub(super) struct Running {
    pub(super) process: Process,
    /// None of one that an earlier agent started.
    child: Option<Child>,
    since: Instant,
    /// It has used the notify socket.
    speaks: bool,
    /// It was started or signalled, and has not said yet that it is ready.
    busy: bool,
}

/// How a process was found to be ready.
pub(super) enum Ready {
    /// It said so, or said that it went on with what it had.
    Said {
        /// It said that it failed.
        failed: bool,
    },
    /// It does not speak, and is there.
    Seen,
}

/// Why a process is not ready.
pub(super) enum Unready {
    /// It ended, and how.
    Ended(String),
    /// The time is over.
    Late,
    /// The signal could not be sent again.
    NotSent(anyhow::Error),
}

/// What a process that waits to be ready did next.
enum Next {
    Message(Message),
    Look,
}

impl Running {
    /// A process that was just started, or one that an earlier agent started.
    pub(super) fn new(process: Process, child: Option<Child>) -> Self {
        Running { process, busy: child.is_some(), child, since: Instant::now(), speaks: false }
    }

    /// How long it has run for this agent.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    pub(super) fn speaks(&self) -> bool {
        self.speaks
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    /// Takes note of a message; tells whether it is its own, which one that names another process is not.
    pub(super) fn hear(&mut self, message: &Message) -> bool {
        let own = message.main_pid.is_none_or(|pid| pid == self.process.pid);
        if own {
            self.speaks = true;
            self.busy = !message.ready && (self.busy || message.reloading);
        }
        own
    }

    /// Waits until it ends, and says how.
    pub(super) async fn ended(&mut self) -> String {
        if let Some(child) = &mut self.child {
            return child.wait().await.map_or_else(|error| error.to_string(), |status| status.to_string());
        }
        self.process.ended().await;
        "unknown, it was adopted".to_owned()
    }

    /// Waits until it is ready after its start, or after an earlier signal.
    pub(super) async fn started(&mut self, notify: &NotifySocket, limit: Duration) -> Result<Ready, Unready> {
        let deadline = Instant::now() + limit;
        loop {
            match self.next(notify, deadline).await? {
                Next::Message(message) if message.ready => return Ok(Ready::Said { failed: message.tells_failure() }),
                Next::Look if !self.speaks && self.age() >= SILENT && self.has_workers() => {
                    self.busy = false;
                    return Ok(Ready::Seen);
                }
                _ => {}
            }
        }
    }

    /// Waits until it is ready after a signal that was just sent; `workers` is what it had before.
    pub(super) async fn reloaded(
        &mut self,
        notify: &NotifySocket,
        limit: Duration,
        workers: &Workers,
        signal: Signal,
    ) -> Result<Ready, Unready> {
        let sent = Instant::now();
        let deadline = sent + limit;
        let (mut asked, mut reloading, mut resent) = (sent, false, false);
        self.busy = self.speaks;
        loop {
            match self.next(notify, deadline).await? {
                Next::Message(message) => {
                    reloading |= message.reloading;
                    if !message.ready {
                        continue;
                    }
                    // The first signal may have been late rather than lost: then a second reload follows.
                    if std::mem::take(&mut resent)
                        && let Ok(next) = timeout(LOST, notify.receive()).await
                        && self.hear(&next)
                        && !next.ready
                    {
                        continue;
                    }
                    return Ok(Ready::Said { failed: message.tells_failure() });
                }
                Next::Look if !self.speaks => {
                    let taken = if workers.tell() { workers.renewed() } else { sent.elapsed() >= SETTLED };
                    if taken {
                        return Ok(Ready::Seen);
                    }
                }
                Next::Look if !reloading && asked.elapsed() >= LOST => {
                    warn!(pid = self.process.pid, %signal, "no answer to the signal; sending it again");
                    self.process.signal(signal).map_err(Unready::NotSent)?;
                    (asked, resent) = (Instant::now(), true);
                }
                Next::Look => {}
            }
        }
    }

    async fn next(&mut self, notify: &NotifySocket, deadline: Instant) -> Result<Next, Unready> {
        tokio::select! {
            biased;
            message = notify.receive() => {
                let own = self.hear(&message);
                Ok(if own { Next::Message(message) } else { Next::Look })
            }
            how = self.ended() => Err(Unready::Ended(how)),
            () = sleep_until(deadline) => Err(Unready::Late),
            () = sleep(LOOK) => Ok(Next::Look),
        }
    }

    /// Whether a proxy that is known to have workers has them; others need none.
    fn has_workers(&self) -> bool {
        !self.process.renews_workers() || !self.process.children().is_empty()
    }
}
