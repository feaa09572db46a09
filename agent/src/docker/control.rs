//! Makes a container take new files up: by a signal, or by a restart, and finds out whether it did.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::models::ContainerState;
use bollard::query_parameters::{KillContainerOptions, RestartContainerOptions, TopOptions};
use tokio::time::sleep;
use tracing::{debug, warn};

use super::connect_for;
use super::found::words;

/// How often a container is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// One that runs on for this long after a signal, or after its start, has taken it well.
const SETTLED: Duration = Duration::from_millis(500);
/// How long a container is given to end when it does not say so itself, as Docker has it.
const STOP_TIMEOUT: i64 = 10;

/// Why a container did not take new files up.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// It was reached and goes on with what it had.
    #[error("{0}")]
    Refused(String),
    /// It could not be reached, or ended.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// A container of an engine, by name or id.
#[derive(Clone, Debug)]
pub struct Control {
    /// Where the engine is: `unix://`, `http://` or `tcp://`.
    pub endpoint: String,
    /// The container's name or id.
    pub container: String,
    /// Longest time one request may take.
    pub limit: Duration,
}

/// How a container is found.
struct Found {
    /// When it was started, as the engine writes it.
    started: String,
    stop_timeout: i64,
}

impl Control {
    /// Sends a signal such as `HUP` to its first process.
    ///
    /// It worked when the container runs on and, for `HAProxy` and nginx, has a new worker process, as far as the engine
    /// can list processes.
    ///
    /// # Errors
    /// The engine or the container is away, or it ended; [`ControlError::Refused`] when no new worker came in time.
    pub async fn signal(&self, signal: &str) -> Result<(), ControlError> {
        let docker = self.open().await?;
        let before = self.running(&docker).await?;
        let workers = self.workers(&docker).await;
        let options = KillContainerOptions { signal: format!("SIG{signal}") };
        let sent = docker.kill_container(&self.container, Some(options)).await.map_err(words);
        sent.with_context(|| format!("container {} cannot be sent {signal}", self.container))?;
        let renewed = async {
            while !workers.is_empty() && self.workers(&docker).await.is_subset(&workers) {
                self.same(&docker, &before, signal).await?;
                sleep(LOOK).await;
            }
            anyhow::Ok(())
        };
        // A part of the time is left to say what was found.
        match tokio::time::timeout(self.limit * 9 / 10, renewed).await {
            Ok(seen) => seen?,
            Err(_) => {
                return Err(ControlError::Refused(format!(
                    "container {} has no new worker process after it was sent {signal}, so it refused its files or \
                     lost the signal; `docker logs {}` says why",
                    self.container, self.container
                )));
            }
        }
        if workers.is_empty() {
            sleep(SETTLED.min(self.limit / 4)).await;
        }
        Ok(self.same(&docker, &before, signal).await?)
    }

    /// Stops and starts it. It worked when the engine says that it was started anew, and it runs on.
    ///
    /// It gets as long to end as it was made with, and at most half of the time there is.
    ///
    /// # Errors
    /// The engine or the container is away, or it ended again.
    pub async fn restart(&self) -> Result<(), ControlError> {
        let docker = self.open().await?;
        let before = self.inspect(&docker).await?;
        let half = i64::try_from(self.limit.as_secs() / 2).unwrap_or(i64::MAX).max(1);
        let patience = before.1.stop_timeout.min(half);
        let options = RestartContainerOptions { signal: None, t: i32::try_from(patience).ok() };
        let restarted = docker.restart_container(&self.container, Some(options)).await.map_err(words);
        restarted.with_context(|| format!("container {} cannot be restarted", self.container))?;
        let after = self.running(&docker).await?;
        if after.started == before.1.started {
            return Err(anyhow!("container {} runs on as if nobody had restarted it", self.container).into());
        }
        sleep(SETTLED.min(self.limit / 4)).await;
        let settled = self.running(&docker).await?;
        if settled.started != after.started {
            let text = format!("container {} ended right after its restart and was started again", self.container);
            return Err(anyhow!("{text}; `docker logs {}` says why", self.container).into());
        }
        Ok(())
    }

    async fn open(&self) -> Result<Docker> {
        let docker = connect_for(&self.endpoint, self.limit)?;
        docker
            .negotiate_version()
            .await
            .map_err(words)
            .with_context(|| format!("container engine at {}", self.endpoint))
    }

    async fn inspect(&self, docker: &Docker) -> Result<(ContainerState, Found)> {
        let name = &self.container;
        let found = docker.inspect_container(name, None).await.map_err(|error| match error {
            DockerError::DockerResponseServerError { status_code: 404, .. } => anyhow!(
                "there is no container named {name} at {}; start it, or set reload.container to its name or id",
                self.endpoint
            ),
            error => words(error).context(format!("container {name} cannot be inspected")),
        })?;
        let stop_timeout = found.config.as_ref().and_then(|config| config.stop_timeout).unwrap_or(STOP_TIMEOUT);
        let state = found.state.unwrap_or_default();
        let started = state.started_at.as_ref().map(ToString::to_string).unwrap_or_default();
        Ok((state, Found { started, stop_timeout }))
    }

    /// The container while it runs.
    async fn running(&self, docker: &Docker) -> Result<Found> {
        let (state, found) = self.inspect(docker).await?;
        let is = |flag: Option<bool>| flag.unwrap_or_default();
        if is(state.running) && !is(state.paused) && !is(state.restarting) {
            return Ok(found);
        }
        let status = state.status.map(|status| status.to_string()).unwrap_or_default();
        let code = state.exit_code.filter(|_| !is(state.running)).map(|code| format!(", exit code {code}"));
        Err(anyhow!(
            "container {} does not run: the engine says it is {status}{}; it is tried again until it does",
            self.container,
            code.unwrap_or_default()
        ))
    }

    /// Whether it runs on; one that the engine started anew meanwhile has read its files too.
    async fn same(&self, docker: &Docker, before: &Found, signal: &str) -> Result<()> {
        let after = self.running(docker).await.with_context(|| format!("it was sent {signal}"))?;
        if after.started != before.started {
            warn!(container = self.container, signal, "container stopped at the signal; started it again");
        }
        Ok(())
    }

    /// Processes of `HAProxy` and nginx whose parent is one too; none where the engine cannot list processes.
    async fn workers(&self, docker: &Docker) -> BTreeSet<String> {
        let options = TopOptions { ps_args: "-o pid,ppid,comm".to_owned() };
        match docker.top_processes(&self.container, Some(options)).await {
            Ok(listed) => workers(&listed.processes.unwrap_or_default()),
            Err(error) => {
                debug!(container = self.container, %error, "its processes cannot be listed, so its workers do not tell");
                BTreeSet::new()
            }
        }
    }
}

/// The workers among rows of pid, parent and name.
fn workers(rows: &[Vec<String>]) -> BTreeSet<String> {
    let proxies: Vec<_> = rows
        .iter()
        .filter_map(|row| match &row[..] {
            [pid, parent, name, ..] if name.starts_with("haproxy") || name.starts_with("nginx") => Some((pid, parent)),
            _ => None,
        })
        .collect();
    let of_proxy = proxies.iter().filter(|(_, parent)| proxies.iter().any(|(pid, _)| pid == parent));
    of_proxy.map(|(pid, _)| (*pid).clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_told_from_their_master_and_from_others() {
        let rows = [["10", "1", "docker-init"], ["11", "10", "haproxy"], ["12", "11", "haproxy"], ["13", "10", "sh"]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
        assert_eq!(workers(&rows), BTreeSet::from(["12".to_owned()]));
        assert_eq!(workers(&[vec!["1".to_owned()]]), BTreeSet::new());
    }
}
