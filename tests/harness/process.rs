//! A program that runs on a host.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

use waypost_test_support::eventually;

/// A program that was started on a host; its output is in a log file. It is killed when dropped.
pub struct Process {
    name: String,
    /// `nsenter`, which waits for the program and ends as it ended.
    outer: Child,
    pid: Pid,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, which enters a host by `nsenter`, with its output going to `<dir>/<name>.log`.
    pub(crate) fn start(name: &str, mut command: Command, dir: &Path) -> Process {
        let log = log_file(dir, name);
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let errors = file.try_clone().expect("a second handle");
        let outer = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let pid = only_child(outer.id());
        Process { name: name.to_owned(), outer, pid, log }
    }

    /// Sends a signal to the program itself, and to nothing that it started.
    pub fn signal(&self, signal: Signal) {
        if signal == Signal::CONT {
            self.thaw();
        }
        kill_process(self.pid, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// `nsenter` stops when the program is stopped, and goes on only when it is told to.
    fn thaw(&self) {
        if let Some(outer) = i32::try_from(self.outer.id()).ok().and_then(Pid::from_raw) {
            kill_process(outer, Signal::CONT).ok();
        }
    }

    /// How it ended, or none while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.outer.try_wait().expect("waiting for a child")
    }

    /// Waits until it has ended and says how.
    #[track_caller]
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        eventually(within, &what, || self.ended().with_context(|| format!("running as {:?}", self.pid)))
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        read(&self.log)
    }

    /// Its process id in the first process namespace.
    pub fn id(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let ended = self.outer.try_wait();
        if std::thread::panicking() {
            let state = ended
                .as_ref()
                .map_or("unknown".to_owned(), |one| one.map_or("running".to_owned(), |how| how.to_string()));
            eprintln!("---- {}: {state}", self.name);
        }
        if let Ok(None) = ended {
            kill_process(self.pid, Signal::KILL).ok();
            self.thaw();
            self.outer.wait().ok();
        }
    }
}

/// What the program `name`, whose log is in `dir`, has written; nothing when it was never started.
pub(crate) fn log(dir: &Path, name: &str) -> String {
    read(&log_file(dir, name))
}

fn log_file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.log"))
}

fn read(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// The one child of a process that was just started.
pub(crate) fn only_child(parent: u32) -> Pid {
    eventually(Duration::from_secs(10), "the program starts", || {
        let listed = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
        let raw = listed.split_whitespace().next().context("it has no child yet")?.parse()?;
        Pid::from_raw(raw).context("zero is no process id")
    })
}

/// Runs a command to its end and returns its standard output.
pub(crate) fn output(mut command: Command) -> anyhow::Result<String> {
    let done = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    let errors = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{command:?}: {}: {}", done.status, errors.trim());
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Where a program is: in `PATH`, or else in one of `places`.
pub fn find_program(name: &str, places: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let also = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(also)
        .chain(places.iter().cloned())
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
}
