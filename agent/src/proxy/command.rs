//! Runs a command of the operator's: an argument list without a shell, with a time limit and bounded output.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::{Either, select};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::process;

/// Most bytes kept of each output stream; what follows is read and dropped.
const OUTPUT_LIMIT: usize = 64 << 10;
/// How long an output stream may stay open after its program ended, as when a child of its has it.
const STREAM_LIMIT: Duration = Duration::from_millis(500);

/// What a command did.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Outcome {
    /// All it said, errors first.
    pub(super) fn text(&self) -> String {
        [self.stderr.trim_end(), self.stdout.trim_end()].map(str::to_owned).join("\n").trim().to_owned()
    }
}

/// The command with `{dir}` filled in.
pub(super) fn filled(command: &[String], dir: &Path) -> Vec<String> {
    command.iter().map(|argument| argument.replace("{dir}", &dir.to_string_lossy())).collect()
}

/// A command that is ready to be spawned, in a process group of its own and without the agent's own sockets.
pub(super) fn prepared(command: &[String]) -> anyhow::Result<Command> {
    let Some((program, arguments)) = command.split_first().filter(|(program, _)| !program.is_empty()) else {
        bail!("the command is empty, expected a program and its arguments");
    };
    let mut prepared = Command::new(program);
    prepared.args(arguments).stdin(Stdio::null()).process_group(0);
    for own in ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
        prepared.env_remove(own);
    }
    Ok(prepared)
}

/// Says which program could not be started, and what to do.
pub(super) fn not_started(program: &str, error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        io::ErrorKind::NotFound if program.contains('/') => {
            format!("cannot start {program:?}; it, or the interpreter it names, is not there")
        }
        io::ErrorKind::NotFound => {
            let path = std::env::var("PATH").unwrap_or_default();
            format!(
                "cannot start {program:?}; it is in no directory of PATH ({path}): install it, or give its full path"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("cannot start {program:?}; it is not executable for the agent's user")
        }
        _ => format!("cannot start {program:?}"),
    };
    anyhow::Error::new(error).context(advice)
}

/// Kills the process group of a command whose end nobody waits for any more.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            process::kill_group(pid);
        }
    }
}

/// Runs `command` with `{dir}` filled in and the variables of `env` added; it and its children are killed when it takes
/// longer than `limit`.
pub(super) async fn run(
    command: &[String],
    dir: &Path,
    env: &[(&str, &str)],
    limit: Duration,
) -> anyhow::Result<Outcome> {
    let command = filled(command, dir);
    let mut prepared = prepared(&command)?;
    prepared.envs(env.iter().copied());
    prepared.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = prepared.spawn().map_err(|error| not_started(&command[0], error))?;
    let mut group = Group(child.id());
    let (stdout, stderr) = (Kept::default(), Kept::default());
    let status = {
        let streams = futures::future::join(
            read_bounded(child.stdout.take(), &stdout),
            read_bounded(child.stderr.take(), &stderr),
        );
        let both = async {
            match select(pin!(child.wait()), pin!(streams)).await {
                // Not the program itself but something it left running may hold a stream; that is its own affair.
                Either::Left((status, streams)) => {
                    drop(tokio::time::timeout(STREAM_LIMIT, streams).await);
                    status
                }
                Either::Right((_, status)) => status.await,
            }
        };
        tokio::time::timeout(limit, both).await
    };
    let Ok(status) = status else {
        return Err(Overdue { command: command.join(" "), limit }.into());
    };
    group.0 = None;
    let status = status.with_context(|| format!("cannot wait for {:?}", command[0]))?;
    Ok(Outcome { status, stdout: stdout.text(), stderr: stderr.text() })
}

/// A command that took too long.
#[derive(Debug, thiserror::Error)]
#[error("{command:?} did not end within {limit:?} and was killed")]
pub(super) struct Overdue {
    command: String,
    limit: Duration,
}

/// The first bytes of a stream.
#[derive(Default)]
struct Kept(Mutex<Vec<u8>>);

impl Kept {
    fn add(&self, bytes: &[u8]) {
        let mut kept = self.0.lock();
        let room = OUTPUT_LIMIT - kept.len();
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn text(self) -> String {
        String::from_utf8_lossy(&self.0.into_inner()).into_owned()
    }
}

async fn read_bounded(stream: Option<impl AsyncRead + Unpin>, kept: &Kept) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; 8 << 10];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        kept.add(&buffer[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn quickest(script: &str) -> Duration {
        let command = ["sh", "-c", script].map(str::to_owned);
        let mut times = Vec::new();
        for _ in 0..5 {
            let begun = tokio::time::Instant::now();
            let outcome = run(&command, Path::new("/"), &[], Duration::from_secs(20)).await.unwrap();
            assert!(outcome.status.success());
            times.push(begun.elapsed());
        }
        times.into_iter().min().unwrap()
    }

    #[tokio::test]
    async fn closed_streams_are_not_waited_for() {
        assert!(quickest("echo done").await < STREAM_LIMIT);
        assert!(quickest("exec >&- 2>&-; sleep 0.01").await < STREAM_LIMIT, "they are closed before it ends");
    }
}
