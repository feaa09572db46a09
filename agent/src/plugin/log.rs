//! What a guest says, into the agent's log: cut, cleaned, and no more than a person can read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use tokio::time::Instant;
use tracing::{Level, debug, error, info, trace, warn};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::bucket::Bucket;

/// Longest line that is passed on, in bytes.
const LINE_LIMIT: usize = 2048;
/// Lines a guest may write at once.
const BURST: f64 = 50.0;
/// Lines per second a guest may write for long.
const RATE: f64 = 5.0;
/// How long a line is not written again; a plugin says the same of a bad value each time it meets it.
const ONCE_IN: Duration = Duration::from_mins(10);
/// Lines that are remembered for that.
const REMEMBERED: usize = 256;
/// Bytes of standard error that are kept to explain a trap.
const TAIL_LIMIT: usize = 4096;

/// The log of one plugin, shared by its instances so that many instances are not louder than one.
#[derive(Clone)]
pub(super) struct GuestLog {
    plugin: Arc<str>,
    budget: Arc<Mutex<Budget>>,
}

struct Budget {
    lines: Bucket,
    dropped: u64,
    written: BTreeMap<String, Instant>,
}

impl GuestLog {
    pub(super) fn new(plugin: &str) -> Self {
        let budget = Budget { lines: Bucket::new(RATE), dropped: 0, written: BTreeMap::new() };
        GuestLog { plugin: plugin.into(), budget: Arc::new(Mutex::new(budget)) }
    }

    /// Takes one line from the budget; `Some(n)` when it may be written, `n` lines having been dropped before it.
    fn admit(&self) -> Option<u64> {
        let mut budget = self.budget.lock();
        if budget.lines.level() + 1.0 > BURST {
            budget.dropped += 1;
            return None;
        }
        budget.lines.add();
        Some(std::mem::take(&mut budget.dropped))
    }

    /// Whether this line was written lately; cheap, since a flood asks a million times.
    fn is_old(&self, line: &str) -> bool {
        let budget = self.budget.lock();
        budget.written.get(line).is_some_and(|at| at.elapsed() < ONCE_IN)
    }

    fn remember(&self, line: &str) {
        let mut budget = self.budget.lock();
        budget.written.retain(|_, at| at.elapsed() < ONCE_IN);
        if budget.written.len() < REMEMBERED && line.len() <= LINE_LIMIT {
            budget.written.insert(line.to_owned(), Instant::now());
        }
    }

    pub(super) fn write(&self, level: Level, line: &str) {
        if self.is_old(line) {
            return;
        }
        let Some(dropped) = self.admit() else { return };
        self.remember(line);
        let plugin = &*self.plugin;
        if dropped > 0 {
            warn!(plugin, dropped, "plugin exceeded its log rate; lines dropped");
        }
        let line = clean(line);
        match level {
            Level::TRACE => trace!(plugin, "{line}"),
            Level::DEBUG => debug!(plugin, "{line}"),
            Level::INFO => info!(plugin, "{line}"),
            Level::WARN => warn!(plugin, "{line}"),
            Level::ERROR => error!(plugin, "{line}"),
        }
    }

    pub(super) fn stream(&self, name: &'static str, tail: StderrTail) -> GuestStream {
        GuestStream { log: self.clone(), name, tail }
    }
}

/// One line without control characters, at most [`LINE_LIMIT`] bytes long.
fn clean(line: &str) -> String {
    let mut text = String::with_capacity(line.len().min(LINE_LIMIT));
    for c in line.chars() {
        if text.len() >= LINE_LIMIT {
            text.push('…');
            break;
        }
        if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text
}

/// The last bytes of standard error: where a guest's panic text stands.
#[derive(Clone, Default)]
pub(super) struct StderrTail(Arc<Mutex<Vec<u8>>>);

impl StderrTail {
    fn push(&self, bytes: &[u8]) {
        let mut tail = self.0.lock();
        tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL_LIMIT)..]);
        let excess = tail.len().saturating_sub(TAIL_LIMIT);
        tail.drain(..excess);
    }

    /// The text so far, on one line.
    pub(super) fn text(&self) -> String {
        let tail = self.0.lock();
        let text = String::from_utf8_lossy(&tail);
        let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        clean(&lines.join(" | "))
    }
}

/// Standard output or error of a guest: never full, never failing, lines into the log.
#[derive(Clone)]
pub(super) struct GuestStream {
    log: GuestLog,
    name: &'static str,
    tail: StderrTail,
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.tail.push(&bytes);
        for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.trim().is_empty()) {
            self.log.write(Level::INFO, &format!("{}: {line}", self.name));
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_cleaned() {
        assert_eq!(clean("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert!(clean(&"é".repeat(100_000)).len() <= LINE_LIMIT + 8);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_cut_to_the_rate_and_says_so() {
        let log = GuestLog::new("noisy");
        let admitted = (0..1_000_000).filter(|_| log.admit().is_some()).count();
        assert_eq!(admitted, 50);
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(log.admit(), Some(999_950));
        assert_eq!(log.admit(), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_line_is_written_once() {
        let log = GuestLog::new("repeats itself");
        log.remember("bad value");
        assert!(log.is_old("bad value") && !log.is_old("another"));
        tokio::time::advance(ONCE_IN).await;
        assert!(!log.is_old("bad value"));
    }

    #[test]
    fn the_tail_keeps_the_end() {
        let tail = StderrTail::default();
        tail.push(&vec![b'x'; 100_000]);
        tail.push(b"\nthread panicked at src/lib.rs:3\n");
        assert!(tail.text().len() <= TAIL_LIMIT);
        assert!(tail.text().ends_with("thread panicked at src/lib.rs:3") || tail.text().ends_with('…'));
    }
}
