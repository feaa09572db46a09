//! The socket in the state directory at which a running agent answers.
//!
//! A line `report` is answered with one line of JSON; `watch` with one now and one after every change.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Report, Status};

/// Least time between two lines of `watch`.
const PACE: Duration = Duration::from_millis(100);
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers at `path` until `stop` fires.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve(path: &Path, status: Status, stop: CancellationToken) -> Result<()> {
    let at = || format!("stats socket {}", path.display());
    // A socket of an agent that was killed; a living one holds the lock of the state directory.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(at),
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(at)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).with_context(at)?;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => {
                let stream = match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        debug!(%error, "no control connection taken");
                        tokio::time::sleep(PACE).await;
                        continue;
                    }
                };
                let (status, stop) = (status.clone(), stop.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        ended = answer(stream, &status) => if let Err(error) = ended {
                            debug!(error = %format_args!("{error:#}"), "control connection ended");
                        }
                    }
                });
            }
        }
    }
    // Whoever removed it before did no harm.
    if let Err(error) = std::fs::remove_file(path) {
        debug!(%error, "stats socket not removed");
    }
    Ok(())
}

async fn answer(mut stream: UnixStream, status: &Status) -> Result<()> {
    let (read, mut write) = stream.split();
    let mut words = BufReader::new(tokio::io::AsyncReadExt::take(read, 64)).lines();
    let word = tokio::time::timeout(PATIENCE, words.next_line()).await??;
    let mut changes = status.changes();
    loop {
        changes.borrow_and_update();
        let mut line = serde_json::to_vec(&status.report())?;
        line.push(b'\n');
        write.write_all(&line).await?;
        match word.as_deref() {
            Some("watch") => changes.changed().await?,
            Some("report") => return Ok(()),
            other => bail!("found {other:?}, expected report or watch"),
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Reports of the agent that answers at `path`.
pub struct Reports(Lines<BufReader<UnixStream>>);

/// Asks a running agent; with `watch` it goes on telling.
///
/// # Errors
/// When none answers.
pub async fn ask(path: &Path, watch: bool) -> Result<Reports> {
    let at = || format!("no agent answers at {}", path.display());
    let mut stream = UnixStream::connect(path).await.with_context(at)?;
    stream.write_all(if watch { b"watch\n" } else { b"report\n" }).await.with_context(at)?;
    Ok(Reports(BufReader::new(stream).lines()))
}

impl Reports {
    /// The next report; `None` when the agent ended.
    ///
    /// # Errors
    /// When what came is not a report.
    pub async fn next(&mut self) -> Result<Option<Report>> {
        let Some(line) = self.0.next_line().await.context("the agent's answer broke off")? else { return Ok(None) };
        serde_json::from_str(&line).map(Some).context("the agent's answer is not a report; is it of another version?")
    }
}
