//! Brings the files to what is accepted: compose, check, leave out who is to blame, put into place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use async_trait::async_trait;
use imbl::ordmap::DiffItem;
use tokio::time::Instant;
use tracing::info;

use super::state::{Job, Written};
use crate::model::Fragment;
use crate::output::files::Conflict;
use crate::output::{Accepted, Composer, Refusal, Served};
use crate::proxy::{Asked, Bind, Location, Verdict, asked};
use crate::simulated::{Fault, has};

/// Most checks of one turn. Finding one bad service among 1,000 takes 11; what is not found by then waits.
const CHECKS_LIMIT: usize = 64;
/// Longest search for who is to blame; what is not found by then waits.
const SEARCH_LIMIT: Duration = Duration::from_mins(1);
/// Least time that a check of a search may take.
const CHECK_LEAST: Duration = Duration::from_secs(2);

/// What a set of files turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub enum Candidate {
    /// The disk has exactly this.
    Unchanged,
    /// The proxy would take it.
    Valid,
    /// The proxy would refuse it.
    Invalid(Verdict),
    /// Files that cannot be side by side, and why.
    Clash(Vec<String>, String),
}

/// Where files are checked and put into place.
#[async_trait]
pub trait Disk: Send {
    /// Checks a complete set of files; `new` are lines that ask for addresses the proxy does not listen on. A check that
    /// takes longer than `limit` refuses them.
    async fn check(
        &mut self,
        files: &BTreeMap<String, Arc<str>>,
        new: Vec<Asked>,
        limit: Option<Duration>,
    ) -> Result<Candidate>;

    /// Puts the files that were checked last into place, unless the disk has them; gives their number.
    async fn commit(&mut self) -> Result<u64>;
}

/// The files of one output.
pub(super) struct Writer<D> {
    name: String,
    disk: D,
    composer: Composer,
    /// What the files bind that were checked last.
    binds: BTreeSet<Bind>,
    /// How long a check took that the files passed.
    took: Duration,
}

/// What became of a set of files.
pub(super) struct Outcome {
    /// What is in place now, or why nothing could be put there.
    pub written: Result<Arc<Written>>,
    /// Services that are not in it as they were to be.
    pub refusals: BTreeMap<Arc<str>, Refusal>,
    /// Fragments of the base that are not in it, and why.
    pub left_out: BTreeMap<String, String>,
    /// Services that lose a fragment to another one.
    pub conflicts: BTreeMap<String, Conflict>,
}

/// One set of files on its way to the disk.
struct Turn {
    job: Job,
    /// What is tried.
    services: Accepted,
    base: Vec<Fragment>,
    refusals: BTreeMap<Arc<str>, Refusal>,
    left_out: BTreeMap<String, String>,
    checks: usize,
    began: Instant,
}

impl<D: Disk> Writer<D> {
    /// A writer that knows of no files yet.
    pub(super) fn new(name: &str, disk: D) -> Self {
        let took = Duration::from_millis(100);
        Writer { name: name.to_owned(), disk, composer: Composer::default(), binds: BTreeSet::new(), took }
    }

    /// Writes what a job says, without what is refused.
    pub(super) async fn write(&mut self, job: Job) -> Outcome {
        let (services, base) = (job.services.clone(), job.base.to_vec());
        let (refusals, left_out) = (BTreeMap::new(), BTreeMap::new());
        let mut turn = Turn { job, services, base, refusals, left_out, checks: 0, began: Instant::now() };
        let written = self.settle(&mut turn).await;
        if turn.checks > 1 {
            let (services, checks) = (turn.refusals.len(), turn.checks);
            info!(output = self.name, services, checks, "check refused some services; wrote the others");
        }
        let conflicts = self.composer.files().conflicts();
        Outcome { written, refusals: turn.refusals, left_out: turn.left_out, conflicts }
    }

    async fn settle(&mut self, turn: &mut Turn) -> Result<Arc<Written>> {
        while turn.checks < CHECKS_LIMIT {
            let (text, locations) = match self.candidate(turn, None).await? {
                Candidate::Invalid(Verdict::Invalid { text, locations, .. }) => (text, locations),
                Candidate::Clash(paths, text) => {
                    let at = self.yielding(turn, &paths).map(|path| Location {
                        path,
                        line: 1,
                        text: text.clone(),
                        is_transient: true,
                    });
                    (text, at.into_iter().collect())
                }
                _ => return self.commit(turn).await,
            };
            if !self.blame(turn, &locations) {
                self.search(turn, &text, &locations).await?;
                return self.commit(turn).await;
            }
        }
        bail!("after {CHECKS_LIMIT} checks, each with one more service left out, the files are still refused")
    }

    /// Of files that cannot be side by side, the one that gives way: not the base's, rather one that a service changed
    /// than one that was good before, and the last by the name of its service.
    fn yielding(&self, turn: &Turn, paths: &[String]) -> Option<String> {
        let rank = |path: &&String| {
            let name = self.composer.files().service_at(path, 1).filter(|_| !self.composer.files().is_common(path, 1));
            let is_new = name.is_some_and(|name| turn.job.good.get(name) != turn.services.get(name));
            (name.is_some(), is_new, name.map(str::to_owned))
        };
        paths.iter().max_by_key(rank).cloned()
    }

    /// Takes out fragments of the base whose address somebody else has; false when there are none.
    fn leave_out(&self, turn: &mut Turn, locations: &[Location]) -> bool {
        let mut found = false;
        for at in locations.iter().filter(|at| at.is_transient) {
            let Some(fragment) = self.composer.files().base_fragment_at(&at.path, at.line) else { continue };
            let reason = format!("{} ({} line {})", at.text, at.path, at.line);
            turn.base.retain(|other| (&other.path, &other.key) != (&fragment.path, &fragment.key));
            found |= turn.left_out.insert(fragment.key, reason).is_none();
        }
        found
    }

    /// Takes out what the check found fault with; false when it names nobody.
    fn blame(&self, turn: &mut Turn, locations: &[Location]) -> bool {
        let mut found = self.leave_out(turn, locations);
        for at in locations {
            let reason = || format!("{} ({} line {})", at.text, at.path, at.line);
            if at.is_transient && self.composer.files().base_fragment_at(&at.path, at.line).is_some() {
                continue;
            }
            if has(Fault::BaseIsBlamed) && self.composer.files().is_common(&at.path, at.line) {
                let all: Vec<_> = turn.services.keys().cloned().collect();
                found |= all.iter().any(|name| turn.refuse(name, reason(), at.is_transient));
                continue;
            }
            let name = self
                .composer
                .files()
                .service_at(&at.path, at.line)
                .filter(|_| !self.composer.files().is_common(&at.path, at.line));
            if let Some(name) = name.map(Arc::<str>::from) {
                found |= turn.refuse(&name, reason(), at.is_transient);
            }
        }
        found
    }

    /// Finds by halves who is to blame when the check names nobody, and takes them out.
    ///
    /// # Errors
    /// When what no service wrote is refused by itself.
    async fn search(&mut self, turn: &mut Turn, reason: &str, locations: &[Location]) -> Result<()> {
        let all = turn.services.clone();
        let good = turn.job.good.clone();
        // Those that were refused before are the likeliest.
        if !turn.job.retried.is_empty() {
            let before = turn.refusals.clone();
            turn.job.retried.clone().iter().for_each(|name| _ = turn.refuse(name, reason.trim().to_owned(), true));
            if self.passes(turn).await? {
                return Ok(());
            }
            turn.refusals = before;
        }
        turn.services = good.clone();
        if !self.passes(turn).await? {
            turn.services = Accepted::new();
            if !self.passes(turn).await? {
                bail!("{}", self.fault(turn, locations, reason));
            }
        }
        let mut groups = halves(&differing(&turn.services, &all));
        while let Some(group) = groups.pop() {
            let before = turn.services.clone();
            for name in &group {
                set(&mut turn.services, name, all.get(name));
            }
            if self.passes(turn).await? {
                continue;
            }
            turn.services = before;
            let is_over = turn.checks >= CHECKS_LIMIT || turn.began.elapsed() > SEARCH_LIMIT;
            if group.len() == 1 || is_over {
                let waits = if is_over { "one of several is to blame, and all wait: " } else { "" };
                let name_all = group.iter().chain(groups.iter().flatten().filter(|_| is_over));
                for name in name_all {
                    let (version, instead) = (turn.job.services.get(name).cloned(), turn.services.get(name).cloned());
                    // That it leaves is refused for what still asks for it.
                    let reason = if version.is_none() { &self.fault(turn, locations, reason) } else { reason };
                    let reason = format!("{waits}{}", reason.trim());
                    turn.refusals.insert(Arc::clone(name), Refusal { version, instead, reason, is_transient: true });
                }
                if is_over {
                    break;
                }
            } else {
                groups.extend(halves(&group));
            }
        }
        turn.refusals.keys().cloned().collect::<Vec<_>>().iter().for_each(|name| turn.give_way(name));
        if self.passes(turn).await? { Ok(()) } else { bail!("{}", self.fault(turn, locations, reason)) }
    }

    /// Says what is refused that no service wrote: the line, when the check named one or quotes it.
    fn fault(&mut self, turn: &Turn, locations: &[Location], reason: &str) -> String {
        let files = self.composer.compose(&turn.base, &turn.services).files;
        let line = |at: &Location| {
            let fragment = self.composer.files().base_fragment_at(&at.path, at.line)?;
            Some(format!(
                "{} line {}, {:?}, which no service wrote, is refused: {}",
                at.path, at.line, fragment.text, at.text
            ))
        };
        let named = locations.iter().find_map(line).or_else(|| quoted(&files, reason).iter().find_map(line));
        named.unwrap_or_else(|| format!("the files are refused, and no service is to blame: {}", reason.trim()))
    }

    async fn passes(&mut self, turn: &mut Turn) -> Result<bool> {
        let limit = (4 * self.took).max(CHECK_LEAST);
        loop {
            match self.candidate(turn, Some(limit)).await? {
                Candidate::Valid | Candidate::Unchanged => return Ok(true),
                // The proxy's own check comes before its addresses are tried, so this was not known yet.
                Candidate::Invalid(Verdict::Invalid { locations, .. }) if self.leave_out(turn, &locations) => {}
                _ => return Ok(false),
            }
        }
    }

    async fn candidate(&mut self, turn: &mut Turn, limit: Option<Duration>) -> Result<Candidate> {
        let files = self.composer.compose(&turn.base, &turn.services).files;
        let mut new = asked(&files);
        self.binds = new.iter().map(|one| one.bind).collect();
        new.retain(|one| !one.bind.is_among(&turn.job.binds));
        turn.checks += 1;
        let began = Instant::now();
        let candidate = self.disk.check(&files, new, limit).await?;
        if candidate == Candidate::Valid {
            self.took = began.elapsed();
        }
        Ok(candidate)
    }

    async fn commit(&mut self, turn: &Turn) -> Result<Arc<Written>> {
        let number = self.disk.commit().await?;
        let binds = self.binds.clone();
        let left_out: BTreeSet<String> = turn.left_out.keys().cloned().collect();
        let (services, base) = (turn.services.clone(), Arc::clone(&turn.job.base));
        Ok(Arc::new(Written { number, services, base, left_out, binds }))
    }
}

impl Turn {
    /// Puts a service back to what is good, or takes it out when it is that already; false when there is nothing to take.
    fn refuse(&mut self, name: &Arc<str>, reason: String, is_transient: bool) -> bool {
        let Some(tried) = self.services.get(name).cloned() else { return false };
        // One that is only in the running proxy yet goes back to how it came.
        let good = self.job.good.get(name).or_else(|| self.job.earlier.get(name)).cloned();
        let instead = good.filter(|good| *good != tried);
        set(&mut self.services, name, instead.as_ref());
        let version = self.job.services.get(name).cloned();
        self.refusals.insert(Arc::clone(name), Refusal { version, instead, reason, is_transient });
        self.give_way(name);
        true
    }

    /// Takes back who was to have what a service needs that stays as it was.
    fn give_way(&mut self, name: &Arc<str>) {
        let Some(stays) = self.services.get(name).cloned() else { return };
        let is_rival = |(other, served): &(&Arc<str>, &Arc<Served>)| *other != name && served.rivals(&stays);
        let rivals: Vec<_> = self.services.iter().filter(is_rival).map(|(other, _)| Arc::clone(other)).collect();
        for rival in rivals {
            self.refuse(&rival, format!("service {name} stays as it was, and keeps what this one would have"), true);
        }
    }
}

/// The lines all of whose words are in one sentence of a check that names no line, as in `unable to find required
/// default_backend: 'shop'`.
fn quoted(files: &BTreeMap<String, Arc<str>>, reason: &str) -> Vec<Location> {
    let bare = |word: &str| word.trim_matches(['\'', '"', ':', ',', '.', '(', ')']).to_owned();
    let said = reason.lines().filter(|said| !said.contains("[NOTICE]") && !said.contains("[WARNING]"));
    let said: Vec<(&str, BTreeSet<String>)> =
        said.map(|said| (said, said.split_whitespace().map(bare).collect())).collect();
    let mut locations = Vec::new();
    for (path, text) in files {
        for (index, line) in text.lines().enumerate().filter(|(_, line)| line.split_whitespace().count() > 1) {
            let by = said.iter().find(|(_, words)| line.split_whitespace().all(|word| words.contains(&bare(word))));
            locations.extend(by.map(|(said, _)| Location {
                path: path.clone(),
                line: index + 1,
                text: said.trim().to_owned(),
                is_transient: false,
            }));
        }
    }
    locations
}

fn set(services: &mut Accepted, name: &Arc<str>, served: Option<&Arc<Served>>) {
    match served {
        Some(served) => _ = services.insert(Arc::clone(name), Arc::clone(served)),
        None => _ = services.remove(name),
    }
}

fn differing(one: &Accepted, other: &Accepted) -> Vec<Arc<str>> {
    let name = |change: DiffItem<'_, '_, Arc<str>, _>| match change {
        DiffItem::Add(name, _) | DiffItem::Update { new: (name, _), .. } | DiffItem::Remove(name, _) => {
            Arc::clone(name)
        }
    };
    one.diff(other).map(name).collect()
}

fn halves(group: &[Arc<str>]) -> Vec<Vec<Arc<str>>> {
    let (left, right) = group.split_at(group.len() / 2);
    [left, right].into_iter().filter(|half| !half.is_empty()).map(<[_]>::to_vec).collect()
}
