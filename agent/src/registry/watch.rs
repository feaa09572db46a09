//! Watches prefixes in etcd without a gap: a listing at one revision, then every change after it.
//!
//! After a broken connection the watch goes on from its last revision. Only when etcd cannot say what happened
//! meanwhile (after a compaction, a restore, or in another cluster) the watcher lists everything again and swaps the
//! difference in as one change. Until then the last snapshot stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Event, EventType, GetOptions, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::client::Client;
use super::reason::is_token;
use super::snapshot::{Change, apply, outermost, range_end, readable, replace};
use super::{Error, WatchReceiver};
use crate::backoff::Backoff;
use crate::model::{Entries, Stored};

/// Most time between two listings (the least is half of it): etcd before 3.4.38 can lose watch events.
const RELIST: Duration = Duration::from_mins(13);
/// Keys in one page of a listing; fewer when their values are long.
const PAGE: i64 = 2000;
/// What the client library says of an answer above the limit.
const TOO_LONG: &str = "message length too large";
/// So often in a row a member may be behind the last revision; then etcd counts as restored.
const MAX_BEHIND: u32 = 4;
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Starts to watch `prefixes`, in a task that ends with the last receiver or when `dropped` fires.
pub(super) fn watch_prefixes(client: Arc<Client>, dropped: CancellationToken, prefixes: Vec<String>) -> WatchReceiver {
    let (entries, watched) = watch::channel(None);
    let task = Watcher { client, prefixes: outermost(prefixes), entries };
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = dropped.cancelled() => {}
            () = task.entries.closed() => {}
            () = task.run() => {}
        }
    });
    watched
}

struct Watcher {
    client: Arc<Client>,
    /// None of them lies within another.
    prefixes: Vec<String>,
    entries: watch::Sender<Option<Entries>>,
}

/// Up to where the snapshot is complete.
struct Position {
    cluster: u64,
    /// For each prefix, the last revision that the snapshot contains.
    revisions: Vec<i64>,
    /// How often in a row a member was behind these revisions.
    behind: u32,
}

/// Whether the watcher reaches etcd, and when it tries again.
struct Outage {
    backoff: Backoff,
    away: bool,
}

impl Outage {
    /// Logs the first failure of an outage.
    fn begin(&mut self, prefixes: &[String], error: &Error) {
        match (std::mem::replace(&mut self.away, true), error.is_permanent()) {
            (true, _) => debug!(?prefixes, %error, "still cannot watch"),
            (false, true) => error!(?prefixes, %error, "watch failed"),
            (false, false) => warn!(?prefixes, %error, "watch failed; keeping known entries and retrying"),
        }
    }

    /// Logs the end of an outage.
    fn end(&mut self, prefixes: &[String]) {
        if std::mem::take(&mut self.away) {
            info!(?prefixes, "watch recovered");
        }
    }
}

/// Why a watch ended.
enum Ended {
    /// The connection broke; the watch goes on from its last revision.
    Broken(Error),
    /// The watch may have missed changes; the watcher lists everything again.
    Gap(String),
    /// The member lags behind; the watch goes on from its last revision.
    Behind,
    /// A new listing is due.
    Due,
}

impl Watcher {
    async fn run(&self) {
        let mut outage = Outage { backoff: Backoff::new(RETRY.0, RETRY.1), away: false };
        let mut position = None;
        loop {
            let began = Instant::now();
            let ended = match &mut position {
                None => match self.list().await {
                    Ok(listed) => {
                        position = Some(listed);
                        continue;
                    }
                    Err(error) => Ended::Broken(error),
                },
                Some(position) => self.watch(position, &mut outage).await,
            };
            if began.elapsed() > RETRY.1 {
                outage.backoff.reset();
            }
            match ended {
                Ended::Due => position = None,
                Ended::Behind => sleep(outage.backoff.next_delay()).await,
                Ended::Gap(reason) => {
                    warn!(prefixes = ?self.prefixes, reason, "the watch may have missed changes; listing again");
                    position = None;
                    sleep(outage.backoff.next_delay()).await;
                }
                Ended::Broken(error) => {
                    outage.begin(&self.prefixes, &error);
                    sleep(outage.backoff.next_delay()).await;
                }
            }
        }
    }

    /// Lists all prefixes at one revision and swaps in what differs.
    async fn list(&self) -> Result<Position, Error> {
        let mut listed = BTreeMap::new();
        let (mut revision, mut cluster) = (0, 0);
        for prefix in &self.prefixes {
            (revision, cluster) = self.list_prefix(prefix, revision, &mut listed).await?;
        }
        self.entries.send_if_modified(|entries| {
            let first = entries.is_none();
            replace(entries.get_or_insert_default(), listed) || first
        });
        Ok(Position { cluster, revisions: vec![revision; self.prefixes.len()], behind: 0 })
    }

    /// Adds what is under `prefix` at `revision` (0: now); returns the revision and the cluster's id.
    async fn list_prefix(
        &self,
        prefix: &str,
        mut revision: i64,
        listed: &mut BTreeMap<Arc<str>, Stored>,
    ) -> Result<(i64, u64), Error> {
        let end = range_end(prefix);
        let mut start = prefix.as_bytes().to_vec();
        let mut page = PAGE;
        loop {
            let options = GetOptions::new().with_range(end.clone()).with_limit(page).with_revision(revision);
            let mut answer = match self.client.range(&start, options).await {
                Err(Error::Unavailable { reason, .. }) if reason.contains(TOO_LONG) && page > 1 => {
                    page = (page / 8).max(1);
                    continue;
                }
                answer => answer?,
            };
            let more = answer.more();
            let (at, cluster) = answer.header().map_or((0, 0), |header| (header.revision(), header.cluster_id()));
            // Later pages and other prefixes have the revision of the first page.
            revision = if revision == 0 { at } else { revision };
            let kvs = answer.take_kvs();
            start = kvs.last().map_or(start, |kv| [kv.key(), &[0]].concat());
            listed.extend(kvs.iter().filter_map(readable));
            if !more || kvs.is_empty() {
                return Ok((revision, cluster));
            }
        }
    }

    async fn watch(&self, position: &mut Position, outage: &mut Outage) -> Ended {
        let mut stream = match self.open(position).await {
            Ok(stream) => stream,
            Err(error) => return Ended::Broken(error),
        };
        let due = Instant::now() + Backoff::new(RELIST, RELIST).next_delay();
        loop {
            let message = match timeout_at(due, stream.message()).await {
                Err(_) => return Ended::Due,
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return Ended::Broken(self.client.unavailable("the watch was closed".into())),
                Ok(Err(error)) => return self.failed(&error),
            };
            if let Some(ended) = self.receive(&message, position).await {
                return ended;
            }
            outage.end(&self.prefixes);
        }
    }

    fn failed(&self, error: &etcd_client::Error) -> Ended {
        match self.client.error("watch", error) {
            // The next answer would be as long; a listing comes in pages.
            Error::Unavailable { reason, .. } if reason.contains(TOO_LONG) => Ended::Gap(reason),
            error => Ended::Broken(error),
        }
    }

    /// Opens one stream that watches every prefix from its last revision.
    async fn open(&self, position: &Position) -> Result<WatchStream, Error> {
        let from = |revision: i64| Some(WatchOptions::new().with_prefix().with_start_revision(revision + 1));
        self.client
            .call("watch", || async {
                let mut prefixes = self.prefixes.iter().zip(&position.revisions);
                let first = prefixes.next().map_or(("", 0), |(prefix, revision)| (prefix.as_str(), *revision));
                let mut stream = self.client.watch().watch(first.0, from(first.1)).await?;
                for (prefix, revision) in prefixes {
                    stream.watch(prefix.as_str(), from(*revision)).await?;
                }
                Ok(stream)
            })
            .await
    }

    /// Takes one message in: all its changes show as one. Returns why the watch is over, if it is.
    async fn receive(&self, message: &WatchResponse, position: &mut Position) -> Option<Ended> {
        let (cluster, revision) = message.header().map_or((0, 0), |header| (header.cluster_id(), header.revision()));
        if message.canceled() && message.compact_revision() > 0 {
            return Some(Ended::Gap(format!("compacted up to revision {}", message.compact_revision())));
        }
        if message.canceled() {
            return Some(self.canceled(message.cancel_reason()).await);
        }
        if cluster != position.cluster {
            return Some(Ended::Gap(format!("cluster {:x} answered instead of {:x}", cluster, position.cluster)));
        }
        let newest = position.revisions.iter().max().copied().unwrap_or(0);
        if message.created() && revision < newest {
            // A restored etcd would wait for the old revision in silence; a member that lags catches up at once.
            position.behind += 1;
            let gap = Ended::Gap(format!("etcd is at revision {revision}, before {newest}"));
            return Some(if position.behind < MAX_BEHIND { Ended::Behind } else { gap });
        }
        position.behind = 0;
        let changes: Vec<Change> = message.events().iter().filter_map(|event| self.change(event, position)).collect();
        position.advance(message.events(), &self.prefixes);
        self.entries.send_if_modified(|entries| apply(entries.get_or_insert_default(), changes));
        None
    }

    async fn canceled(&self, reason: &str) -> Ended {
        let client = &self.client;
        if is_token(reason) {
            return Ended::Broken(match client.renew_token().await {
                Ok(()) => client.unavailable("the sign-in had expired".into()),
                Err(error) => error,
            });
        }
        if reason.contains("permission denied") {
            let remedy = "grant the user's role read on these prefixes";
            return Ended::Broken(client.refused(&format!("watch {:?}", self.prefixes), reason.into(), remedy));
        }
        Ended::Gap(format!("etcd cancelled the watch: {reason}"))
    }

    /// The change that an event brings, unless the snapshot contains it.
    fn change(&self, event: &Event, position: &Position) -> Option<Change> {
        let kv = event.kv()?;
        let index = self.prefixes.iter().position(|prefix| kv.key().starts_with(prefix.as_bytes()))?;
        if kv.mod_revision() <= *position.revisions.get(index)? {
            return None;
        }
        if event.event_type() == EventType::Put
            && let Some((key, stored)) = readable(kv)
        {
            return Some((key, Some(stored)));
        }
        Some((kv.key_str().ok()?.into(), None))
    }
}

impl Position {
    fn advance(&mut self, events: &[Event], prefixes: &[String]) {
        for kv in events.iter().filter_map(Event::kv) {
            let index = prefixes.iter().position(|prefix| kv.key().starts_with(prefix.as_bytes()));
            if let Some(revision) = index.and_then(|index| self.revisions.get_mut(index)) {
                *revision = kv.mod_revision().max(*revision);
            }
        }
    }
}
