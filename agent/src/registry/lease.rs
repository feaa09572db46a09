//! The agent's lease: granted or resumed, kept alive, and remembered on disk for the next process.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::client::{Client, KeepAlive};
use super::etcd::{Inner, State};
use super::{Error, shared};
use crate::backoff::Backoff;

/// Longest time between two keep-alives, also for a long time to live: etcd closes a connection that is only pinged.
const MAX_INTERVAL: Duration = Duration::from_secs(15);
/// Name of the file in the state directory.
const FILE: &str = "lease";

/// Where the agent's lease is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// There is none yet, or no more.
    None,
    /// It is kept alive under this id.
    Alive(i64),
    /// It ended against the agent's will.
    Lost,
}

/// What the state directory remembers of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Saved {
    cluster: u64,
    lease: i64,
    /// What was asked for, in seconds; etcd may have granted more.
    ttl: u64,
}

impl Inner {
    /// Resumes the lease of the last process while it lives, or grants a new one, and keeps it alive from now on.
    pub(super) async fn open(self: &Arc<Self>, state: &mut State) -> Result<i64, Error> {
        *state = State::default();
        self.show_contested(state);
        let id = if let Some((id, own)) = self.resume().await? {
            info!(lease = format_args!("{id:x}"), entries = own.len(), "lease resumed");
            state.own = own;
            id
        } else {
            let (lease, cluster) = self.client.grant(self.ttl).await?;
            info!(lease = format_args!("{lease:x}"), "lease granted");
            self.save(Saved { cluster, lease, ttl: self.ttl.as_secs() }).await;
            lease
        };
        self.lease.send_replace(Lease::Alive(id));
        tokio::spawn(run_while_alive(self.clone(), id, keep(self.clone(), id)));
        tokio::spawn(run_while_alive(self.clone(), id, shared::keep(self.clone(), id)));
        Ok(id)
    }

    /// The saved lease and the entries it holds, when it still lives.
    async fn resume(&self) -> Result<Option<(i64, BTreeMap<String, Arc<str>>)>, Error> {
        let Some(saved) = self.saved().await else { return Ok(None) };
        // First of all it must not end while its keys are read.
        if saved.ttl != self.ttl.as_secs() || self.client.keep_alive(saved.lease).await? == KeepAlive::Lost {
            return Ok(None);
        }
        let found = self.client.time_to_live(saved.lease).await?;
        let cluster = found.header().map_or(0, etcd_client::ResponseHeader::cluster_id);
        if found.ttl() <= 0 || cluster != saved.cluster {
            return Ok(None);
        }
        Ok(Some((saved.lease, values(&self.client, found.keys(), saved.lease).await?)))
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

    /// Saves the lease; without the file the next process only has to put its entries again.
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

    /// Says that the lease is gone, unless another has taken its place.
    pub(super) fn lost(&self, id: i64) {
        self.lease.send_if_modified(|lease| {
            let mine = *lease == Lease::Alive(id);
            if mine {
                *lease = Lease::Lost;
            }
            mine
        });
    }

    /// Time between two keep-alives.
    pub(super) fn interval(&self) -> Duration {
        (self.ttl / 3).min(MAX_INTERVAL)
    }

    /// How long one keep-alive is waited for: short enough for several tries before the lease ends, because one of
    /// several endpoints may hang.
    pub(super) fn call_timeout(&self) -> Duration {
        (self.interval() / 3).max(Duration::from_secs(1))
    }
}

/// Reads what `lease` holds; keys that moved to another lease meanwhile, and such as are no text, are left out.
pub(super) async fn values(client: &Client, keys: &[Vec<u8>], lease: i64) -> Result<BTreeMap<String, Arc<str>>, Error> {
    let keys = keys.iter().filter_map(|key| std::str::from_utf8(key).ok());
    let found = client.read(keys).await?;
    let mine = found.iter().flatten().filter(|kv| kv.lease() == lease);
    Ok(mine.filter_map(|kv| Some((kv.key_str().ok()?.to_owned(), kv.value_str().ok()?.into()))).collect())
}

/// Runs `task` until the lease is another's or the registry is dropped.
async fn run_while_alive(inner: Arc<Inner>, id: i64, task: impl Future<Output = ()>) {
    let mut lease = inner.lease.subscribe();
    tokio::select! {
        biased;
        () = inner.dropped.cancelled() => {}
        _ = lease.wait_for(|lease| *lease != Lease::Alive(id)) => {}
        () = task => {}
    }
}

/// Keeps the lease alive until it is lost. What goes wrong on the way to etcd is not a loss: only etcd's own word is.
async fn keep(inner: Arc<Inner>, id: i64) {
    let interval = inner.interval();
    let mut backoff = Backoff::new(interval / 16, interval / 2);
    let mut next = Instant::now() + interval;
    let mut alive_until = Instant::now() + inner.ttl;
    let mut away = false;
    loop {
        sleep_until(next).await;
        let sent = Instant::now();
        match timeout(inner.call_timeout(), pulse(&inner, id, sent > alive_until)).await {
            Ok(Ok(KeepAlive::Alive)) => {
                if std::mem::take(&mut away) {
                    info!(lease = format_args!("{id:x}"), "lease keep-alive recovered");
                }
                backoff.reset();
                next = sent + interval;
                alive_until = sent + inner.ttl;
            }
            Ok(Ok(KeepAlive::Lost)) => {
                warn!(lease = format_args!("{id:x}"), "lease lost");
                inner.lost(id);
                return;
            }
            failed => {
                let error = failed.map_or_else(
                    |_| "no answer in time".into(),
                    |result| result.err().map(|error| error.to_string()).unwrap_or_default(),
                );
                if !std::mem::replace(&mut away, true) {
                    warn!(lease = format_args!("{id:x}"), error, "lease keep-alive failed; retrying");
                }
                next = Instant::now() + backoff.next_delay();
            }
        }
    }
}

/// One keep-alive. After a long silence its word is not enough: etcd before 3.4.38 also renews a lease it has revoked.
async fn pulse(inner: &Inner, id: i64, overdue: bool) -> Result<KeepAlive, Error> {
    let pulse = inner.client.keep_alive(id).await?;
    if pulse == KeepAlive::Alive && overdue && inner.client.time_to_live(id).await?.ttl() <= 0 {
        return Ok(KeepAlive::Lost);
    }
    Ok(pulse)
}

fn parse(text: &str) -> Option<Saved> {
    let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    Some(Saved {
        cluster: u64::from_str_radix(fields.get("cluster")?, 16).ok()?,
        lease: i64::from_str_radix(fields.get("lease")?, 16).ok()?,
        ttl: fields.get("ttl")?.parse().ok()?,
    })
}

/// Replaces the file in one step, readable by this user only (as temporary files are made).
fn write(directory: &Path, saved: Saved) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    let Saved { cluster, lease, ttl } = saved;
    write!(file, "cluster {cluster:x}\nlease {lease:x}\nttl {ttl}\n")?;
    file.as_file().sync_all()?;
    let path: PathBuf = directory.join(FILE);
    file.persist(path)?;
    Ok(())
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
