//! Grants leases and keeps them alive; remembers the agent's own on disk for the next process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::Error;
use super::client::Client;
use crate::atomic;
use crate::backoff::Backoff;

/// Longest time between two keep-alives, also for a long time to live: etcd closes a connection that only pings.
const MAX_INTERVAL: Duration = Duration::from_secs(15);
/// Keep-alives at the same time.
const PARALLEL: usize = 8;
/// Name of the file in the state directory.
const FILE: &str = "lease";

/// State of the agent's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// The agent has none yet, or no more.
    None,
    /// The agent keeps the lease of this id alive.
    Alive(i64),
    /// The lease ended against the agent's will.
    Lost,
}

/// What the state directory remembers of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Saved {
    cluster: u64,
    lease: i64,
    /// The time to live that the agent asked for, in seconds; etcd may have granted more.
    ttl: u64,
}

/// Grants leases and keeps them alive.
pub(super) struct Leases {
    client: Arc<Client>,
    ttl: Duration,
    state_dir: Option<PathBuf>,
    /// State of the agent's own lease.
    own: watch::Sender<Lease>,
}

impl Leases {
    pub(super) fn new(client: Arc<Client>, ttl: Duration, state_dir: Option<PathBuf>) -> Leases {
        Leases { client, ttl, state_dir, own: watch::Sender::new(Lease::None) }
    }

    /// State of the agent's lease at this moment.
    pub(super) fn current(&self) -> Lease {
        *self.own.borrow()
    }

    /// Changes the state of the agent's lease; returns the last one.
    pub(super) fn set(&self, lease: Lease) -> Lease {
        self.own.send_replace(lease)
    }

    /// Marks the agent's lease as lost, unless another has taken its place.
    pub(super) fn mark_lost(&self, id: i64) {
        self.own.send_if_modified(|lease| {
            let mine = *lease == Lease::Alive(id);
            if mine {
                *lease = Lease::Lost;
            }
            mine
        });
    }

    /// Waits for a state of the agent's lease.
    pub(super) async fn wait_until(&self, wanted: impl Fn(Lease) -> bool) {
        let mut lease = self.own.subscribe();
        // The sender lives as long as `self`, so this cannot end early.
        drop(lease.wait_for(|lease| wanted(*lease)).await);
    }

    /// Resumes the lease of the last process while it lives, or grants a new one; returns it with the entries under it.
    pub(super) async fn open(&self) -> Result<(i64, BTreeMap<String, Arc<str>>), Error> {
        if let Some((lease, own)) = self.resume().await? {
            info!(lease = format_args!("{lease:x}"), entries = own.len(), "lease resumed");
            return Ok((lease, own));
        }
        let (lease, cluster) = self.client.grant(self.ttl).await?;
        info!(lease = format_args!("{lease:x}"), "lease granted");
        self.save(Saved { cluster, lease, ttl: self.ttl.as_secs() }).await;
        Ok((lease, BTreeMap::new()))
    }

    /// The saved lease and the entries under it, when it still lives.
    async fn resume(&self) -> Result<Option<(i64, BTreeMap<String, Arc<str>>)>, Error> {
        let Some(saved) = self.saved().await else { return Ok(None) };
        // The keep-alive comes first, so that the lease does not end while its keys are read.
        if saved.ttl != self.ttl.as_secs() || !self.client.keep_alive(saved.lease).await? {
            return Ok(None);
        }
        let found = self.client.find_lease(saved.lease).await?.filter(|found| found.cluster == saved.cluster);
        let Some(found) = found else { return Ok(None) };
        let own = self.client.read_held(found.keys.iter().map(String::as_str), saved.lease).await?;
        Ok(Some((saved.lease, own)))
    }

    /// Grants a lease that is not the agent's own.
    pub(super) async fn grant(&self) -> Result<i64, Error> {
        Ok(self.client.grant(self.ttl).await?.0)
    }

    /// Keeps leases alive once. A lost one shows later, when the executor reads its keys.
    pub(super) async fn keep_all_alive(&self, leases: BTreeSet<i64>) -> Result<(), Error> {
        let keep_alive = |lease| async move {
            match timeout(self.call_timeout(), self.client.keep_alive(lease)).await {
                Ok(Ok(_)) => Ok(()),
                // Another endpoint may answer where one hangs.
                _ => self.client.keep_alive(lease).await.map(drop),
            }
        };
        stream::iter(leases).map(Ok).try_for_each_concurrent(PARALLEL, keep_alive).await
    }

    /// Keeps the agent's lease alive until it is lost. Only etcd's own word is a loss; what goes wrong on the way is
    /// not.
    pub(super) async fn keep_alive(&self, id: i64) {
        let interval = self.interval();
        let mut backoff = Backoff::new(interval / 16, interval / 2);
        let mut next = Instant::now() + interval;
        let mut alive_until = Instant::now() + self.ttl;
        let mut away = false;
        loop {
            sleep_until(next).await;
            let sent = Instant::now();
            let answer = timeout(self.call_timeout(), self.keep_alive_once(id, sent > alive_until)).await;
            let answer = answer.unwrap_or_else(|_| Err(self.client.unavailable("no answer in time".into())));
            match answer {
                Ok(true) => {
                    if std::mem::take(&mut away) {
                        info!(lease = format_args!("{id:x}"), "lease keep-alive recovered");
                    }
                    backoff.reset();
                    next = sent + interval;
                    alive_until = sent + self.ttl;
                }
                Ok(false) => {
                    warn!(lease = format_args!("{id:x}"), "lease lost");
                    self.mark_lost(id);
                    return;
                }
                Err(error) => {
                    if !std::mem::replace(&mut away, true) {
                        warn!(lease = format_args!("{id:x}"), %error, "lease keep-alive failed; retrying");
                    }
                    next = Instant::now() + backoff.next_delay();
                }
            }
        }
    }

    /// Sends one keep-alive; returns whether the lease is still there. After a long silence its answer is not enough: etcd
    /// before 3.4.38 also renews a lease that it has revoked.
    async fn keep_alive_once(&self, id: i64, overdue: bool) -> Result<bool, Error> {
        Ok(self.client.keep_alive(id).await? && (!overdue || self.client.find_lease(id).await?.is_some()))
    }

    /// Time between two keep-alives.
    pub(super) fn interval(&self) -> Duration {
        (self.ttl / 3).min(MAX_INTERVAL)
    }

    /// Longest time of one keep-alive: short enough for several tries before the lease ends, because one of several
    /// endpoints may hang.
    fn call_timeout(&self) -> Duration {
        (self.interval() / 3).max(Duration::from_secs(1))
    }

    async fn saved(&self) -> Option<Saved> {
        let path = self.state_dir.clone()?.join(FILE);
        let text = tokio::fs::read_to_string(&path).await.ok()?;
        let saved = parse(&text);
        if saved.is_none() {
            warn!(path = %path.display(), "cannot read the saved lease; requesting a new one");
        }
        saved
    }

    /// Saves the lease; without the file the next process has to write its entries again, and nothing else.
    async fn save(&self, saved: Saved) {
        let Some(directory) = self.state_dir.clone() else { return };
        let written = tokio::task::spawn_blocking(move || write(&directory, saved)).await;
        let written = written.unwrap_or_else(|error| Err(error.into()));
        if let Err(error) = written {
            warn!(%error, "cannot save the lease; a restart will register again");
        }
    }

    /// Forgets the saved lease.
    pub(super) async fn forget(&self) {
        let Some(path) = self.state_dir.as_ref().map(|directory| directory.join(FILE)) else { return };
        if let Err(error) = tokio::fs::remove_file(&path).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            warn!(path = %path.display(), %error, "cannot remove the saved lease");
        }
    }
}

fn parse(text: &str) -> Option<Saved> {
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    Some(Saved {
        cluster: u64::from_str_radix(fields.get("cluster")?, 16).ok()?,
        lease: i64::from_str_radix(fields.get("lease")?, 16).ok()?,
        ttl: fields.get("ttl")?.parse().ok()?,
    })
}

/// Replaces the file in one step; only this user can read it, like every temporary file.
fn write(directory: &Path, saved: Saved) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let Saved { cluster, lease, ttl } = saved;
    atomic::replace(&directory.join(FILE), format!("cluster {cluster:x}\nlease {lease:x}\nttl {ttl}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_lease_is_read_back() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let saved = Saved { cluster: u64::MAX, lease: i64::MAX, ttl: 15 };
        write(directory.path(), saved).unwrap();
        let path = directory.path().join(FILE);
        assert_eq!(parse(&std::fs::read_to_string(&path).unwrap()), Some(saved));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_torn_file_is_no_lease() {
        for text in ["", "cluster 1", "cluster x\nlease 1\nttl 15\n", "cluster 1\nlease 2\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
