//! The left loop: what the containers of this host offer is held in the registry.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::docker::Watched;
use crate::grouping::Grouping;
use crate::health;
use crate::layout::Encoder;
use crate::model::Containers;
use crate::output::Wants;
use crate::registry::{Desired, Farewell, Look, Registry, plan};
use crate::status::Status;

/// Time for taking registrations back before the process ends all the same.
const FAREWELL: Duration = Duration::from_secs(8);

/// What the loop works with.
pub struct Register {
    /// Containers to instances.
    pub grouping: Grouping,
    /// Instances to entries.
    pub encoder: Encoder,
    /// Where the wishes of containers go.
    pub wants: watch::Sender<Wants>,
    /// The board.
    pub status: Status,
    /// How often what is held is read again and compared.
    pub resync: Duration,
    /// Whether registrations stay at the end, for the next agent to take over.
    pub leave: Arc<AtomicBool>,
}

impl Register {
    /// Keeps the registry in step with `containers` until `stop` fires.
    ///
    /// Each turn starts from a full snapshot, so a missed or merged wake-up is harmless.
    ///
    /// # Errors
    /// When an input ends, which only a bug can do, or the registrations cannot be taken back.
    pub async fn run(
        mut self,
        mut containers: Watched,
        registry: Arc<dyn Registry>,
        stop: CancellationToken,
    ) -> Result<()> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
        let mut look = Look::Recall;
        loop {
            let snapshot = containers.borrow_and_update().clone();
            let mut pause = self.resync;
            if let Some(snapshot) = snapshot {
                match self.turn(&snapshot, &*registry, look).await {
                    Ok(()) => self.status.resolved("register", "registry"),
                    Err(error) => {
                        self.status.problem("register", "registry", format!("will be tried again: {error:#}"));
                        pause = backoff.next_delay();
                    }
                }
                if self.grouping.wants_retry() || self.encoder.wants_retry() {
                    pause = pause.min(backoff.next_delay());
                }
                if pause == self.resync {
                    backoff.reset();
                }
            }
            look = Look::Recall;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = containers.changed() => changed.context("the container engine is no longer followed")?,
                () = registry.lease_lost() => warn!("the lease is lost, registering again"),
                () = tokio::time::sleep(pause) => look = Look::Verify,
            }
        }
        let leave = self.leave.load(Ordering::Acquire);
        let farewell = if leave { Farewell::Leave } else { Farewell::Withdraw };
        let taken_back = tokio::time::timeout(FAREWELL, registry.withdraw(farewell)).await;
        taken_back.context("registrations could not be taken back in time; they end with the lease")??;
        info!("registrations are {}", if leave { "left" } else { "taken back" });
        Ok(())
    }

    async fn turn(&mut self, containers: &Containers, registry: &dyn Registry, look: Look) -> Result<()> {
        let admitted = health::admitted(containers);
        self.grouping.update(&admitted).await;
        self.wants.send_if_modified(|shown| {
            let wants = self.grouping.wants();
            let changed = *shown != wants;
            *shown = wants;
            changed
        });
        let entries = self.encoder.update(&self.grouping.offers()).await;
        let desired: BTreeMap<_, _> =
            entries.into_iter().map(|(key, (value, holder))| (key, Desired { value, holder })).collect();
        let held = registry.held(look).await.context("what is held cannot be read")?;
        let steps = plan(&held, &desired);
        registry.apply(&steps).await.context("registrations cannot be written")?;
        if !steps.is_empty() {
            info!(steps = steps.len(), held = desired.len(), "registrations are up to date");
        }
        Ok(())
    }
}
