//! The agent under test.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::Value;
use waypost_test_support::eventually;

use crate::built;
use crate::compiled;
use crate::host::Host;
use crate::process::Process;
use crate::{CHANGE_TIMEOUT, START_TIMEOUT};

/// What an agent says when it has loaded its plugins and starts its loops.
const RUNS: &str = "agent started";

/// An agent that runs on a host, from a configuration file in the host's directory. When it is dropped and has ended by
/// itself, the test fails.
pub struct Agent<'a> {
    host: &'a Host,
    name: String,
    configuration: PathBuf,
    environment: Vec<(String, String)>,
    process: Process,
    /// The test has ended it.
    is_ended: bool,
}

impl<'a> Agent<'a> {
    /// Starts `waypost run` on `host` with this configuration; its log is `<name>.log`.
    #[track_caller]
    pub fn start(host: &'a Host, name: &str, configuration: &str) -> Agent<'a> {
        Agent::start_with(host, name, configuration, &[])
    }

    /// Starts `waypost run` on `host` with this configuration and these environment variables.
    #[track_caller]
    pub fn start_with(host: &'a Host, name: &str, text: &str, environment: &[(&str, &str)]) -> Agent<'a> {
        let configuration = host.dir().join(format!("{name}.toml"));
        std::fs::write(&configuration, text).expect("a configuration file");
        std::fs::create_dir_all(proxy_dir(host)).expect("a directory for the proxy's files");
        let environment: Vec<_> = environment.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let process = launch(host, name, &configuration, &environment);
        Agent { host, name: name.to_owned(), configuration, environment, process, is_ended: false }
    }

    /// Ends it with SIGTERM and waits for that.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.end(Signal::TERM)
    }

    /// Ends it without any notice.
    #[track_caller]
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
    }

    #[track_caller]
    fn end(&mut self, signal: Signal) -> ExitStatus {
        self.assert_running();
        self.is_ended = true;
        self.process.signal(signal);
        self.process.wait(CHANGE_TIMEOUT)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Starts it again with the same configuration.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.is_ended, "{} is still running", self.name);
        self.process = launch(self.host, &self.name, &self.configuration, &self.environment);
        self.is_ended = false;
    }

    /// Everything it has logged, over all its runs.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The lines of its log that contain all of `words`.
    pub fn log_lines(&self, words: &[&str]) -> Vec<String> {
        let log = self.log();
        log.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
    }

    /// Waits until one line of its log contains all of `words`, and returns the first such line.
    #[track_caller]
    pub fn logs(&self, words: &[&str]) -> String {
        let what = format!("{} logs {words:?}", self.name);
        eventually(CHANGE_TIMEOUT, &what, || {
            let found = self.log_lines(words);
            ensure!(!found.is_empty(), "the log ends in {:?}", self.log().lines().last());
            Ok(found[0].clone())
        })
    }

    /// Fails when the agent has ended by itself.
    #[track_caller]
    fn assert_running(&mut self) {
        let ended = if self.is_ended { None } else { self.process.ended() };
        assert!(ended.is_none(), "{} has ended by itself: {ended:?}", self.name);
    }

    /// What it tells of itself, as `waypost catalog --json` prints it.
    pub fn report(&self) -> anyhow::Result<Value> {
        let configuration = self.configuration.to_str().context("a path in UTF-8")?;
        let done = waypost(self.host, &["catalog", "--json", "--config", configuration]);
        ensure!(done.status.success(), "{}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim());
        Ok(serde_json::from_slice(&done.stdout)?)
    }

    /// A file that its output wrote, empty while there is none.
    pub fn proxy_file(&self, name: &str) -> String {
        std::fs::read_to_string(proxy_dir(self.host).join(name)).unwrap_or_default()
    }

    /// Its process id, as the test sees it.
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        // A test that fails already says what is wrong.
        if !std::thread::panicking() {
            self.assert_running();
        }
    }
}

/// Where the output of the agent on `host` writes.
pub(crate) fn proxy_dir(host: &Host) -> PathBuf {
    host.dir().join("proxy")
}

/// Runs `waypost` on a host to its end.
#[track_caller]
pub fn waypost(host: &Host, arguments: &[&str]) -> Output {
    let mut command = host.command(built::agent());
    finish(command.args(arguments))
}

/// Runs `waypost` where the test runs, in the directory `dir`, to its end.
#[track_caller]
pub fn waypost_here(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(built::agent());
    finish(command.current_dir(dir).args(arguments))
}

#[track_caller]
fn finish(command: &mut Command) -> Output {
    clean(command).stdin(Stdio::null()).output().expect("agent started")
}

fn launch(host: &Host, name: &str, configuration: &Path, environment: &[(String, String)]) -> Process {
    compiled::provide(&host.dir().join("state"));
    let mut command = host.command(built::agent());
    clean(&mut command).envs(environment.iter().cloned()).arg("run").arg("--config").arg(configuration);
    let before = host.log(name).matches(RUNS).count();
    let mut process = host.spawn(name, command);
    eventually(START_TIMEOUT, "the agent runs", || {
        let ended = process.ended();
        assert!(ended.is_none(), "{name} has ended: {ended:?}: {}", process.log());
        ensure!(process.log().matches(RUNS).count() > before, "it has not said so");
        Ok(())
    });
    process
}

/// Takes away what the caller's environment could change.
fn clean(command: &mut Command) -> &mut Command {
    for name in ["HOST_IP", "ETCD_HOST", "DOCKER_HOST", "WAYPOST_LOG", "RUST_LOG", "RUST_BACKTRACE", "NO_COLOR"] {
        command.env_remove(name);
    }
    command
}
