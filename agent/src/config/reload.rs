//! How a proxy takes new files up, as the operator writes it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::value::{AbsolutePath, Argv};

/// How a proxy takes new files up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawReload")]
pub enum Reload {
    /// A command that returns 0 when it is done.
    Command(Argv),
    /// A signal to the process whose id a file holds.
    PidFile(PathBuf, String),
    /// A child of the agent: started, told by a signal (the program's own unless another is set), restarted when it ends.
    Supervise(Argv, String),
    /// A container of the engine at `docker.endpoint`, by name or id.
    Container(String, ContainerReload),
    /// The command `reload` at the socket of `HAProxy`'s master process (`haproxy -W -S SOCKET`).
    MasterSocket(PathBuf),
}

/// What makes a container take new files up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerReload {
    /// A signal to its first process.
    Signal(String),
    /// It is stopped and started.
    Restart,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawReload {
    command: Option<Argv>,
    pid_file: Option<PathBuf>,
    supervise: Option<Argv>,
    container: Option<Container>,
    master_socket: Option<AbsolutePath>,
    signal: Option<Signal>,
    restart: Option<bool>,
}

/// The forms that there are.
const FORMS: &str = "expected one of { command = [..] }, { pid-file = \"..\", signal = \"USR2\" }, \
                     { supervise = [..], signal = \"USR2\" }, { container = \"..\", signal = \"HUP\" }, \
                     { container = \"..\", restart = true } or { master-socket = \"..\" }";

/// The signal by which the master process of `HAProxy` reloads.
const HAPROXY: &str = "USR2";
/// The one by which that of nginx does; by USR1 it opens its logs again, by USR2 it starts a second nginx beside itself.
const NGINX: &str = "HUP";

impl TryFrom<RawReload> for Reload {
    type Error = String;

    fn try_from(raw: RawReload) -> Result<Self, String> {
        let RawReload { command, pid_file, supervise, container, master_socket, signal, restart } = raw;
        let ways =
            [command.is_some(), pid_file.is_some(), supervise.is_some(), container.is_some(), master_socket.is_some()];
        if ways.into_iter().filter(|way| *way).count() != 1 || (restart.is_some() && container.is_none()) {
            return Err(FORMS.to_owned());
        }
        if signal.is_some() && (command.is_some() || master_socket.is_some()) {
            return Err(format!("found a signal where none is sent, {FORMS}"));
        }
        let signal = signal.map(|signal| signal.0);
        match (command, pid_file, supervise, container, master_socket) {
            (Some(command), ..) => Ok(Reload::Command(command)),
            (_, Some(path), ..) => Ok(Reload::PidFile(path, signal.unwrap_or_else(|| HAPROXY.to_owned()))),
            (_, _, Some(command), ..) => {
                let usual = if is_nginx(&command) { NGINX } else { HAPROXY };
                Ok(Reload::Supervise(command, signal.unwrap_or_else(|| usual.to_owned())))
            }
            (_, _, _, Some(Container(name)), _) => in_container(name, signal, restart == Some(true)),
            (.., Some(AbsolutePath(path))) => Ok(Reload::MasterSocket(path)),
            _ => Err(FORMS.to_owned()),
        }
    }
}

impl Reload {
    /// Whether the signal is one by which the program reloads.
    pub(super) fn check_signal(&self) -> Result<(), String> {
        match self {
            Reload::Supervise(command, signal) if is_nginx(command) && signal != NGINX => Err(format!(
                "found signal \"{signal}\" for nginx, which reloads by \"{NGINX}\" only (USR2 starts a second nginx), \
                 expected signal = \"{NGINX}\" or none"
            )),
            _ => Ok(()),
        }
    }
}

fn is_nginx(command: &Argv) -> bool {
    command.0.first().is_some_and(|program| Path::new(program).file_name() == Some("nginx".as_ref()))
}

fn in_container(name: String, signal: Option<String>, restart: bool) -> Result<Reload, String> {
    match (signal, restart) {
        (Some(signal), false) => Ok(Reload::Container(name, ContainerReload::Signal(signal))),
        (None, true) => Ok(Reload::Container(name, ContainerReload::Restart)),
        _ => {
            Err("expected beside container either signal = \"HUP\" (or \"USR1\", \"USR2\") or restart = true"
                .to_owned())
        }
    }
}

/// A container's name or id.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Container(String);

impl TryFrom<String> for Container {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(good) {
            return Ok(Container(name));
        }
        Err(format!("found {name:?}, expected a container's name or id, like \"haproxy\""))
    }
}

/// The name of a signal, without `SIG`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Signal(String);

impl TryFrom<String> for Signal {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let short = name.strip_prefix("SIG").unwrap_or(&name);
        if ["HUP", "USR1", "USR2"].contains(&short) {
            return Ok(Signal(short.to_owned()));
        }
        Err(format!("found {name:?}, expected \"HUP\", \"USR1\" or \"USR2\""))
    }
}
