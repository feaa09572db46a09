//! What a proxy is, and how it is made to take up its files.

use std::path::PathBuf;
use std::time::Duration;

use super::methods::Call;
use crate::signal::Signal;

/// How to check and reload a proxy.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// The output's directory; `{dir}` in a reload.
    pub dir: PathBuf,
    /// Command that ends with 0 when the files in `{dir}` are valid; nothing is checked without one.
    pub check: Option<Vec<String>>,
    /// Whether addresses that the files newly bind are tried first; not for a proxy with a network of its own.
    pub bind_check: bool,
    /// How to reload; without one the files are all there is.
    pub reload: Option<Reload>,
    /// Longest time that one check, and one reload, may take.
    pub timeout: Duration,
    /// Least time between the beginnings of two reloads. It defers and never drops.
    pub min_interval: Duration,
    /// Name of the output, for logs and for the agent's own files in the directory.
    pub name: String,
}

/// How to make a proxy take up its files.
#[derive(Clone, Debug)]
pub enum Reload {
    /// Runs a command, an argument list in which `{dir}` is the output's directory. It ends with 0 when the proxy
    /// reloaded.
    Command(Vec<String>),
    /// Sends a signal to a process.
    PidFile {
        /// File whose first line is the pid.
        path: PathBuf,
        /// Signal that makes the process reload; USR2 is not sent to an nginx, which would start a second one.
        signal: Signal,
    },
    /// Gives the command `reload` at the socket of `HAProxy`'s master process, `haproxy -W -S SOCKET`.
    MasterSocket(PathBuf),
    /// Calls what reaches the proxy.
    Call(Call),
    /// Runs the proxy itself, and reloads it with a signal.
    ///
    /// It is started with the first request, when the files are there, and again with a growing pause when it ends
    /// by itself. It must stay in the foreground and keep its pid: `haproxy -Ws -f {dir}/haproxy.cfg`. With `-Ws`
    /// it tells on the notify socket when it is ready; without (`-W`) its worker processes tell, a little later.
    ///
    /// It outlives an agent that is killed, so that routes stay; the next agent adopts it. Three hidden files in the
    /// output's directory serve this: `.waypost-NAME.pid` (which process, and since when), `.waypost-NAME.notify`
    /// (the socket it reports to) and `.waypost-NAME.output` (the pipe it writes its lines to). A process whose
    /// command is not the configured one any more is stopped instead. Under systemd this needs
    /// `KillMode=process`, because systemd otherwise ends the whole group with the agent.
    Supervise {
        /// Argument list in which `{dir}` is the output's directory.
        command: Vec<String>,
        /// Signal that makes the process reload.
        signal: Signal,
    },
}
