//! One story from its beginning to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use waypost::discover::{self, Engine, Inputs, Pace, Speaker};
use waypost::model::{Ages, Attributes, Node, Services};
use waypost::output::{Consumed, Filter, Linger, Output, SavedState, Selection};
use waypost::proxy::{ReloadStatus, asked};
use waypost::simulated::{self, Fault};
use waypost::status::Status;
use waypost_plugin_haproxy::Settings;

use crate::catalog::{Event, Offers, SETTINGS, Story, catalog};
use crate::chance::Chance;
use crate::check::Witness;
use crate::native::Native;
use crate::process::Process;
use crate::reloads::{self, Reloads};
use crate::world::{Shared, SimulatedDisk};

/// How long a service outlives its last instance.
pub(crate) const LINGER: Duration = Duration::from_mins(1);
/// How often the proxy is asked about everything.
const RESYNC: Duration = Duration::from_mins(2);

/// What became of a story.
pub(crate) struct Outcome {
    pub(crate) violations: Vec<String>,
    pub(crate) trace: Vec<String>,
}

/// Plays a story; what it was left with in `memory` is that of an earlier agent.
pub(crate) fn play(seed: u64, story: &Story, fault: Option<Fault>, is_traced: bool) -> Outcome {
    let memory = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "." }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        simulated::set(seed, fault);
        let mut player = Player::new(seed, memory.path(), is_traced);
        player.world.world().is_own_unknown = simulated::has(Fault::OwnIsForeign);
        player.start(0);
        for (index, (wait, event)) in story.iter().enumerate() {
            sleep(Duration::from_millis(*wait)).await;
            player.world.world().note(|| format!("{index}: {event}"));
            player.happen(event).await;
            if !player.world.world().violations.is_empty() {
                break;
            }
        }
        player.stop().await;
        let mut world = player.world.world();
        Outcome { violations: std::mem::take(&mut world.violations), trace: std::mem::take(&mut world.trace) }
    })
}

/// Settings of the plugin, by kind.
fn settings(kind: usize) -> Settings {
    let json = match kind % SETTINGS {
        0 => r#"{"socket": "/s", "standby-backends": 8}"#,
        1 => r#"{"socket": "/s", "standby-backends": 8, "maxconn": 100}"#,
        2 => r#"{"socket": "/s", "standby-backends": 8, "http-bind": "*:8080", "check": false}"#,
        _ => r#"{"socket": "/s", "standby-backends": 2, "stats-bind": "off"}"#,
    };
    serde_json::from_str(json).unwrap()
}

struct Agent {
    catalog: watch::Sender<Option<Services>>,
    status: Status,
    stop: CancellationToken,
    tasks: (JoinHandle<anyhow::Result<()>>, JoinHandle<()>),
    /// Inputs that never change.
    _idle: (watch::Sender<Ages>, watch::Sender<Consumed>),
}

pub(crate) struct Player<'a> {
    memory: &'a Path,
    pub(crate) world: Shared,
    agent: Option<Agent>,
    pub(crate) offers: Offers,
    pub(crate) witness: Witness,
}

impl<'a> Player<'a> {
    fn new(seed: u64, memory: &'a Path, is_traced: bool) -> Self {
        let mut chance = Chance(!seed);
        let version = chance.of(&["2.6.12-1+deb12u2", "3.0.11-1+deb13u3", "3.0.11-1+deb13u3", "3.4.0-1"]);
        let world = Shared::new(chance, version, is_traced);
        Player { memory, world, agent: None, offers: Offers::new(), witness: Witness::default() }
    }

    fn start(&mut self, kind: usize) {
        let (catalog, services) = watch::channel(Some(self::catalog(&self.offers)));
        let (status, stop) = (Status::new("n"), CancellationToken::new());
        let node = Arc::new(Node { name: "n".into(), address: "10.0.0.1".into(), attributes: Attributes::new() });
        let renderer = Arc::new(Native(settings(kind), self.world.clone()));
        let (request, wanted) = watch::channel(0);
        let reloading = Arc::new(watch::channel(ReloadStatus::default()).0);
        let number = Arc::new(Mutex::new(0));
        let shown = Arc::clone(&reloading);
        let found = asked(&self.world.world().files).into_iter().map(|one| one.bind).collect();
        let engine = Engine {
            name: "haproxy".to_owned(),
            directory: "/simulated".to_owned(),
            output: Output::new("haproxy", renderer.clone(), Arc::clone(&node), status.clone()),
            linger: Linger::new(if simulated::has(Fault::NoLinger) { Duration::ZERO } else { LINGER }),
            saved_state: Some(SavedState::new(self.memory, "haproxy")),
            disk: SimulatedDisk { world: self.world.clone(), number: Arc::clone(&number), staged: None },
            speaker: Some((
                Speaker { renderer, node, runtime: Arc::new(self.world.clone()), name: "haproxy".to_owned() },
                RESYNC,
            )),
            request_reload: Box::new(move || {
                shown.send_modify(|status| status.wanted += 1);
                request.send_modify(|wanted| *wanted += 1);
            }),
            is_reloaded: true,
            reloads: reloading.subscribe(),
            found,
            pace: Pace { min: Duration::from_millis(100), max: Duration::from_secs(1) },
            status: status.clone(),
        };
        let (ages, consumed) = (watch::Sender::new(Ages::new()), watch::Sender::new(Consumed::new()));
        let selection = Selection::new(Filter::default());
        let inputs = Inputs { services, ages: ages.subscribe(), consumed: consumed.subscribe(), selection };
        let line = Reloads { world: self.world.clone(), wanted, status: reloading, files: number, stop: stop.clone() };
        self.world.world().is_excused = true;
        let tasks = (tokio::spawn(discover::run(engine, inputs, stop.clone())), tokio::spawn(reloads::run(line)));
        self.agent = Some(Agent { catalog, status, stop, tasks, _idle: (ages, consumed) });
    }

    async fn stop(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        agent.stop.cancel();
        let outcome = agent.tasks.0.await;
        if !matches!(outcome, Ok(Ok(()))) {
            self.world.world().violate(format!("the agent ended: {outcome:?}"));
        }
        agent.tasks.1.await.unwrap();
    }

    fn offer(&mut self) {
        self.witness.offered(&self.offers);
        if let Some(agent) = &self.agent {
            agent.catalog.send_replace(Some(catalog(&self.offers)));
        }
    }

    async fn happen(&mut self, event: &Event) {
        let until = |millis: &u64| Some(Instant::now() + Duration::from_millis(*millis));
        match event {
            Event::Offer(name, offer) => {
                self.offers.insert(name, offer.clone());
                self.offer();
            }
            Event::Leave(name) => {
                if self.offers.remove(name).is_some() {
                    self.witness.left(name);
                    self.offer();
                }
            }
            Event::Agent(pause, kind) => {
                self.stop().await;
                sleep(Duration::from_millis(*pause)).await;
                self.start(*kind);
            }
            Event::ProxyEnds => {
                let mut world = self.world.world();
                world.old = None;
                if world.process.take().is_some() {
                    self.world.ended.notify_one();
                }
            }
            Event::Cut(millis) => self.world.world().cut = until(millis),
            Event::Lose(millis) => self.world.world().losing = until(millis),
            Event::Reloads(mode, millis) => self.world.world().mode = until(millis).map(|until| (*mode, until)),
            Event::BaseRefused(millis) => self.world.world().base_refused = until(millis),
            Event::Take(port) => {
                let mut world = self.world.world();
                let is_bound = |process: &Process| process.ports().contains(port);
                let is_in_files = Process::load(&world.files).is_ok_and(|process| is_bound(&process));
                if !is_in_files && !world.process.as_ref().is_some_and(is_bound) {
                    world.taken.insert(*port);
                }
            }
            Event::Free => self.world.world().taken.clear(),
            Event::Open(millis) => {
                let mut world = self.world.world();
                let sections = world.process.iter_mut().flat_map(|process| process.sections.values_mut());
                for section in sections.filter(|section| section.servers.values().any(|server| server.admin == 0)) {
                    section.open = until(millis);
                    section.servers.values_mut().for_each(|server| server.busy = until(&(millis / 4)));
                }
            }
            Event::Quiet => self.quiet().await,
        }
    }

    /// Nothing goes wrong any more, and after a while all must be as it should.
    async fn quiet(&mut self) {
        {
            let mut world = self.world.world();
            (world.cut, world.losing, world.mode, world.base_refused) = (None, None, None, None);
        }
        sleep(Duration::from_secs(25)).await;
        let differences = self.differences();
        if differences.is_empty() {
            self.witness.lingers(&mut self.world.world());
        }
        sleep(Duration::from_mins(5)).await;
        let mut found = Vec::new();
        for _ in 0..4 {
            found = self.witness.settled(&mut self.world.world(), &self.offers, &self.differences());
            if found.is_empty() {
                break;
            }
            sleep(Duration::from_secs(97)).await;
        }
        let mut world = self.world.world();
        found.into_iter().for_each(|text| world.violate(text));
        self.witness.remember(&world, &self.offers);
    }

    fn differences(&self) -> Vec<String> {
        let Some(agent) = &self.agent else { return vec!["there is no agent".to_owned()] };
        let report = agent.status.report();
        let outputs: BTreeMap<_, _> = report.outputs;
        outputs.get("haproxy").map_or_else(|| vec!["it says nothing".to_owned()], |state| state.differences.clone())
    }
}

/// What differs between two sets, in words.
pub(crate) fn differing<T: Ord + std::fmt::Debug>(one: &BTreeSet<T>, other: &BTreeSet<T>) -> String {
    let only = |a: &BTreeSet<T>, b: &BTreeSet<T>| format!("{:?}", a.difference(b).collect::<Vec<_>>());
    format!("only here {}, only there {}", only(one, other), only(other, one))
}
