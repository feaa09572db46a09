//! The containers of this host: the only module that knows bollard.
//!
//! Events are hints; list and inspect are the truth. An event costs at most one inspect, a resync compares the list,
//! and while the engine is away the last state stays.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bollard::Docker;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::backoff::Backoff;
use crate::model::Containers;
use crate::status::Status;

mod control;
mod convert;
mod found;
mod session;
#[cfg(test)]
mod tests;

pub use control::{Control, ControlError};
use found::words;
use session::Session;

/// How long the engine may take to answer one query.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Where the engine is and how often its list is compared.
#[derive(Clone, Debug)]
pub struct Options {
    /// `unix://`, `http://` or `tcp://`.
    pub endpoint: String,
    /// How often the whole list is compared, in case an event was lost.
    pub resync: Duration,
}

/// The running containers; `None` until the first complete list.
pub type Watched = watch::Receiver<Option<Containers>>;

/// Follows the containers until `stop` fires.
///
/// An engine that is away is waited for.
pub fn watch(options: Options, status: Status, stop: CancellationToken) -> Watched {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow(options, sender, status) => {}
        }
    });
    receiver
}

async fn follow(options: Options, sender: watch::Sender<Option<Containers>>, status: Status) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    let mut session = Session::new(sender);
    loop {
        let error = match connect(&options.endpoint) {
            Ok(docker) => {
                let followed = || status.resolved("docker", &options.endpoint);
                let Err(error) = session.run(&docker, options.resync, &mut backoff, followed).await;
                error
            }
            Err(error) => error,
        };
        status.problem("docker", &options.endpoint, format!("it is away, registrations stay: {error:#}"));
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

fn connect(endpoint: &str) -> Result<Docker> {
    connect_for(endpoint, TIMEOUT)
}

/// A client whose requests may take so long each, in whole seconds.
fn connect_for(endpoint: &str, limit: Duration) -> Result<Docker> {
    let version = bollard::API_DEFAULT_VERSION;
    let seconds = limit.as_secs().max(1);
    let docker = match endpoint.strip_prefix("unix://") {
        Some(path) => Docker::connect_with_unix(path, seconds, version),
        None => Docker::connect_with_http(endpoint, seconds, version),
    };
    docker.map_err(words).with_context(|| format!("container engine at {endpoint}"))
}

/// Asks once whether the engine answers; its version.
///
/// # Errors
/// When it does not.
pub async fn version(endpoint: &str) -> Result<String> {
    let answer =
        connect(endpoint)?.version().await.map_err(words).with_context(|| format!("container engine at {endpoint}"))?;
    Ok(answer.version.unwrap_or_else(|| "unknown".to_owned()))
}

/// Lists and inspects all running containers once.
///
/// # Errors
/// When the engine does not answer.
pub async fn snapshot(endpoint: &str) -> Result<Containers> {
    let docker = connect(endpoint)?;
    let (sender, receiver) = watch::channel(None);
    Session::new(sender).list_once(&docker).await.with_context(|| format!("container engine at {endpoint}"))?;
    let found = receiver.borrow().clone();
    info!(containers = found.as_ref().map_or(0, Containers::len), "containers listed");
    Ok(found.unwrap_or_default())
}

/// Reads containers saved by `docker inspect`.
///
/// # Errors
/// Names the file and the place in it.
pub fn read_saved(path: &Path) -> Result<Containers> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let saved: Vec<bollard::models::ContainerInspectResponse> = serde_json::from_str(&text)
        .with_context(|| format!("{}: expected the output of `docker inspect`", path.display()))?;
    let containers = saved.into_iter().filter_map(convert::container);
    Ok(containers.map(|found| (Arc::from(found.container.id.as_str()), Arc::new(found.container))).collect())
}
