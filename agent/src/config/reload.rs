//! How a proxy takes new files up, as the operator writes it.

use std::path::PathBuf;

use serde::Deserialize;

use super::value::{AbsolutePath, Argv};
use crate::dialect::Program;
use crate::signal::Signal;

/// How a proxy takes new files up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawReload")]
pub enum Reload {
    /// A command that returns 0 when it is done.
    Command(Argv),
    /// A signal to the process whose id a file holds.
    PidFile(PathBuf, Signal),
    /// A child of the agent: started, told by a signal (the program's own unless another is set), restarted when it ends.
    Supervise(Argv, Signal),
    /// A container of the engine at `docker.endpoint`, by name or id.
    Container(String, ContainerReload),
    /// The command `reload` at the socket of `HAProxy`'s master process (`haproxy -W -S SOCKET`).
    MasterSocket(PathBuf),
}

/// What makes a container take new files up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerReload {
    /// A signal to its first process.
    Signal(Signal),
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
    signal: Option<ReloadSignal>,
    restart: Option<bool>,
}

/// The forms that there are.
const FORMS: &str = "expected one of { command = [..] }, { pid-file = \"..\", signal = \"USR2\" }, \
                     { supervise = [..], signal = \"USR2\" }, { container = \"..\", signal = \"HUP\" }, \
                     { container = \"..\", restart = true } or { master-socket = \"..\" }";

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
            (_, Some(path), ..) => Ok(Reload::PidFile(path, signal.unwrap_or_else(|| usual_signal(None)))),
            (_, _, Some(command), ..) => {
                let usual = usual_signal(program(&command));
                Ok(Reload::Supervise(command, signal.unwrap_or(usual)))
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
        let Reload::Supervise(command, signal) = self else { return Ok(()) };
        let usual = Program::Nginx.reload_signal();
        if program(command) != Some(Program::Nginx) || *signal == usual {
            return Ok(());
        }
        Err(format!(
            "found signal \"{signal}\" for nginx, which reloads by \"{usual}\" only (USR2 starts a second nginx), \
             expected signal = \"{usual}\" or none"
        ))
    }
}

fn program(command: &Argv) -> Option<Program> {
    Program::of_command(command.0.first()?)
}

/// The signal of a proxy that is known, and HAProxy's otherwise.
fn usual_signal(program: Option<Program>) -> Signal {
    program.unwrap_or(Program::Haproxy).reload_signal()
}

fn in_container(name: String, signal: Option<Signal>, restart: bool) -> Result<Reload, String> {
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

/// A signal by which a proxy may reload.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct ReloadSignal(Signal);

impl TryFrom<String> for ReloadSignal {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        match name.parse() {
            Ok(signal @ (Signal::Hup | Signal::Usr1 | Signal::Usr2)) => Ok(ReloadSignal(signal)),
            _ => Err(format!("found {name:?}, expected \"HUP\", \"USR1\" or \"USR2\"")),
        }
    }
}
