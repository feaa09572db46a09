//! Follows prefixes in etcd without a gap: a listing at one revision, then every change after it.
//!
//! A connection that breaks is opened again where it was. Only when etcd cannot say what happened meanwhile (it was
//! compacted, restored or replaced) is everything listed again, compared and swapped in as one. Until that is complete
//! the last snapshot stands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Event, EventType, GetOptions, KeyValue, WatchOptions, WatchResponse, WatchStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use super::etcd::Inner;
use super::{Error, Followed, MAX_VALUE};
use crate::backoff::Backoff;
use crate::model::Entries;

/// Most time between two listings (the least is half of it): etcd before 3.4.38 can lose watch events.
const RELIST: Duration = Duration::from_mins(13);
/// Keys asked for at once; fewer when their values are long.
const PAGE: i64 = 2000;
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Starts to follow `prefixes`, in a task that ends with the last receiver or with the registry.
pub(super) fn follow(inner: Arc<Inner>, prefixes: Vec<String>) -> Followed {
    let (entries, followed) = watch::channel(None);
    let task = Follower { inner, prefixes: outermost(prefixes), entries };
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = task.inner.dropped.cancelled() => {}
            () = task.entries.closed() => {}
            () = task.run() => {}
        }
    });
    followed
}

struct Follower {
    inner: Arc<Inner>,
    /// None within another.
    prefixes: Vec<String>,
    entries: watch::Sender<Option<Entries>>,
}

/// Up to where the snapshot is complete.
struct Position {
    cluster: u64,
    /// For each prefix, the last revision whose changes are in.
    revisions: Vec<i64>,
}

/// What stands between etcd and this follower.
struct Trouble {
    backoff: Backoff,
    away: bool,
}

impl Trouble {
    fn over(&mut self, prefixes: &[String]) {
        if std::mem::take(&mut self.away) {
            info!(?prefixes, "following again");
        }
    }
}

/// Why a watch ended.
enum Ended {
    /// The connection broke; the watch goes on where it was.
    Broken(Error),
    /// Changes may have been missed: everything is listed again.
    Gap(String),
    /// It is time to compare.
    Due,
}

/// One change: a key and its value, or nothing when there is none to be shown.
type Change = (Arc<str>, Option<Arc<str>>);

impl Follower {
    async fn run(&self) {
        let mut trouble = Trouble { backoff: Backoff::new(RETRY.0, RETRY.1), away: false };
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
                Some(position) => self.watch(position, &mut trouble).await,
            };
            if began.elapsed() > RETRY.1 {
                trouble.backoff.reset();
            }
            match ended {
                Ended::Due => position = None,
                Ended::Gap(reason) => {
                    warn!(prefixes = ?self.prefixes, reason, "changes may have been missed, listing again");
                    position = None;
                    sleep(trouble.backoff.next_delay()).await;
                }
                Ended::Broken(error) => {
                    if std::mem::replace(&mut trouble.away, true) {
                        debug!(prefixes = ?self.prefixes, %error, "still cannot follow");
                    } else {
                        warn!(prefixes = ?self.prefixes, %error, "cannot follow, keeping what is known and trying on");
                    }
                    sleep(trouble.backoff.next_delay()).await;
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
        Ok(Position { cluster, revisions: vec![revision; self.prefixes.len()] })
    }

    /// Adds what is under `prefix` at `revision` (0: now); gives the revision and the cluster's id.
    async fn list_prefix(
        &self,
        prefix: &str,
        mut revision: i64,
        listed: &mut BTreeMap<Arc<str>, Arc<str>>,
    ) -> Result<(i64, u64), Error> {
        let end = after(prefix);
        let mut start = prefix.as_bytes().to_vec();
        let mut page = PAGE;
        loop {
            let options = GetOptions::new().with_range(end.clone()).with_limit(page).with_revision(revision);
            let mut answer = match self.inner.client.range(&start, options).await {
                Err(Error::Unavailable { reason, .. }) if reason.contains("message length too large") && page > 1 => {
                    page = (page / 8).max(1);
                    continue;
                }
                answer => answer?,
            };
            let more = answer.more();
            let (at, cluster) = answer.header().map_or((0, 0), |header| (header.revision(), header.cluster_id()));
            // Every later page, and every other prefix, is read at the first page's revision.
            revision = if revision == 0 { at } else { revision };
            let kvs = answer.take_kvs();
            start = kvs.last().map_or(start, |kv| [kv.key(), &[0]].concat());
            listed.extend(kvs.iter().filter_map(readable));
            if !more || kvs.is_empty() {
                return Ok((revision, cluster));
            }
        }
    }

    async fn watch(&self, position: &mut Position, trouble: &mut Trouble) -> Ended {
        let mut stream = match self.open(position).await {
            Ok(stream) => stream,
            Err(error) => return Ended::Broken(error),
        };
        let due = Instant::now() + Backoff::new(RELIST, RELIST).next_delay();
        loop {
            let message = match timeout_at(due, stream.message()).await {
                Err(_) => return Ended::Due,
                Ok(Ok(Some(message))) => message,
                Ok(Ok(None)) => return Ended::Broken(self.inner.client.unavailable("the watch was closed".into())),
                Ok(Err(error)) => return Ended::Broken(self.inner.client.error("watch", &error)),
            };
            if let Some(ended) = self.take(&message, position).await {
                return ended;
            }
            trouble.over(&self.prefixes);
        }
    }

    /// Opens one stream that watches every prefix from where it was.
    async fn open(&self, position: &Position) -> Result<WatchStream, Error> {
        let from = |revision: i64| Some(WatchOptions::new().with_prefix().with_start_revision(revision + 1));
        self.inner
            .client
            .call("watch", || async {
                let mut prefixes = self.prefixes.iter().zip(&position.revisions);
                let first = prefixes.next().map_or(("", 0), |(prefix, revision)| (prefix.as_str(), *revision));
                let mut stream = self.inner.client.watch().watch(first.0, from(first.1)).await?;
                for (prefix, revision) in prefixes {
                    stream.watch(prefix.as_str(), from(*revision)).await?;
                }
                Ok(stream)
            })
            .await
    }

    /// Takes one message in: all its changes show as one, or the watch is over.
    async fn take(&self, message: &WatchResponse, position: &mut Position) -> Option<Ended> {
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
            // etcd would wait for the old revision in silence.
            return Some(Ended::Gap(format!("etcd is at revision {revision}, before {newest}")));
        }
        let changes: Vec<Change> = message.events().iter().filter_map(|event| self.change(event, position)).collect();
        position.advance(message.events(), &self.prefixes);
        self.entries.send_if_modified(|entries| apply(entries.get_or_insert_default(), changes));
        None
    }

    async fn canceled(&self, reason: &str) -> Ended {
        let client = &self.inner.client;
        if reason.contains("Unauthenticated") || reason.contains("invalid auth token") {
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

    /// The change that an event brings, unless it is in already.
    fn change(&self, event: &Event, position: &Position) -> Option<Change> {
        let kv = event.kv()?;
        let index = self.prefixes.iter().position(|prefix| kv.key().starts_with(prefix.as_bytes()))?;
        if kv.mod_revision() <= *position.revisions.get(index)? {
            return None;
        }
        if event.event_type() == EventType::Put
            && let Some((key, value)) = readable(kv)
        {
            return Some((key, Some(value)));
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

/// The entry, unless nobody could read it; says so then.
fn readable(kv: &KeyValue) -> Option<(Arc<str>, Arc<str>)> {
    let reason = match (kv.key_str(), kv.value_str()) {
        (Ok(_), Ok(value)) if value.len() > MAX_VALUE => {
            format!("{} bytes, at most {MAX_VALUE} are taken", value.len())
        }
        (Ok(key), Ok(value)) => return Some((key.into(), value.into())),
        _ => "not UTF-8".into(),
    };
    warn!(key = %String::from_utf8_lossy(kv.key()), reason, "an entry is left out");
    None
}

/// Applies changes in order; says whether anything is different now.
fn apply(entries: &mut Entries, changes: Vec<Change>) -> bool {
    let mut modified = false;
    for (key, value) in changes {
        if entries.get(&key) == value.as_ref() {
            continue;
        }
        modified = true;
        match value {
            Some(value) => entries.insert(key, value),
            None => entries.remove(&key),
        };
    }
    modified
}

/// Makes `entries` equal to `listed`, touching only what differs, so that comparing with the last snapshot stays cheap.
fn replace(entries: &mut Entries, listed: BTreeMap<Arc<str>, Arc<str>>) -> bool {
    let gone: Vec<Change> =
        entries.keys().filter(|key| !listed.contains_key(*key)).map(|key| (key.clone(), None)).collect();
    let listed = listed.into_iter().map(|(key, value)| (key, Some(value)));
    apply(entries, gone.into_iter().chain(listed).collect())
}

/// Prefixes without those that lie within another.
fn outermost(mut prefixes: Vec<String>) -> Vec<String> {
    prefixes.sort();
    prefixes.dedup_by(|later, kept| later.starts_with(kept.as_str()));
    prefixes
}

/// The first key after all that start with `prefix`.
fn after(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // UTF-8 has no byte 255, so the last one can always be counted up; no prefix means all keys.
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(entries: &Entries) -> Vec<(&str, &str)> {
        entries.iter().map(|(key, value)| (&**key, &**value)).collect()
    }

    #[test]
    fn a_batch_is_one_change() {
        let mut entries = Entries::new();
        let batch = vec![("/a".into(), Some("1".into())), ("/b".into(), Some("1".into())), ("/a".into(), None)];
        assert!(apply(&mut entries, batch));
        assert_eq!(text(&entries), [("/b", "1")]);
    }

    #[test]
    fn what_is_as_before_is_no_change() {
        let mut entries = Entries::from_iter([("/a".into(), "1".into())]);
        assert!(!apply(&mut entries, vec![("/a".into(), Some("1".into())), ("/b".into(), None)]));
    }

    #[test]
    fn a_new_listing_is_swapped_in_whole() {
        let mut entries = Entries::from_iter([("/a".into(), "1".into()), ("/b".into(), "1".into())]);
        let listed = BTreeMap::from([("/b".into(), "2".into()), ("/c".into(), "1".into())]);
        assert!(replace(&mut entries, listed.clone()));
        assert_eq!(text(&entries), [("/b", "2"), ("/c", "1")]);
        assert!(!replace(&mut entries, listed));
    }

    #[test]
    fn a_prefix_within_another_is_watched_once() {
        let prefixes = outermost(vec!["/b/".into(), "/a/x/".into(), "/a/".into(), "/a/".into()]);
        assert_eq!(prefixes, ["/a/", "/b/"]);
        assert_eq!(after("/a/"), b"/a0");
    }
}
