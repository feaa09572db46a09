//! Reloading `HAProxy` by the socket of its master process, which tells whether the reload succeeded.
//!
//! From 2.7 on the master answers `reload` when the new worker serves: `Success=1` or `Success=0`, and what it said
//! meanwhile. 2.6 closes the connection at once without an answer, so its list of processes is asked until its
//! number of reloads grew: it failed when that says so, or when no worker of this reload is there.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::methods::LOOK;
use super::reload::{Failure, Reloader};

/// Most bytes of an answer that are read: a start may log a line for each of many servers.
const ANSWER_LIMIT: u64 = 1 << 20;
/// Most characters of a refusal that are shown.
const SHOWN: usize = 2000;

/// The master process behind a socket.
pub(super) struct ByMasterSocket {
    pub(super) path: PathBuf,
    pub(super) limit: Duration,
    /// Reloads of the master before one of ours that is not confirmed yet.
    pub(super) unconfirmed: Option<u64>,
}

/// What `show proc` tells.
#[derive(Debug, PartialEq, Eq)]
struct Processes {
    /// How often the master has reloaded.
    reloads: u64,
    /// How many reloads failed since the last good one.
    failed: u64,
    /// Whether a worker serves that the last reload started.
    renewed: bool,
}

impl ByMasterSocket {
    pub(super) fn new(path: PathBuf, limit: Duration) -> Self {
        ByMasterSocket { path, limit, unconfirmed: None }
    }

    async fn ask(&self, command: &str) -> anyhow::Result<String> {
        let at = || format!("the master socket {}", self.path.display());
        let mut stream = UnixStream::connect(&self.path)
            .await
            .with_context(|| format!("cannot connect to {}; does HAProxy run, with -W and -S?", at()))?;
        let mut answer = Vec::new();
        let asked = async {
            stream.write_all(format!("{command}\n").as_bytes()).await?;
            // The master answers when it knows that nothing follows.
            stream.shutdown().await?;
            (&mut stream).take(ANSWER_LIMIT).read_to_end(&mut answer).await
        };
        asked.await.with_context(|| format!("{} broke off while it answered {command:?}", at()))?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    async fn processes(&self) -> anyhow::Result<Processes> {
        let answer = self.ask("show proc").await?;
        read(&answer).with_context(|| {
            let found: String = answer.chars().take(80).collect();
            format!("{} answers {found:?} to \"show proc\"; is it the socket given with -S?", self.path.display())
        })
    }

    /// Waits until the master has reloaded once more than `before`; it may be out of reach meanwhile.
    async fn settled(&self, before: u64) -> Processes {
        loop {
            match self.processes().await {
                Ok(found) if found.reloads > before && (found.renewed || found.failed > 0) => return found,
                Ok(_) => {}
                Err(error) => tracing::trace!(error = %format_args!("{error:#}"), "the master does not answer yet"),
            }
            sleep(LOOK).await;
        }
    }

    async fn once(&mut self) -> Result<(), Failure> {
        if let Some(before) = self.unconfirmed {
            // A reload on top of one that is under way may be lost, or start a worker without its sockets.
            let settled = timeout(self.limit / 2, self.settled(before)).await;
            tracing::debug!(settled = settled.is_ok(), "an earlier reload was not confirmed");
            self.unconfirmed = None;
        }
        let before = self.processes().await?;
        self.unconfirmed = Some(before.reloads);
        let answer = match self.ask("reload").await {
            Ok(answer) => answer,
            // The reload may have begun all the same.
            Err(error) => {
                tracing::debug!(error = %format_args!("{error:#}"), "no answer to the reload");
                String::new()
            }
        };
        let verdict = match answer.lines().next().map(str::trim) {
            Some("Success=1") => Ok(()),
            Some("Success=0") => Err(refused(&answer)),
            None | Some("") => match self.settled(before.reloads).await {
                Processes { failed: 0, .. } => Ok(()),
                Processes { .. } => Err(refused("its own log says why")),
            },
            Some(other) => Err(anyhow!("the master answers {other:?} to \"reload\"").into()),
        };
        self.unconfirmed = None;
        verdict
    }
}

fn refused(answer: &str) -> Failure {
    // What it says of how it starts is of no use here.
    let said =
        answer.lines().filter(|line| !line.starts_with("Success=") && *line != "--" && !line.contains("[NOTICE]"));
    let said: Vec<_> = said.map(str::trim).filter(|line| !line.is_empty()).collect();
    let said: String =
        if said.is_empty() { "nothing".to_owned() } else { said.join(" | ").chars().take(SHOWN).collect() };
    Failure { refused: true, error: anyhow!("the proxy refused the new files and goes on with the old ones: {said}") }
}

/// Reads the answer to `show proc`: `PID TYPE RELOADS [failed: N] UPTIME VERSION`, with headings between.
fn read(answer: &str) -> anyhow::Result<Processes> {
    let (mut master, mut renewed) = (None, false);
    for line in answer.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| words.get(index).and_then(|word| word.trim_end_matches(']').parse::<u64>().ok());
        match words.get(1).copied() {
            Some("master") => {
                let failed = if words.get(3) == Some(&"[failed:") { number(4) } else { Some(0) };
                master = number(2).zip(failed);
            }
            Some("worker") => renewed |= number(2) == Some(0),
            _ => {}
        }
    }
    let Some((reloads, failed)) = master else { bail!("it lists no master process") };
    Ok(Processes { reloads, failed, renewed })
}

#[async_trait::async_trait]
impl Reloader for ByMasterSocket {
    async fn reload(&mut self) -> Result<(), Failure> {
        let limit = self.limit;
        let path = self.path.display().to_string();
        timeout(limit, self.once()).await.unwrap_or_else(|_| {
            Err(anyhow!("the master at {path} did not confirm the reload within {limit:?}; its own log says why")
                .into())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_processes_is_read() {
        let head = "#<PID>          <type>          <reloads>       <uptime>        <version>      \n";
        let of = |rest: &str| read(&format!("{head}{rest}")).unwrap();
        let good = "6311            master          3 [failed: 0]   0d00h00m03s     2.6.12-1+deb12u4\n# workers\n\
                    6615            worker          0               0d00h00m00s     2.6.12-1+deb12u4\n# programs\n\n";
        assert_eq!(of(good), Processes { reloads: 3, failed: 0, renewed: true });
        let bad = "6311 master 2 [failed: 1] 0d00h00m03s 2.6.12\n# workers\n6419 worker 1 0d00h00m02s 2.6.12\n";
        assert_eq!(of(bad), Processes { reloads: 2, failed: 1, renewed: false });
        let newer =
            "77 master 2 [failed: 1] 0d00h00m03s 3.2.0\n# workers\n# old workers\n80 worker 1 0d00h00m02s 3.2.0\n";
        assert_eq!(of(newer), Processes { reloads: 2, failed: 1, renewed: false });
        assert_eq!(of("5 master 0 0d00h00m03s 2.0\n"), Processes { reloads: 0, failed: 0, renewed: false });
        for text in ["", "Unknown command: 'show proc'\n", "5 master x 0d\n"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_refusal_is_shown_without_what_is_said_of_every_start() {
        let answer = "Success=0\n--\n[NOTICE]   (1) : haproxy version is 3.0\n[ALERT]    (1) : config : no\n\n";
        let failure = refused(answer);
        assert!(failure.refused);
        assert!(failure.error.to_string().ends_with("the old ones: [ALERT]    (1) : config : no"), "{}", failure.error);
    }
}
