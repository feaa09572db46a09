//! Who listens on an address of this host.

use std::collections::BTreeSet;

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process, all_processes};

use super::address::Bind;

/// A process that listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) pid: u32,
    /// What it is called.
    pub(super) name: String,
}

/// Everybody who has the address, or one that overlaps with it; nobody where the system does not tell.
pub(super) fn of(bind: Bind) -> Vec<Listener> {
    let sockets = sockets(bind);
    if sockets.is_empty() {
        return Vec::new();
    }
    let has = |process: &Process| {
        let mut open = process.fd().into_iter().flatten().flatten();
        open.any(|open| matches!(open.target, FDTarget::Socket(inode) if sockets.contains(&inode)))
    };
    let found = all_processes().into_iter().flatten().flatten().filter(has);
    found.filter_map(|process| Some(Listener { pid: pid(process.pid())?, name: process.stat().ok()?.comm })).collect()
}

/// The process and all that it descends from.
pub(super) fn ancestors(pid: u32) -> Vec<(u32, Vec<String>)> {
    let mut found = Vec::new();
    let mut next = Some(pid);
    // No host nests processes deeper; a loop in what /proc says must not be one here.
    while let (Some(pid), true) = (next, found.len() < 64) {
        let Some(process) = i32::try_from(pid).ok().and_then(|pid| Process::new(pid).ok()) else { break };
        found.push((pid, process.cmdline().unwrap_or_default()));
        next = process.stat().ok().and_then(|stat| self::pid(stat.ppid)).filter(|parent| *parent > 1);
    }
    found
}

fn pid(pid: i32) -> Option<u32> {
    u32::try_from(pid).ok()
}

fn sockets(bind: Bind) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    if bind.udp {
        let all = procfs::net::udp().into_iter().chain(procfs::net::udp6()).flatten();
        found.extend(
            all.filter(|one| Bind { address: one.local_address, udp: true }.overlaps(&bind)).map(|one| one.inode),
        );
    } else {
        let all = procfs::net::tcp().into_iter().chain(procfs::net::tcp6()).flatten();
        let listening = all.filter(|one| one.state == TcpState::Listen);
        let same = listening.filter(|one| Bind { address: one.local_address, udp: false }.overlaps(&bind));
        found.extend(same.map(|one| one.inode));
    }
    found
}
