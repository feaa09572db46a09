//! The simulated world of one agent: its disk, its proxy, and what goes wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use waypost::discover::{Candidate, Disk, Runtime};
use waypost::proxy::{Asked, Location, Verdict};

use crate::chance::Chance;
use crate::process::{FileSet, Process};
use crate::socket;

/// What becomes of reloads for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They succeed, slowly.
    Slow,
    /// The proxy refuses them.
    Refused,
    /// They do not end.
    Hanging,
    /// They succeed and are reported to have failed.
    Unreported,
    /// They are reported to have succeeded, and nothing happened.
    Lost,
}

/// All there is beside the agent.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) files: FileSet,
    /// Processes that were started.
    pids: u32,
    /// The process that has the listeners.
    pub(crate) process: Option<Process>,
    /// One that still answers on the socket until then.
    pub(crate) old: Option<(Process, Instant)>,
    /// Ports that somebody else has.
    pub(crate) taken: BTreeSet<u16>,
    pub(crate) cut: Option<Instant>,
    pub(crate) losing: Option<Instant>,
    pub(crate) mode: Option<(Mode, Instant)>,
    /// The own proxy is taken for somebody else.
    pub(crate) is_own_unknown: bool,
    /// A line that no service wrote is refused until then.
    pub(crate) base_refused: Option<Instant>,
    pub(crate) version: &'static str,
    pub(crate) chance: Chance,
    /// When it began.
    pub(crate) began: Instant,
    /// What happened, with times.
    pub(crate) trace: Vec<String>,
    /// What must not happen.
    pub(crate) violations: Vec<String>,
    /// Whether a reload that brings nothing may be for what is not known to the agent.
    pub(crate) is_excused: bool,
    /// When the socket was last away or a command was lost.
    pub(crate) troubled: Option<Instant>,
    pub(crate) is_traced: bool,
}

/// The world, shared.
#[derive(Clone)]
pub(crate) struct Shared {
    world: Arc<Mutex<World>>,
    /// The proxy ended by itself.
    pub(crate) ended: Arc<Notify>,
}

fn is_on(until: Option<Instant>) -> bool {
    until.is_some_and(|until| until > Instant::now())
}

impl World {
    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.is_traced {
            let at = self.began.elapsed().as_secs_f64();
            self.trace.push(format!("{at:9.3} {}", text()));
        }
    }

    pub(crate) fn violate(&mut self, text: String) {
        if !self.violations.contains(&text) {
            self.note(|| format!("VIOLATION {text}"));
            self.violations.push(text);
        }
    }

    /// How reloads go now.
    pub(crate) fn mode(&self) -> Option<Mode> {
        self.mode.filter(|(_, until)| is_on(Some(*until))).map(|(mode, _)| mode)
    }

    /// A new process takes up the files, while an old one, if there is any, may go on answering for a moment.
    pub(crate) fn load(&mut self, lingers: Duration) -> Result<(), String> {
        let process = match Process::load(&self.files) {
            Ok(process) => process,
            Err((line, text)) => {
                let text = format!("the files in location are invalid: line {line}: {text}");
                self.violate(text.clone());
                return Err(text);
            }
        };
        self.pids += 1;
        let process = Process { pid: self.pids, ..process };
        let had = self.process.as_ref().map(Process::ports).unwrap_or_default();
        if let Some(port) = process.ports().iter().find(|port| self.taken.contains(port) && !had.contains(port)) {
            return Err(format!("cannot bind {port}"));
        }
        let before = self.process.replace(process);
        if let Some(before) = before {
            self.is_needed(&before);
            self.old = Some((before, Instant::now() + lingers));
        }
        self.note(|| "the proxy loads the files".to_owned());
        Ok(())
    }

    /// Whether a reload did something that cannot be done live.
    fn is_needed(&mut self, before: &Process) {
        let Some(after) = &self.process else { return };
        let (one, other) = (before.structure(), after.structure());
        let trouble = self.troubled.is_some_and(|at| at.elapsed() < Duration::from_secs(45));
        let excused = std::mem::replace(&mut self.is_excused, false);
        if one == other && before.view() == after.view() && !trouble && !excused {
            self.violate("a reload was in vain: it changed nothing".to_owned());
        }
    }

    /// The process that answers on the socket.
    fn answering(&mut self) -> Option<&mut Process> {
        match &mut self.old {
            Some((old, until)) if *until > Instant::now() => Some(old),
            _ => self.process.as_mut(),
        }
    }

    /// What the check says of files.
    fn check(&self, files: &FileSet, new: &[Asked]) -> Check {
        let text = files.get("haproxy.cfg").map(std::string::ToString::to_string).unwrap_or_default();
        let location = |line: usize, text: &str, is_transient| Location {
            path: "haproxy.cfg".to_owned(),
            line,
            text: text.to_owned(),
            is_transient,
        };
        let line = |word: &str| text.lines().position(|line| line.ends_with(word)).map(|index| index + 1);
        if is_on(self.base_refused) {
            return Check::Refused(
                line("frontend http-in").map(|at| location(at, "bad frontend", false)).into_iter().collect(),
            );
        }
        if let Some(at) = line(" weight 13") {
            return Check::Refused(vec![location(at, "unlucky weight", false)]);
        }
        if line(" weight 14").is_some() {
            return Check::Refused(Vec::new());
        }
        if line(" weight 15").is_some() {
            return Check::Hangs;
        }
        let had = self.process.as_ref().map(Process::ports).unwrap_or_default();
        let is_taken = |one: &&Asked| {
            let line = files.get(&one.path).and_then(|text| text.lines().nth(one.line - 1)).unwrap_or_default();
            let ports = line.split([':', ',']).filter_map(|word| word.trim().parse::<u16>().ok());
            ports.into_iter().any(|port| {
                (self.taken.contains(&port) && !had.contains(&port)) || (self.is_own_unknown && had.contains(&port))
            })
        };
        let taken: Vec<Location> =
            new.iter().filter(is_taken).map(|one| location(one.line, "cannot bind", true)).collect();
        if taken.is_empty() { Check::Passes } else { Check::Refused(taken) }
    }
}

enum Check {
    Passes,
    Refused(Vec<Location>),
    Hangs,
}

impl Shared {
    pub(crate) fn new(chance: Chance, version: &'static str, is_traced: bool) -> Self {
        let world = World {
            files: FileSet::new(),
            pids: 0,
            process: None,
            old: None,
            taken: BTreeSet::new(),
            cut: None,
            losing: None,
            mode: None,
            is_own_unknown: false,
            base_refused: None,
            version,
            chance,
            began: Instant::now(),
            trace: Vec::new(),
            violations: Vec::new(),
            is_excused: false,
            troubled: None,
            is_traced,
        };
        Shared { world: Arc::new(Mutex::new(world)), ended: Arc::default() }
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// Some time between none and `most`.
    pub(crate) fn some(&self, most: u64) -> Duration {
        Duration::from_millis(self.world().chance.below(most + 1))
    }
}

#[async_trait]
impl Runtime for Shared {
    async fn ask(&self, queries: &[String]) -> Result<Vec<String>> {
        sleep(self.some(2)).await;
        let mut answers = Vec::new();
        for query in queries {
            answers.push(self.world().answer(query)?);
        }
        Ok(answers)
    }

    async fn say(&self, line: &str) -> Result<String> {
        sleep(self.some(2)).await;
        let mut world = self.world();
        let mut is_lost = false;
        if is_on(world.losing) {
            is_lost = world.chance.once_in(2);
            if is_lost {
                world.troubled = Some(Instant::now());
            }
            if is_lost && world.chance.once_in(2) {
                world.note(|| format!("lost: {line}"));
                bail!("lost");
            }
        }
        world.note(|| format!("said: {line}"));
        let answer = world.answer(line)?;
        ensure!(!is_lost, "the answer is lost");
        Ok(answer)
    }
}

impl World {
    fn answer(&mut self, line: &str) -> Result<String> {
        if is_on(self.cut) || self.process.is_none() {
            self.troubled = Some(Instant::now());
            bail!("nobody answers");
        }
        let version = self.version;
        let mut faults = Vec::new();
        let Some(process) = self.answering() else { bail!("nobody answers") };
        let answer = line.split("; ").map(|one| socket::answer(process, version, one, &mut faults) + "\n").collect();
        faults.into_iter().for_each(|fault| self.violate(fault));
        Ok(answer)
    }
}

/// The disk of one agent.
pub(crate) struct SimulatedDisk {
    pub(crate) world: Shared,
    pub(crate) number: Arc<tokio::sync::Mutex<u64>>,
    pub(crate) staged: Option<BTreeMap<String, Arc<str>>>,
}

/// Longest time that a check may take.
const CHECK_LIMIT: Duration = Duration::from_secs(10);

#[async_trait]
impl Disk for SimulatedDisk {
    async fn check(
        &mut self,
        files: &BTreeMap<String, Arc<str>>,
        new: Vec<Asked>,
        limit: Option<Duration>,
    ) -> Result<Candidate> {
        self.staged = None;
        let is_same = self.world.world().files == *files;
        if is_same && limit.is_none() {
            return Ok(Candidate::Unchanged);
        }
        sleep(Duration::from_millis(5) + self.world.some(40)).await;
        let new = if is_same { Vec::new() } else { new };
        // HAProxy takes a port twice without a word, and no name.
        let invalid = Process::load(files).err().filter(|(_, text)| !text.contains("bound twice"));
        let check = match invalid {
            Some((line, text)) => {
                let path = "haproxy.cfg".to_owned();
                Check::Refused(vec![Location { path, line, text, is_transient: false }])
            }
            None => self.world.world().check(files, &new),
        };
        let (locations, overdue) = match check {
            Check::Passes if is_same => return Ok(Candidate::Unchanged),
            Check::Passes => {
                self.staged = Some(files.clone());
                return Ok(Candidate::Valid);
            }
            Check::Refused(locations) => (locations, false),
            Check::Hangs => {
                sleep(limit.unwrap_or(CHECK_LIMIT).min(CHECK_LIMIT)).await;
                (Vec::new(), true)
            }
        };
        let text = locations.iter().map(|location| location.text.as_str()).collect::<Vec<_>>().join("; ");
        self.world.world().note(|| format!("refused: {locations:?}"));
        if overdue && waypost::simulated::has(waypost::simulated::Fault::HangingIsNoVerdict) {
            bail!("the check took too long");
        }
        Ok(Candidate::Invalid(Verdict::Invalid { text: format!("refused {text}"), locations, overdue }))
    }

    async fn commit(&mut self) -> Result<u64> {
        let mut number = self.number.lock().await;
        let Some(files) = self.staged.take() else { return Ok(*number) };
        let mut world = self.world.world();
        if world.files != files {
            *number += 1;
            if let Err((line, text)) = Process::load(&files) {
                world.violate(format!("files that are invalid are written: line {line}: {text}"));
            }
            world.files = files;
            world.note(|| format!("files {} are written", *number));
        }
        Ok(*number)
    }
}
