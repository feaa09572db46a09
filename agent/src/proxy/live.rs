//! The stats socket of a running proxy: one line, one connection, one answer.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Longest line, in bytes; `HAProxy` resets the connection of one that does not fit its 16 KiB buffer.
const LINE_LIMIT: usize = 16_000;
/// Longest answer, in bytes: a service with some 50,000 servers.
const ANSWER_LIMIT: u64 = 8 << 20;
/// Memory for an answer at first, in bytes.
const ANSWER_SIZE: usize = 16 << 10;
/// Queries that are asked at the same time.
const PARALLEL: usize = 4;
/// How often a query is asked that is not answered, and the time between.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(20);

/// A unix socket on which a proxy takes one line for each connection, answers in text and closes it.
#[derive(Clone, Debug)]
pub struct Socket {
    path: PathBuf,
    limit: Duration,
}

impl Socket {
    /// The socket at `path`; `limit` is the longest that one line may take.
    pub fn new(path: PathBuf, limit: Duration) -> Self {
        Socket { path, limit }
    }

    /// The answers to several queries, in their order.
    ///
    /// # Errors
    /// As [`Socket::say`], and when one of them is not answered, asked again or not.
    pub async fn ask(&self, queries: &[String]) -> Result<Vec<String>> {
        let asking: Vec<_> = queries.iter().map(|query| self.ask_one(query).boxed()).collect();
        futures::stream::iter(asking).buffered(PARALLEL).try_collect().await
    }

    /// A process that reloads may close a connection that it has just taken.
    async fn ask_one(&self, query: &str) -> Result<String> {
        let mut tries = 1;
        loop {
            match self.say(query).await {
                Ok(answer) if !answer.is_empty() => return Ok(answer),
                answer if tries == TRIES => {
                    let said = answer?;
                    bail!("stats socket {}: {query:?} is answered by {said:?}", self.path.display());
                }
                _ => tries += 1,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Sends one line and gives the answer, whatever it says.
    ///
    /// # Errors
    /// Nobody listens, the line is none, or there is no answer in time.
    pub async fn say(&self, line: &str) -> Result<String> {
        ensure!(
            line.len() <= LINE_LIMIT && !line.chars().any(char::is_control),
            "{:?} is not sent: expected one line of at most {LINE_LIMIT} bytes",
            line.chars().take(100).collect::<String>()
        );
        let place = || format!("stats socket {}", self.path.display());
        let answer = tokio::time::timeout(self.limit, self.converse(line)).await;
        answer.with_context(|| format!("no answer within {:?}", self.limit)).and_then(|said| said).with_context(place)
    }

    async fn converse(&self, line: &str) -> Result<String> {
        let mut stream = UnixStream::connect(&self.path)
            .await
            .context("nobody answers; is the proxy running, and does its configuration have this socket?")?;
        stream.write_all(format!("{line}\n").as_bytes()).await.context("cannot be written to")?;
        stream.shutdown().await.context("cannot be written to")?;
        // Most answers fit, so they are read at once instead of in pieces of 32 bytes and more.
        let mut answer = Vec::with_capacity(ANSWER_SIZE);
        stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await.context("cannot be read")?;
        Ok(String::from_utf8(answer).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_come_in_the_order_of_the_queries() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut line = String::new();
                stream.read_to_string(&mut line).await.unwrap();
                stream.write_all(format!("so {line}").as_bytes()).await.unwrap();
            }
        });
        let socket = Socket::new(path, Duration::from_secs(10));
        let queries: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let expected: Vec<String> = queries.iter().map(|query| format!("so {query}\n")).collect();
        assert_eq!(socket.ask(&queries).await.unwrap(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_that_is_away_or_hangs_and_a_line_that_is_none_are_said_in_words() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let socket = Socket::new(path.clone(), Duration::from_secs(2));
        let said = |result: Result<String>| format!("{:#}", result.unwrap_err());
        assert!(said(socket.say("show info").await).contains("is the proxy running, and"));
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        assert!(said(socket.say("show info").await).contains("no answer within 2s"));
        assert!(said(socket.say("show\ninfo").await).contains("expected one line"));
    }
}
