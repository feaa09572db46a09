//! Processes of this host, told apart by pid and start time, so that a reused pid is never taken for another.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::Duration;

use procfs::process::{Stat, all_processes};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, kill_process, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Signal;
use crate::dialect::Program;

/// How often a process is looked at where the kernel does not tell when it ends (before Linux 5.3).
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// A process, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Clock ticks between the start of the host and that of the process.
    pub(super) started: u64,
}

impl Process {
    /// The living process with this pid.
    pub(super) fn find(pid: u32) -> Option<Self> {
        let stat = stat(pid).filter(is_living)?;
        Some(Process { pid, started: stat.starttime })
    }

    /// A child of ours that nobody has waited for yet, alive or not.
    pub(super) fn spawned(pid: u32) -> Option<Self> {
        Some(Process { pid, started: stat(pid)?.starttime })
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
        if let Some(pids) = children(self.pid) {
            return pids.into_iter().filter_map(Process::find).collect();
        }
        // A kernel without /proc/PID/task/TID/children.
        let stats = all().filter(|(_, stat)| u32::try_from(stat.ppid) == Ok(self.pid) && is_living(stat));
        stats.map(|(pid, stat)| Process { pid, started: stat.starttime }).collect()
    }

    /// Whether it is a proxy that is known to put new worker processes in the place of the old ones when it
    /// reloads, so that a reload without a new one did not happen.
    pub(super) fn renews_workers(self) -> bool {
        self.program().is_some()
    }

    /// The proxy that it is, if it is one that is known.
    pub(super) fn program(self) -> Option<Program> {
        Program::of_process(&stat(self.pid)?.comm)
    }

    /// Waits until it ends.
    pub(super) async fn ended(self) {
        let pidfd = pid(self.pid).and_then(watched);
        // The pid may have been reused before the descriptor was opened.
        while self.is_alive() {
            match &pidfd {
                Some(pidfd) => drop(pidfd.readable().await),
                None => tokio::time::sleep(POLL_INTERVAL).await,
            }
        }
    }
}

/// Kills what is left of the process group that `leader` began.
pub(super) fn kill_group(leader: u32) {
    // A group keeps its number from being reused while it has members, so these are the leader's.
    if all().any(|(_, stat)| u32::try_from(stat.pgrp) == Ok(leader) && is_living(&stat))
        && let Some(group) = pid(leader)
        && let Err(error) = kill_process_group(group, rustix::process::Signal::KILL)
    {
        tracing::debug!(group = leader, %error, "the process group could not be killed");
    }
}

fn pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw)
}

/// A descriptor that is readable once the process has ended.
#[expect(deprecated, reason = "its replacement is unsafe for types that may change their descriptor; OwnedFd cannot")]
fn watched(pid: Pid) -> Option<AsyncFd<OwnedFd>> {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    AsyncFd::with_interest(pidfd, Interest::READABLE).ok()
}

fn is_living(stat: &Stat) -> bool {
    !matches!(stat.state, 'Z' | 'X')
}

fn all() -> impl Iterator<Item = (u32, Stat)> {
    let processes = all_processes().into_iter().flatten().flatten();
    processes.filter_map(|process| Some((u32::try_from(process.pid()).ok()?, process.stat().ok()?)))
}

fn stat(pid: u32) -> Option<Stat> {
    procfs::process::Process::new(pid.try_into().ok()?).ok()?.stat().ok()
}

/// The pids that the kernel lists as children of the threads of a process; nothing where it does not list them.
fn children(pid: u32) -> Option<Vec<u32>> {
    let tasks = procfs::process::Process::new(pid.try_into().ok()?).ok()?.tasks().ok()?;
    let listed: Option<Vec<Vec<u32>>> = tasks.map(|task| task.ok()?.children().ok()).collect();
    Some(listed?.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_and_another_start_time_is_not_it() {
        let own = Process::find(std::process::id()).unwrap();
        assert!(own.is_alive());
        assert!(!Process { started: own.started + 1, ..own }.is_alive());
    }

    #[tokio::test]
    async fn a_child_is_listed_until_it_ends_and_its_end_is_seen_before_anybody_waits_for_it() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let own = Process::find(std::process::id()).unwrap();
        let process = Process::find(child.id()).unwrap();
        assert!(own.children().contains(&process));
        assert!(children(own.pid).is_some_and(|pids| pids.contains(&process.pid)));
        let waited = tokio::time::timeout(Duration::from_millis(20), process.ended()).await;
        assert!(waited.is_err(), "it lives");
        child.kill().unwrap();
        tokio::time::timeout(Duration::from_secs(10), process.ended()).await.unwrap();
        assert!(!own.children().contains(&process));
        child.wait().unwrap();
    }
}
