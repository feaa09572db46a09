//! The left loop: what the containers of this host offer is held in the registry.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::docker::Watched;
use crate::grouping::Grouping;
use crate::health;
use crate::layout::Encoder;
use crate::model::{Containers, LeaseKind, LeasedValue, Node, Presence, PresenceState};
use crate::output::Consumed;
use crate::registry::{Registry, ShutdownMode, Source, Step, plan};
use crate::shutdown::Shutdown;
use crate::status::Status;

/// Time for taking registrations back before the process ends all the same.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(8);
/// Time of it for telling the others.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(3);
/// Most keys that one line of the log names.
const NAMED: usize = 4;

/// What the loop works with.
pub struct Register {
    /// Containers to instances.
    pub grouping: Grouping,
    /// Instances to entries.
    pub encoder: Encoder,
    /// The host whose agent says that it is there, where several hosts write.
    pub presence: Option<Arc<Node>>,
    /// Where the names that containers consume go.
    pub consumed: watch::Sender<Consumed>,
    /// What is shown of this stage.
    pub status: Status,
    /// How often what is held is read again and compared.
    pub resync: Duration,
}

impl Register {
    /// Keeps the registry in step with `containers` until the agent shuts down.
    ///
    /// Each turn starts from a full snapshot, so a missed or merged wake-up is harmless.
    ///
    /// # Errors
    /// When an input ends, which only a bug can do, or the registrations cannot be taken back.
    pub async fn run(mut self, mut containers: Watched, registry: Arc<dyn Registry>, shutdown: Shutdown) -> Result<()> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut verify_at = Instant::now() + self.resync;
        loop {
            let snapshot = containers.borrow_and_update().clone();
            let source = if Instant::now() >= verify_at { Source::Fresh } else { Source::Cached };
            if source == Source::Fresh {
                verify_at = Instant::now() + self.resync;
            }
            let done = match &snapshot {
                Some(containers) => self.reconcile(containers, &*registry, source).await,
                // The lease of the agent before this one is kept alive until the containers are known.
                None => registry.owned_entries(Source::Cached).await.map(drop).map_err(anyhow::Error::from),
            };
            let mut retry = self.grouping.wants_retry() || self.encoder.wants_retry();
            match done {
                Ok(()) => self.status.resolved("register", "registry"),
                Err(error) => {
                    self.status.problem("register", "registry", format!("will be tried again: {error:#}"));
                    retry = true;
                }
            }
            let mut wake_at = verify_at;
            if retry {
                wake_at = wake_at.min(Instant::now() + backoff.next_delay());
            } else {
                backoff.reset();
            }
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                changed = containers.changed() => changed.context("the container engine is no longer watched")?,
                () = registry.lease_lost() => warn!("lease lost; registering again"),
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
        self.end(&*registry, shutdown.keeps_registrations()).await
    }

    /// Takes what is registered back, or leaves it to the next agent.
    async fn end(&self, registry: &dyn Registry, leave: bool) -> Result<()> {
        let mode = if leave { ShutdownMode::KeepLease } else { ShutdownMode::Revoke };
        let ended = tokio::time::timeout(SHUTDOWN_TIMEOUT, async {
            if !leave {
                self.announce_leaving(registry).await;
            }
            registry.withdraw(mode).await
        });
        let ended = ended.await;
        let ended = ended.context("the registry did not answer in time").and_then(|ended| Ok(ended?));
        match ended {
            Err(error) if leave => {
                warn!(error = %format_args!("{error:#}"), "cannot hand registrations over; they stay as they are");
            }
            Err(error) => return Err(error.context("cannot withdraw registrations; they expire with the lease")),
            Ok(()) => {}
        }
        if leave {
            info!("registrations stay for the next agent");
        } else {
            info!("registrations withdrawn");
        }
        Ok(())
    }

    /// What the agent says of itself: key and value.
    fn presence_entry(&self, state: PresenceState) -> Option<(String, Arc<str>)> {
        let node = self.presence.as_ref()?;
        Some((Presence::key(&node.name), Presence::new(node, state).to_text().into()))
    }

    /// Says that it leaves, so that nobody takes what it takes back for a loss.
    async fn announce_leaving(&self, registry: &dyn Registry) {
        let Some((key, value)) = self.presence_entry(PresenceState::Leaving) else { return };
        let steps = [Step::PutDetached { key, value }];
        match tokio::time::timeout(ANNOUNCE_TIMEOUT, registry.apply(&steps)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "others are not told that this host leaves"),
            Err(_) => debug!("others are not told that this host leaves: no answer in time"),
        }
    }

    async fn reconcile(&mut self, containers: &Containers, registry: &dyn Registry, source: Source) -> Result<()> {
        let admitted = health::admitted(containers);
        self.grouping.update(&admitted).await;
        self.consumed.send_if_modified(|shown| {
            let consumed = self.grouping.consumed();
            let changed = *shown != consumed;
            *shown = consumed;
            changed
        });
        let mut desired = self.encoder.update(&self.grouping.provided()).await;
        let here = self.presence_entry(PresenceState::Here);
        desired.extend(here.clone().map(|(key, value)| (key, LeasedValue { value, lease: LeaseKind::Host })));
        let owned = registry.owned_entries(source).await.context("what is held cannot be read")?;
        let mut steps = plan(&owned, &desired);
        // Who sees it knows that all the rest is there.
        steps.sort_by_key(|step| here.as_ref().is_some_and(|(key, _)| step.key() == key));
        registry.apply(&steps).await.context("registrations cannot be written")?;
        if !steps.is_empty() {
            let gone = |step: &&Step| matches!(step, Step::Delete { .. } | Step::Release { .. });
            let (gone, put): (Vec<_>, Vec<_>) = steps.iter().partition(gone);
            info!(put = named(&put), deleted = named(&gone), owned = desired.len(), "registrations updated");
        }
        Ok(())
    }
}

/// The keys of a log line, as many as a line is for.
fn named(steps: &[&Step]) -> String {
    let keys = steps.iter().take(NAMED).map(|step| step.key()).collect::<Vec<_>>().join(" ");
    match steps.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!("{keys} and {more} more"),
        _ => keys,
    }
}
