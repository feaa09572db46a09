//! What a supervised process writes, line by line into the log.
//!
//! It writes into a named pipe that it holds open for reading as well, and that never blocks it: a killed agent
//! neither breaks its output nor stalls it, and the next agent reads on.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use crate::dialect::{is_expected, is_fault, is_routine};

/// Lines that are remembered, to be told when the process ends or refuses.
const REMEMBERED: usize = 30;
/// Longest line, in bytes; what is longer is cut.
const LINE_LIMIT: usize = 4096;

/// The lines of a process.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    tail: Arc<Mutex<Tail>>,
    settle: mpsc::Sender<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Tail {
    count: u64,
    lines: VecDeque<String>,
}

impl Lines {
    /// Opens the pipe at `path` and logs what comes out of it as the proxy's `name`.
    pub(super) fn open(path: &Path, name: &str) -> io::Result<Self> {
        if !fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_fifo()) {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR)?,
            }
        }
        let direct = end(path)?;
        let receiver = pipe::OpenOptions::new().read_write(true).open_receiver(path)?;
        let tail = Arc::new(Mutex::new(Tail::default()));
        let (settle, requests) = mpsc::channel(1);
        let task = tokio::spawn(read(receiver, direct, requests, Reader { name: name.to_owned(), tail: tail.clone() }));
        Ok(Lines { path: path.to_owned(), tail, settle, task })
    }

    /// An end for the process to write to.
    pub(super) fn stdio(&self) -> io::Result<Stdio> {
        Ok(end(&self.path)?.into())
    }

    /// How many lines there have been.
    pub(super) fn count(&self) -> u64 {
        self.tail.lock().count
    }

    /// The last lines after the first `count`, with all that has been written until now.
    pub(super) async fn after(&self, count: u64) -> Vec<String> {
        let (done, settled) = oneshot::channel();
        if self.settle.send(done).await.is_ok() {
            drop(settled.await);
        }
        let tail = self.tail.lock();
        let first = tail.count - tail.lines.len() as u64;
        let skip = usize::try_from(count.saturating_sub(first)).unwrap_or(usize::MAX);
        tail.lines.iter().skip(skip).cloned().collect()
    }

    /// Removes the pipe from the file system.
    pub(super) fn remove(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            debug!(path = %self.path.display(), %error, "cannot remove the output pipe");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One end of the pipe, for both directions: without a reader a process would end at its next line.
fn end(path: &Path) -> io::Result<File> {
    #[expect(clippy::cast_possible_wrap, reason = "open flags are small bits")]
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

async fn read(
    pipe: pipe::Receiver,
    mut direct: File,
    mut requests: mpsc::Receiver<oneshot::Sender<()>>,
    reader: Reader,
) {
    let mut rest = Vec::new();
    loop {
        let request = tokio::select! {
            readable = pipe.readable() => match readable {
                Ok(()) => None,
                Err(error) => return warn!(proxy = reader.name, %error, "cannot read the proxy's output"),
            },
            request = requests.recv() => match request {
                Some(request) => Some(request),
                None => return,
            },
        };
        let mut buffer = [0; 8 << 10];
        while let Ok(count @ 1..) = pipe.try_read(&mut buffer) {
            reader.take(&mut rest, &buffer[..count]);
        }
        if let Some(request) = request {
            // The runtime may not have heard yet that there is something to read.
            while let Ok(count @ 1..) = direct.read(&mut buffer) {
                reader.take(&mut rest, &buffer[..count]);
            }
            // A last line may never be ended.
            reader.line(&std::mem::take(&mut rest));
            request.send(()).ok();
        }
    }
}

struct Reader {
    name: String,
    tail: Arc<Mutex<Tail>>,
}

impl Reader {
    fn take(&self, rest: &mut Vec<u8>, bytes: &[u8]) {
        for chunk in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (line, ended) = chunk.strip_suffix(b"\n").map_or((chunk, false), |line| (line, true));
            let room = LINE_LIMIT.saturating_sub(rest.len());
            rest.extend_from_slice(&line[..line.len().min(room)]);
            if ended {
                self.line(&std::mem::take(rest));
            }
        }
    }

    fn line(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let line = text.trim_end();
        if line.is_empty() {
            return;
        }
        if is_fault(line) && !is_expected(line) {
            warn!(proxy = self.name, line, "the proxy reports an error");
        } else {
            debug!(proxy = self.name, line, "the proxy writes");
        }
        // One for each section at every reload: what is remembered must not be full of them.
        if is_routine(line) {
            return;
        }
        let mut tail = self.tail.lock();
        tail.count += 1;
        tail.lines.push_back(line.to_owned());
        if tail.lines.len() > REMEMBERED {
            tail.lines.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[tokio::test]
    async fn lines_are_remembered_in_order_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        fs::write(&path, "a plain file in its place").unwrap();
        let lines = Lines::open(&path, "test").unwrap();
        let write = |text: &str| {
            let mut command = Command::new("printf");
            command.arg(text).stdout(lines.stdio().unwrap());
            assert!(command.status().unwrap().success());
        };
        write("one\ntwo\\377\n\nthree");
        assert_eq!(lines.after(0).await, ["one", "two\u{fffd}", "three"]);
        let mark = lines.count();
        write("four\n");
        assert_eq!(lines.after(mark).await, ["four"]);
        write("[WARNING]  (7) : Proxy shop stopped (cumulated conns: FE: 0, BE: 3).\n");
        assert_eq!(lines.after(mark).await, ["four"]);
        write(&"x\n".repeat(100));
        assert_eq!(lines.after(0).await.len(), REMEMBERED);
        write(&"y".repeat(LINE_LIMIT + 1));
        assert_eq!(lines.after(mark).await.last().unwrap().len(), LINE_LIMIT);
    }

    #[tokio::test]
    async fn what_was_written_while_nobody_read_is_there_for_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("output");
        let first = Lines::open(&path, "test").unwrap();
        let writer = first.stdio().unwrap();
        drop(first);
        let mut command = Command::new("sh");
        command.args(["-c", "echo kept; exec sleep 60"]).stdout(writer);
        let mut child = command.spawn().unwrap();
        let next = Lines::open(&path, "test").unwrap();
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        while next.after(0).await != ["kept"] {
            assert!(tokio::time::Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
