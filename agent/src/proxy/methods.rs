//! Reloading a proxy that somebody else runs: by a command, by a call, or by a signal to the process in a pid file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures::future::BoxFuture;

use super::Signal;
use super::command;
use super::process::Process;
use super::reload::{Failure, Reloader};
use crate::dialect::Program;

/// How often the workers of a proxy are looked at while it reloads.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// The files are all there is; whoever reads them looks by itself.
pub(super) struct Nothing;

#[async_trait::async_trait]
impl Reloader for Nothing {
    async fn reload(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A command that ends with 0 when the proxy reloaded.
pub(super) struct ByCommand {
    pub(super) command: Vec<String>,
    pub(super) dir: PathBuf,
    pub(super) limit: Duration,
}

#[async_trait::async_trait]
impl Reloader for ByCommand {
    async fn reload(&mut self) -> Result<(), Failure> {
        let outcome =
            command::run(&self.command, &self.dir, &[], self.limit).await.context("the reload command failed")?;
        if outcome.status.success() {
            return Ok(());
        }
        let said = anyhow!("it ended with {}: {}", outcome.status, outcome.text());
        Err(said.context(format!("the reload command {:?} failed", self.command.join(" "))).into())
    }
}

/// What makes a proxy take up its files by means that are not the business of this module, such as the engine that its
/// container belongs to. It comes back when the proxy has, and may be dropped at any time.
#[derive(Clone)]
pub struct Call(Arc<dyn Fn() -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>);

impl Call {
    /// Wraps a function that is called for every reload.
    pub fn new(function: impl Fn() -> BoxFuture<'static, Result<(), Failure>> + Send + Sync + 'static) -> Self {
        Call(Arc::new(function))
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}

/// A call that reaches the proxy.
pub(super) struct ByCall {
    pub(super) call: Call,
    pub(super) limit: Duration,
}

#[async_trait::async_trait]
impl Reloader for ByCall {
    async fn reload(&mut self) -> Result<(), Failure> {
        let limit = self.limit;
        let called = tokio::time::timeout(limit, (self.call.0)()).await;
        called.unwrap_or_else(|_| Err(anyhow!("the reload did not end within {limit:?}").into()))
    }
}

/// A signal to the process that a pid file names.
pub(super) struct ByPidFile {
    pub(super) path: PathBuf,
    pub(super) signal: Signal,
    pub(super) limit: Duration,
}

#[async_trait::async_trait]
impl Reloader for ByPidFile {
    async fn reload(&mut self) -> Result<(), Failure> {
        let process = named_in(&self.path)?;
        if self.signal == Signal::Usr2 && process.program() == Some(Program::Nginx) {
            let (path, pid) = (self.path.display(), process.pid);
            return Err(anyhow!(
                "the pid file {path} names process {pid}, an nginx, which starts a second nginx when it is sent USR2 \
                 and does not reload; expected signal = \"HUP\" beside pid-file"
            )
            .into());
        }
        let workers = Workers::of(process);
        process.signal(self.signal).with_context(|| format!("the pid file is {}", self.path.display()))?;
        let renewed = async {
            while !workers.renewed() {
                if !process.is_alive() {
                    return Err(Failure::from(anyhow!(
                        "process {} ended when it was sent {}",
                        process.pid,
                        self.signal
                    )));
                }
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        };
        tokio::time::timeout(self.limit, renewed).await.unwrap_or_else(|_| Err(workers.not_renewed(self.limit)))
    }
}

/// The living process that a pid file names.
fn named_in(path: &Path) -> anyhow::Result<Process> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the pid file {}; is the proxy running?", path.display()))?;
    let found = text.lines().next().unwrap_or_default().trim();
    let Some(pid) = found.parse::<u32>().ok().filter(|pid| *pid > 1) else {
        let found: String = found.chars().take(40).collect();
        bail!("the pid file {} has {found:?} in its first line, expected a number above 1", path.display());
    };
    Process::find(pid).with_context(|| {
        format!("the pid file {} names process {pid}, which does not run; is the proxy running?", path.display())
    })
}

/// The worker processes that a proxy has before a reload, by which it shows whether it reloaded.
pub(super) struct Workers {
    process: Process,
    before: std::collections::BTreeSet<Process>,
}

impl Workers {
    pub(super) fn of(process: Process) -> Self {
        let before = if process.renews_workers() { process.children() } else { std::collections::BTreeSet::new() };
        Workers { process, before }
    }

    /// Whether there are workers to tell by.
    pub(super) fn tell(&self) -> bool {
        !self.before.is_empty()
    }

    /// Whether there is a new one; also true of a process that is not known to have such workers.
    pub(super) fn renewed(&self) -> bool {
        !self.tell() || self.process.children().difference(&self.before).next().is_some()
    }

    pub(super) fn not_renewed(&self, limit: Duration) -> Failure {
        let error = anyhow!(
            "process {} has no new worker process {limit:?} after its reload signal, so it refused its files or \
             lost the signal; its own log says why",
            self.process.pid
        );
        Failure { refused: true, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_must_name_a_living_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.pid");
        let said = || format!("{:#}", named_in(&path).unwrap_err());
        assert!(said().contains("is the proxy running?"), "{}", said());
        for (text, expected) in [
            ("", "has \"\" in its first line"),
            ("1\n", "expected a number above 1"),
            ("-5\n", "expected a number above 1"),
            ("12x\n", "has \"12x\""),
            ("4194305\n", "which does not run"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(said().contains(expected), "{}", said());
        }
        std::fs::write(&path, format!(" {} \n", std::process::id())).unwrap();
        assert_eq!(named_in(&path).unwrap().pid, std::process::id());
    }
}
