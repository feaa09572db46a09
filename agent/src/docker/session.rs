//! One connection to the engine: subscribe, list, then follow events until it breaks.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use bollard::Docker;
use bollard::errors::Error as DockerError;
use bollard::models::{ContainerSummary, EventMessage};
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt, future::BoxFuture};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::convert;
use super::found::{Found, words};
use crate::backoff::Backoff;
use crate::model::Containers;

/// Inspections under way at the same time.
const PARALLEL: usize = 8;
/// What ends a process at once.
const SIGKILL: u8 = 9;

/// What a container goes through that can change what it provides; everything else is not even sent to us.
const ACTIONS: [&str; 10] =
    ["start", "die", "kill", "pause", "unpause", "rename", "destroy", "health_status", "connect", "disconnect"];

type Inspected = (Arc<str>, Result<Option<Found>, DockerError>);

/// What is known of the containers, across connections.
pub(super) struct Session {
    sender: watch::Sender<Option<Containers>>,
    containers: Containers,
    /// Stop signal and patience of each.
    stops: BTreeMap<Arc<str>, (u8, Duration)>,
    /// Until when a container that was told to stop is believed to do so.
    stopping: BTreeMap<Arc<str>, Instant>,
    /// What the list said last of each, to see what changed without an event.
    listed: BTreeMap<Arc<str>, String>,
    /// Inspections that wait or are under way.
    looks: BTreeMap<Arc<str>, Look>,
}

/// Where the inspection of a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// It has not begun.
    Waiting,
    /// It is under way.
    Running,
    /// It is under way and out of date: another one follows.
    Again,
    /// It is under way and the container ended: what it finds is dropped.
    Dropped,
}

/// What an event asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// Look at this container.
    Inspect(Arc<str>),
    /// Look at it if it is known: its own start brings the rest.
    InspectKnown(Arc<str>),
    /// It ended.
    Gone(Arc<str>),
    /// It was sent this signal.
    Signalled(Arc<str>, u8),
}

/// Reads an event; labels of the container share its attributes and may lie about all but identity.
pub(super) fn hint(event: &EventMessage) -> Option<Hint> {
    let actor = event.actor.as_ref()?;
    let attribute = |name: &str| actor.attributes.as_ref().and_then(|all| all.get(name)).map(String::as_str);
    let id = || actor.id.as_deref().map(Arc::<str>::from);
    let action = event.action.as_deref()?;
    match action.split(':').next()? {
        "start" | "pause" | "unpause" | "rename" | "health_status" => id().map(Hint::Inspect),
        "die" | "destroy" => id().map(Hint::Gone),
        "kill" => Some(Hint::Signalled(id()?, attribute("signal")?.parse().ok()?)),
        "connect" | "disconnect" => attribute("container").map(|id| Hint::InspectKnown(id.into())),
        _ => None,
    }
}

impl Session {
    pub(super) fn new(sender: watch::Sender<Option<Containers>>) -> Self {
        Session {
            sender,
            containers: Containers::new(),
            stops: BTreeMap::new(),
            stopping: BTreeMap::new(),
            listed: BTreeMap::new(),
            looks: BTreeMap::new(),
        }
    }

    /// Follows the engine until the connection breaks.
    pub(super) async fn run(
        &mut self,
        docker: &Docker,
        resync: Duration,
        backoff: &mut Backoff,
        followed: impl Fn(),
    ) -> Result<Infallible> {
        let docker = docker.clone().negotiate_version().await.map_err(words)?;
        let mut events = Box::pin(docker.events(Some(subscription())));
        let mut inspections = FuturesUnordered::new();
        self.looks.clear();
        self.list(&docker).await?;
        let mut complete = false;
        let mut ticks = tokio::time::interval_at(Instant::now() + resync, resync);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.start_inspections(&docker, &mut inspections);
            if inspections.is_empty() && !complete {
                complete = true;
                backoff.reset();
                followed();
                info!(containers = self.containers.len(), "connected to the container engine");
            }
            // One publication for everything that was at hand: a storm is one snapshot.
            if complete {
                self.publish();
            }
            tokio::select! {
                biased;
                Some((id, result)) = inspections.next() => self.inspected(&id, result)?,
                event = events.next() => {
                    let event = event.context("the event stream ended")?.map_err(words)?;
                    hint(&event).into_iter().for_each(|hint| self.take(hint));
                }
                _ = ticks.tick() => self.list(&docker).await?,
            }
        }
    }

    /// Lists and inspects once, without following.
    pub(super) async fn list_once(&mut self, docker: &Docker) -> Result<()> {
        let docker = docker.clone().negotiate_version().await.map_err(words)?;
        self.list(&docker).await?;
        let mut inspections = FuturesUnordered::new();
        self.start_inspections(&docker, &mut inspections);
        while let Some((id, result)) = inspections.next().await {
            self.inspected(&id, result)?;
            self.start_inspections(&docker, &mut inspections);
        }
        self.publish();
        Ok(())
    }

    /// Compares the whole list with what is known: the truth behind lost events.
    async fn list(&mut self, docker: &Docker) -> Result<()> {
        let running = ListContainersOptions { all: false, ..Default::default() };
        let found =
            docker.list_containers(Some(running)).await.map_err(words).context("containers cannot be listed")?;
        let mut listed = BTreeMap::new();
        for summary in found {
            let digest = digest(&summary);
            let Some(id) = summary.id.map(Arc::<str>::from) else { continue };
            let changed = self.listed.get(&id).is_some_and(|known| *known != digest);
            if changed || !self.containers.contains_key(&id) {
                self.looks.entry(Arc::clone(&id)).or_insert(Look::Waiting);
            }
            listed.insert(id, digest);
        }
        let gone: Vec<_> = self.containers.keys().filter(|id| !listed.contains_key(*id)).cloned().collect();
        gone.into_iter().for_each(|id| self.remove(&id));
        self.listed = listed;
        self.forgive(Instant::now());
        Ok(())
    }

    /// A container that outlives its stop signal was not stopped after all.
    fn forgive(&mut self, now: Instant) {
        let over: Vec<_> =
            self.stopping.iter().filter(|(_, until)| **until < now).map(|(id, _)| Arc::clone(id)).collect();
        for id in over {
            debug!(container = %id, "container outlived its stop signal; treating it as running");
            self.stopping.remove(&id);
            self.mark(&id, false);
        }
    }

    fn start_inspections(&mut self, docker: &Docker, running: &mut FuturesUnordered<BoxFuture<'static, Inspected>>) {
        while running.len() < PARALLEL {
            let Some((id, look)) = self.looks.iter_mut().find(|(_, look)| **look == Look::Waiting) else { return };
            *look = Look::Running;
            let (id, docker) = (Arc::clone(id), docker.clone());
            running.push(async move { (Arc::clone(&id), inspect(&docker, &id).await) }.boxed());
        }
    }

    /// Takes the result of an inspection; an error when the engine did not answer at all.
    fn inspected(&mut self, id: &Arc<str>, result: Result<Option<Found>, DockerError>) -> Result<()> {
        match self.looks.remove(id) {
            Some(Look::Running) => {}
            Some(Look::Again | Look::Waiting) => {
                self.looks.insert(Arc::clone(id), Look::Waiting);
                return Ok(());
            }
            Some(Look::Dropped) | None => return Ok(()),
        }
        match result {
            Ok(Some(found)) => self.insert(id, found),
            Ok(None) => self.remove(id),
            Err(error) if is_of_container(&error) => {
                let error = words(error);
                warn!(container = %id, error = %format_args!("{error:#}"), "cannot inspect container; the next resync retries");
                self.listed.insert(Arc::clone(id), String::new());
            }
            Err(error) => return Err(words(error)).with_context(|| format!("container {id} cannot be inspected")),
        }
        Ok(())
    }

    fn insert(&mut self, id: &Arc<str>, found: Found) {
        let mut container = found.container;
        container.stopping = self.stopping.contains_key(id);
        self.stops.insert(Arc::clone(id), (found.stop_signal, found.stop_timeout));
        if self.containers.get(id).is_none_or(|known| **known != container) {
            self.containers.insert(Arc::clone(id), Arc::new(container));
        }
    }

    fn remove(&mut self, id: &Arc<str>) {
        self.containers.remove(id);
        self.stops.remove(id);
        self.stopping.remove(id);
    }

    fn take(&mut self, hint: Hint) {
        match hint {
            Hint::Inspect(id) => self.want(id),
            Hint::InspectKnown(id) if self.containers.contains_key(&id) => self.want(id),
            Hint::InspectKnown(id) => {
                if let Some(look @ Look::Running) = self.looks.get_mut(&id) {
                    *look = Look::Again;
                }
            }
            Hint::Gone(id) => {
                self.remove(&id);
                match self.looks.get_mut(&id) {
                    Some(Look::Waiting) => _ = self.looks.remove(&id),
                    Some(look) => *look = Look::Dropped,
                    None => {}
                }
            }
            Hint::Signalled(id, signal) => self.signalled(&id, signal),
        }
    }

    /// Asks for an inspection that begins from now on.
    fn want(&mut self, id: Arc<str>) {
        let look = self.looks.entry(id).or_insert(Look::Waiting);
        if *look != Look::Waiting {
            *look = Look::Again;
        }
    }

    fn signalled(&mut self, id: &Arc<str>, signal: u8) {
        let Some((stop_signal, timeout)) = self.stops.get(id) else { return };
        // After a SIGKILL the end itself follows within milliseconds.
        if signal == *stop_signal && signal != SIGKILL {
            // The engine kills after the timeout; a little longer and the signal was meant otherwise.
            self.stopping.insert(Arc::clone(id), Instant::now() + *timeout + Duration::from_secs(5));
            self.mark(id, true);
        }
    }

    fn mark(&mut self, id: &Arc<str>, stopping: bool) {
        if let Some(known) = self.containers.get(id) {
            let container = crate::model::Container { stopping, ..(**known).clone() };
            self.containers.insert(Arc::clone(id), Arc::new(container));
        }
    }

    fn publish(&self) {
        self.sender.send_if_modified(|published| {
            let same = published.as_ref().is_some_and(|known| known.ptr_eq(&self.containers));
            if !same {
                *published = Some(self.containers.clone());
            }
            !same
        });
    }
}

/// Whether an error says something of the container and nothing of the engine.
fn is_of_container(error: &DockerError) -> bool {
    use DockerError::{DockerResponseServerError, JsonDataError, JsonSerdeError, RequestTimeoutError};
    matches!(
        error,
        DockerResponseServerError { .. } | JsonDataError { .. } | JsonSerdeError { .. } | RequestTimeoutError
    )
}

async fn inspect(docker: &Docker, id: &str) -> Result<Option<Found>, DockerError> {
    match docker.inspect_container(id, None).await {
        Ok(inspected) => Ok(convert::container(inspected)),
        Err(DockerError::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        // One container can hang in the engine; whether it is the engine itself, the engine tells.
        Err(DockerError::RequestTimeoutError) => match docker.ping().await {
            Ok(_) => Err(DockerError::RequestTimeoutError),
            Err(error) => Err(error_of_engine(error)),
        },
        Err(error) => Err(error),
    }
}

/// An answer that must not be taken for one about a container.
fn error_of_engine(error: DockerError) -> DockerError {
    if is_of_container(&error) { DockerError::APIVersionParseError {} } else { error }
}

/// Only what matters is sent, and from a second ago on: the list that follows closes the gap.
fn subscription() -> EventsOptions {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().saturating_sub(1));
    let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let filters = [("type".to_owned(), strings(&["container", "network"])), ("event".to_owned(), strings(&ACTIONS))];
    EventsOptions { since: Some(since.to_string()), until: None, filters: Some(filters.into()) }
}

/// What the list tells that inspection would tell too, as text to compare; times like `Up 3 minutes` left out.
fn digest(summary: &ContainerSummary) -> String {
    let status = summary.status.as_deref().unwrap_or_default();
    let state = status.split_once('(').map_or("", |(_, state)| state);
    let mut ports: Vec<_> = summary.ports.iter().flatten().map(|port| format!("{port:?}")).collect();
    ports.sort();
    let networks = summary.network_settings.iter().flat_map(|all| &all.networks).flatten();
    let mut addresses: Vec<_> = networks.map(|(name, net)| format!("{name} {:?}", net.ip_address)).collect();
    addresses.sort();
    format!("{state} {:?} {ports:?} {addresses:?}", summary.names)
}
