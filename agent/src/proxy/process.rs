//! Processes of this host, told apart by pid and start time, so that a reused pid is never taken for another.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, kill_process, kill_process_group};

use super::Signal;

/// How often a process that is no child of ours is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// A process, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Clock ticks between the start of the host and that of the process.
    pub(super) started: u64,
}

/// What `/proc/PID/stat` tells.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    zombie: bool,
    parent: u32,
    group: u32,
    started: u64,
}

impl Process {
    /// The living process with this pid.
    pub(super) fn find(pid: u32) -> Option<Self> {
        let stat = stat(pid)?;
        (!stat.zombie).then_some(Process { pid, started: stat.started })
    }

    /// A child of ours that nobody has waited for yet, alive or not.
    pub(super) fn spawned(pid: u32) -> Option<Self> {
        Some(Process { pid, started: stat(pid)?.started })
    }

    pub(super) fn is_alive(self) -> bool {
        Process::find(self.pid) == Some(self)
    }

    /// Sends a signal; tells what the system says when it cannot.
    pub(super) fn signal(self, signal: Signal) -> anyhow::Result<()> {
        let refused = || format!("cannot send {signal} to process {}; run the agent as a user who may", self.pid);
        if !self.is_alive() {
            return Err(anyhow::anyhow!("process {} has ended", self.pid));
        }
        let sent = pid(self.pid).map_or(Err(Errno::SRCH), |pid| kill_process(pid, signal.number()));
        sent.map_err(|error| anyhow::Error::new(error).context(refused()))
    }

    /// Its living children.
    pub(super) fn children(self) -> BTreeSet<Process> {
        let stats = all().filter(|(_, stat)| stat.parent == self.pid && !stat.zombie);
        stats.map(|(pid, stat)| Process { pid, started: stat.started }).collect()
    }

    /// Whether it is a proxy that is known to put new worker processes in the place of the old ones when it
    /// reloads, so that a reload without a new one did not happen.
    pub(super) fn renews_workers(self) -> bool {
        self.is_nginx() || stat(self.pid).is_some_and(|stat| stat.name.starts_with("haproxy"))
    }

    /// Whether it is called nginx.
    pub(super) fn is_nginx(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.name.starts_with("nginx"))
    }

    /// Waits until it ends.
    pub(super) async fn ended(self) {
        while self.is_alive() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Kills what is left of the process group that `leader` began.
pub(super) fn kill_group(leader: u32) {
    // A group keeps its number from being reused while it has members, so these are the leader's.
    if all().any(|(_, stat)| stat.group == leader && !stat.zombie)
        && let Some(group) = pid(leader)
        && let Err(error) = kill_process_group(group, rustix::process::Signal::KILL)
    {
        tracing::debug!(group = leader, %error, "the process group could not be killed");
    }
}

fn pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw)
}

fn all() -> impl Iterator<Item = (u32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?)))
}

fn stat(pid: u32) -> Option<Stat> {
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(text: &str) -> Option<Stat> {
    // The name may itself contain parentheses and blanks; the last one ends it.
    let (head, tail) = text.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    Some(Stat {
        name: name.to_owned(),
        zombie: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name() {
        let line = "42 (a) (b c) S 7 42 7 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 98765 1000 10 18446744073709551615";
        let stat = parse(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.zombie, stat.parent), ("a) (b c", false, 7));
        assert_eq!((stat.group, stat.started), (42, 98765));
        assert!(parse("42 (a) Z 7 42 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 5").unwrap().zombie);
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn this_process_is_found_and_another_start_time_is_not_it() {
        let own = Process::find(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!Process { started: own.started + 1, ..own }.is_alive());
    }
}
