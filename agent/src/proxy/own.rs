//! Which processes are the proxy of an output, or belong to it.

use std::path::PathBuf;

use super::listener;
use super::options::{ProxyOptions, Reload};

/// What tells the processes of a proxy from all others.
#[derive(Clone, Debug)]
pub(super) struct Own {
    /// Pids that are the proxy's: the supervised one, and the one in its pid file.
    pids: Vec<u32>,
    /// What its command line names: the output's directory, or its master socket.
    named: Vec<PathBuf>,
}

impl Own {
    pub(super) fn of(options: &ProxyOptions, running: Option<u32>) -> Self {
        let mut own = Own { pids: running.into_iter().collect(), named: vec![options.dir.clone()] };
        match &options.reload {
            Some(Reload::PidFile { path, .. }) => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                own.pids.extend(text.lines().next().and_then(|line| line.trim().parse::<u32>().ok()));
            }
            Some(Reload::MasterSocket(path)) => own.named.push(path.clone()),
            _ => {}
        }
        own
    }

    /// Whether a process is one of them, or descends from one.
    pub(super) fn is(&self, pid: u32) -> bool {
        let named =
            |argument: &String| self.named.iter().any(|path| path.to_str().is_some_and(|path| argument.contains(path)));
        let is = |(pid, command): (u32, Vec<String>)| self.pids.contains(&pid) || command.iter().any(named);
        listener::ancestors(pid).into_iter().any(is)
    }
}
