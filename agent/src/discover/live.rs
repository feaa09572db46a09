//! Brings a running proxy after the catalog over its control socket, without a reload and before the files follow.
//!
//! What counts is what the proxy says it runs: it is asked about every service that changed, told what the plugin
//! makes of its answers, and asked again until nothing is left to say. After a start and a reload it is asked about
//! all services, so a command that was lost, a crash or a hand on the socket heals. What cannot be done this way is
//! owed to a reload.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use imbl::ordmap::DiffItem;
use tokio::time::Instant;
use tracing::{debug, info};

use crate::backoff::Backoff;
use crate::model::{Change, Node, Reaction, Services};
use crate::output::Kept;
use crate::plugin::{CallError, Plugin};
use crate::proxy::Socket;
use crate::status::Status;

/// Most rounds of questions and commands about one change; removing a server and adding its successor takes three.
const ROUNDS: usize = 5;
/// Most services, and most of their instances, that the plugin is asked about at once.
const BATCH: (usize, usize) = (32, 4_000);
/// Most services of one look at what the proxy runs: a change that comes meanwhile waits for its end.
const LOOK: usize = 8;
/// Most questions, and most commands, of one round.
const LINES_LIMIT: usize = 20_000;
/// How often the proxy is asked about a service whose state it cannot explain before that costs a reload: an old
/// process may go on answering for a moment after a reload.
const LOOKS: u8 = 3;
/// Time between two such looks.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// What bringing a proxy along needs of the outside.
pub struct LiveOptions {
    /// An output that exports `live`.
    pub plugin: Plugin,
    /// This host.
    pub node: Arc<Node>,
    /// The proxy's control socket.
    pub socket: Socket,
    /// How often the proxy is asked about all services though nothing changed.
    pub resync: Duration,
}

/// How a conversation about some services ended.
enum End {
    /// The proxy has them as they are wanted.
    Settled {
        /// A reload soon would be good.
        reload_soon: bool,
    },
    /// Only a reload helps.
    Reload,
    /// The plugin refused them.
    Refused,
}

/// A reload that is owed.
#[derive(Default)]
struct Debt {
    is_owed: bool,
    /// It is to put right what the proxy runs, and may be in vain.
    puts_right: bool,
}

/// A running proxy and what it was told.
pub(super) struct Live {
    options: LiveOptions,
    place: String,
    status: Status,
    /// It has been told what is wanted.
    has_begun: bool,
    /// Services as they were last brought to the proxy.
    running: Services,
    /// Services that are to be asked about though they did not change, and how often they were.
    unsure: BTreeMap<Arc<str>, u8>,
    /// Services that the plugin refused to bring, which matters when the files have them.
    refused: BTreeSet<Arc<str>>,
    /// The reload that is to follow the files.
    reload: Debt,
    /// The proxy reloaded once, so its socket must be there.
    was_reloaded: bool,
    /// Pauses while nobody answers.
    away: Backoff,
    /// Pauses after a reload that was to put right what the proxy runs, so that one in vain is not followed by many.
    patience: Backoff,
    /// When those it is unsure of are asked about next.
    look_at: Instant,
    /// Services that it brought to the proxy without a reload.
    brought: u64,
}

impl Live {
    pub(super) fn new(options: LiveOptions, place: &str, status: Status) -> Self {
        let look_at = Instant::now() + options.resync;
        Live {
            options,
            place: place.to_owned(),
            status,
            has_begun: false,
            running: Services::new(),
            unsure: BTreeMap::new(),
            refused: BTreeSet::new(),
            reload: Debt::default(),
            was_reloaded: false,
            away: Backoff::new(Duration::from_millis(500), Duration::from_secs(30)),
            patience: Backoff::new(Duration::from_secs(1), Duration::from_mins(10)),
            look_at,
            brought: 0,
        }
    }

    /// Services that it brought to the proxy without a reload.
    pub(super) fn brought(&self) -> u64 {
        self.brought
    }

    /// Whether a reload is to follow the files.
    pub(super) fn owes_reload(&self) -> bool {
        self.reload.is_owed
    }

    /// The reload that is owed, which the caller now sees to.
    pub(super) fn take_reload(&mut self) -> bool {
        std::mem::take(&mut self.reload.is_owed)
    }

    /// Brings what changed to the proxy; services that the files do not follow stay as they are there.
    pub(super) async fn bring(&mut self, wanted: &Services, kept: &Kept) {
        let mut changes = Vec::new();
        for difference in self.running.diff(wanted) {
            let (name, wanted) = match difference {
                DiffItem::Add(name, service) | DiffItem::Update { new: (name, service), .. } => (name, Some(service)),
                DiffItem::Remove(name, _) => (name, None),
            };
            let after = kept.get(name).cloned().unwrap_or_else(|| wanted.cloned());
            let before = self.running.get(name).cloned();
            if before != after {
                changes.push((Arc::clone(name), Change { before, after }));
            }
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            // The first files are followed by a reload, and until then all of it is looked at, which lets changes pass.
            self.running = changes.into_iter().filter_map(|(name, change)| Some((name, change.after?))).collect();
            return self.doubt_all();
        }
        let mut is_away = false;
        for batch in batches(&changes) {
            let ended = if is_away { None } else { self.converse_about(batch).await };
            is_away = ended.is_none();
            for (name, change) in batch {
                match change.after.clone() {
                    Some(service) => _ = self.running.insert(Arc::clone(name), service),
                    None => _ = self.running.remove(name),
                }
                self.unsure.remove(name);
                self.refused.remove(name);
            }
            // Whoever answers next is asked about everything; until then the files and a reload do it.
            self.reload.is_owed |= is_away;
            ended.into_iter().flatten().for_each(|(name, end)| self.brought_about(name, &end));
        }
    }

    fn brought_about(&mut self, name: Arc<str>, end: &End) {
        match end {
            End::Settled { reload_soon } => {
                info!(service = &*name, "{}: the proxy has taken the change up without a reload", self.place);
                self.brought += 1;
                self.reload.is_owed |= reload_soon;
            }
            End::Reload => {
                info!(service = &*name, "{}: this change takes a reload", self.place);
                self.reload.is_owed = true;
            }
            End::Refused => _ = self.refused.insert(name),
        }
    }

    /// The files are in place; what they took and the plugin refused to bring needs a reload.
    pub(super) fn written(&mut self, kept: &Kept) {
        let refused = std::mem::take(&mut self.refused);
        self.reload.is_owed |= refused.iter().any(|name| !kept.contains_key(name));
    }

    /// The proxy started or reloaded, so nothing is known of what it runs.
    pub(super) fn reloaded(&mut self) {
        self.was_reloaded = true;
        self.doubt_all();
        if std::mem::take(&mut self.reload.puts_right) {
            self.look_at += self.patience.next_delay();
        }
    }

    fn doubt_all(&mut self) {
        self.unsure = self.running.keys().map(|name| (Arc::clone(name), 0)).collect();
        self.look_at = Instant::now();
    }

    /// When [`Live::look`] is due.
    pub(super) fn due(&self) -> Instant {
        self.look_at
    }

    /// Asks the proxy about some of the services it is unsure of, and about all of them from time to time.
    pub(super) async fn look(&mut self) {
        if self.unsure.is_empty() {
            self.doubt_all();
        }
        let named = self.unsure.keys().take(LOOK).cloned();
        let named: Vec<_> = named
            .map(|name| {
                let service = self.running.get(&name).cloned();
                (name, Change { before: service.clone(), after: service })
            })
            .collect();
        let batch = batches(&named).first().copied().unwrap_or_default();
        let Some(ended) = self.converse_about(batch).await else {
            self.look_at = Instant::now() + self.away.next_delay();
            return;
        };
        self.away.reset();
        let mut again = false;
        for (name, end) in ended {
            let looks = self.unsure.remove(&name).unwrap_or_default() + 1;
            match end {
                End::Settled { reload_soon } => self.reload.is_owed |= reload_soon,
                End::Reload | End::Refused if looks < LOOKS => {
                    again = true;
                    self.unsure.insert(name, looks);
                }
                End::Reload | End::Refused => {
                    info!(service = &*name, "{}: the proxy runs something else, and this takes a reload", self.place);
                    self.reload.is_owed = true;
                    self.reload.puts_right = true;
                }
            }
        }
        let done = self.unsure.is_empty();
        if done && !self.reload.puts_right {
            self.patience.reset();
        }
        self.look_at = Instant::now()
            + match () {
                () if again => LOOK_AGAIN,
                () if done => self.options.resync,
                () => Duration::ZERO,
            };
    }

    /// How each of these ended; none when the proxy cannot be spoken to.
    async fn converse_about(&self, batch: &[(Arc<str>, Change)]) -> Option<Vec<(Arc<str>, End)>> {
        let ended = self.converse_or_split(batch).await;
        match ended {
            Ok(ended) => {
                self.status.resolved(&self.place, "control socket");
                Some(ended)
            }
            // Before the first reload there may be no proxy yet.
            Err(error) if self.was_reloaded => {
                let text = format!("changes wait for a reload: {error:#}");
                self.status.problem(&self.place, "control socket", text);
                None
            }
            Err(_) => None,
        }
    }

    /// All at once, and each alone when one of them is in the way of the others.
    async fn converse_or_split(&self, batch: &[(Arc<str>, Change)]) -> anyhow::Result<Vec<(Arc<str>, End)>> {
        let all = batch.iter().map(|(_, change)| change.clone()).collect();
        if let End::Settled { reload_soon } = self.converse(all).await? {
            return Ok(batch.iter().map(|(name, _)| (Arc::clone(name), End::Settled { reload_soon })).collect());
        }
        let mut ended = Vec::with_capacity(batch.len());
        for (name, change) in batch {
            ended.push((Arc::clone(name), self.converse([change.clone()].into()).await?));
        }
        Ok(ended)
    }

    async fn converse(&self, changes: Arc<[Change]>) -> anyhow::Result<End> {
        let LiveOptions { plugin, node, socket, .. } = &self.options;
        let mut soon = false;
        for _ in 0..ROUNDS {
            let questions = match plugin.questions(&changes).await {
                Ok(questions) => questions,
                Err(error) => return Ok(self.refusal(&error)),
            };
            if questions.len() > LINES_LIMIT {
                return Ok(End::Reload);
            }
            let answers = socket.ask(&questions).await?;
            match plugin.react(node, &changes, answers).await {
                Ok(Reaction::Commands { commands, .. }) if commands.len() > LINES_LIMIT => return Ok(End::Reload),
                Ok(Reaction::Commands { commands, reload_soon }) => {
                    soon |= reload_soon;
                    if commands.is_empty() {
                        return Ok(End::Settled { reload_soon: soon });
                    }
                    // Whether a command did what it should is what the next questions tell.
                    for command in &commands {
                        match socket.say(command).await {
                            Ok(answer) => debug!(command, answer = answer.trim(), "{}", self.place),
                            Err(error) => debug!(command, error = %format_args!("{error:#}"), "{}", self.place),
                        }
                    }
                }
                Ok(Reaction::Reload) => return Ok(End::Reload),
                Err(error) => return Ok(self.refusal(&error)),
            }
        }
        debug!(services = changes.len(), rounds = ROUNDS, "{}: it did not settle", self.place);
        Ok(End::Reload)
    }

    fn refusal(&self, error: &CallError) -> End {
        debug!(%error, "{}: the plugin does not bring it", self.place);
        if matches!(error, CallError::Refused(_)) { End::Refused } else { End::Reload }
    }
}

/// Pieces of which none is too much for one call.
fn batches(mut rest: &[(Arc<str>, Change)]) -> Vec<&[(Arc<str>, Change)]> {
    let weight = |change: &Change| -> usize {
        [&change.before, &change.after].into_iter().flatten().map(|service| service.instances.len()).sum()
    };
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let mut instances = 0;
        let fits = rest.iter().take(BATCH.0).take_while(|(_, change)| {
            instances += weight(change);
            instances <= BATCH.1
        });
        let (batch, later) = rest.split_at(fits.count().max(1));
        batches.push(batch);
        rest = later;
    }
    batches
}
