//! The task that reloads the simulated proxy, as `proxy::reload` does it: requests merge, what failed is tried again,
//! and no files are exchanged meanwhile.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use waypost::backoff::{Backoff, sleep_until};
use waypost::proxy::ReloadStatus;

use crate::world::{Mode, Shared};

/// Longest time that a reload may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Least time between two reloads.
const INTERVAL: Duration = Duration::from_millis(200);
/// Least pause after the proxy itself refused its files.
const REFUSED: Duration = Duration::from_secs(5);

pub(crate) struct Reloads {
    pub(crate) world: Shared,
    pub(crate) wanted: watch::Receiver<u64>,
    pub(crate) status: Arc<watch::Sender<ReloadStatus>>,
    pub(crate) files: Arc<Mutex<u64>>,
    pub(crate) stop: CancellationToken,
}

/// Reloads when it is asked to, until it is stopped.
pub(crate) async fn run(mut line: Reloads) {
    let (mut done, mut tried) = (0, 0);
    let mut is_down = line.world.world().process.is_none() && !line.world.world().files.is_empty();
    let mut retry = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let mut restart = retry.clone();
    let (mut paced, mut again_at, mut not_before): (Option<Instant>, Option<Instant>, Option<Instant>) =
        (None, None, None);
    let ended = Arc::clone(&line.world.ended);
    loop {
        let wanted = *line.wanted.borrow_and_update();
        let again = again_at.filter(|_| wanted == tried);
        let is_due = wanted != done || is_down;
        let due = [Some(Instant::now()), paced, again, not_before].into_iter().flatten().max().filter(|_| is_due);
        tokio::select! {
            biased;
            () = line.stop.cancelled() => break,
            // A reload that was under way may have started it again.
            () = ended.notified() => {
                if line.world.world().process.is_some() {
                    continue;
                }
                is_down = true;
                not_before = Some(Instant::now() + restart.next_delay());
                line.status.send_modify(|status| status.last_error = Some("it ended".to_owned()));
            }
            () = sleep_until(due) => {
                (tried, paced) = (wanted, Some(Instant::now() + INTERVAL));
                let number = tokio::select! {
                    biased;
                    () = line.stop.cancelled() => break,
                    result = line.take_up() => result,
                };
                match number {
                    Ok(number) => {
                        (done, is_down, again_at, not_before) = (tried, false, None, None);
                        retry.reset();
                        line.status.send_modify(|status| {
                            (status.loaded, status.done, status.last_error) = (Some(number), done, None);
                            status.reloads += 1;
                        });
                    }
                    Err(is_refused) => {
                        // It is tried again until it is done, whatever the files have become.
                        line.world.world().is_excused = true;
                        let least = if is_refused { REFUSED } else { Duration::ZERO };
                        let pause = retry.next_delay().max(least);
                        (not_before, again_at) = (Some(Instant::now() + least), Some(Instant::now() + pause));
                        line.status.send_modify(|status| status.last_error = Some("it failed".to_owned()));
                    }
                }
            }
            changed = line.wanted.changed() => if changed.is_err() { break },
        }
    }
}

impl Reloads {
    /// The number of the files that were taken up, or whether the proxy refused them.
    async fn take_up(&self) -> Result<u64, bool> {
        let number = self.files.lock().await;
        self.status.send_modify(|status| status.begun += 1);
        let mode = self.world.world().mode();
        sleep(Duration::from_millis(20) + self.world.some(200)).await;
        match mode {
            Some(Mode::Refused) => return Err(true),
            Some(Mode::Hanging) => {
                sleep(LIMIT).await;
                return Err(false);
            }
            Some(Mode::Lost) if self.world.world().process.is_some() => {
                // Whatever it was for may be over when it is tried again.
                self.world.world().is_excused = true;
                return Ok(*number);
            }
            Some(Mode::Slow) => sleep(self.world.some(5000)).await,
            _ => {}
        }
        // The new process may answer before the end of the reload is known, and the old one after it.
        let until = self.world.some(100);
        let lingers =
            if self.world.some(1).is_zero() { until + self.world.some(crate::OLD_ANSWERS) } else { until / 2 };
        let loaded = self.world.world().load(lingers);
        if loaded.is_err() {
            self.world.world().note(|| "the reload failed".to_owned());
            return Err(true);
        }
        sleep(until).await;
        if mode == Some(Mode::Unreported) {
            self.world.world().is_excused = true;
            return Err(false);
        }
        self.world.world().note(|| format!("files {} are taken up", *number));
        Ok(*number)
    }
}
