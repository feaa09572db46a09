//! What became of the requests of a load.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

/// Losses that are kept with their words.
const SAMPLES: usize = 20;

/// What became of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Status 200, with the body.
    Answered(String),
    /// Status 503 while there was nobody to answer, as it has to be.
    Away,
    /// Another status.
    Failed(u16),
    /// The connection ended before the answer was whole.
    Reset(String),
    /// No connection came about.
    Refused(String),
    /// No whole answer within the patience of the load.
    TimedOut,
}

/// What became of all requests; every request is in exactly one of the first seven numbers.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answered with 200 by a server of the service that was asked for.
    pub answered: u64,
    /// Answered with 503 while the service had no instance, which is no loss.
    pub away: u64,
    /// Answered with another status.
    pub failed: u64,
    /// The connection ended while the request was in flight.
    pub reset: u64,
    /// No connection came about.
    pub refused: u64,
    /// Not answered in time.
    pub timed_out: u64,
    /// Answered with 200 by a server of another service.
    pub astray: u64,
    /// Not requests: connections that the other side closed between two requests, which HTTP allows.
    pub closed_idle: u64,
    /// Requests that were sent again, see [`LoadOptions::repeat`](super::LoadOptions::repeat); each is also in one number above.
    pub repeated: u64,
    /// Connections that were opened.
    pub connections: u64,
    /// Answers by each server, named as it answers.
    pub by_server: BTreeMap<String, u64>,
    /// The longest time to an answer.
    pub slowest: Duration,
    /// The first losses in words.
    pub losses: Vec<String>,
}

impl Tally {
    /// All requests.
    pub fn sent(&self) -> u64 {
        self.answered + self.away + self.lost()
    }

    /// The requests without the answer that they should have had.
    pub fn lost(&self) -> u64 {
        self.failed + self.reset + self.refused + self.timed_out + self.astray
    }

    /// Counts one request for `domain` that took `time`.
    pub(super) fn count(&mut self, domain: &str, outcome: &Outcome, time: Duration) {
        let number = match outcome {
            Outcome::Answered(body) => {
                *self.by_server.entry(body.clone()).or_default() += 1;
                self.slowest = self.slowest.max(time);
                if right(domain, body) { &mut self.answered } else { &mut self.astray }
            }
            Outcome::Away => &mut self.away,
            Outcome::Failed(_) => &mut self.failed,
            Outcome::Reset(_) => &mut self.reset,
            Outcome::Refused(_) => &mut self.refused,
            Outcome::TimedOut => &mut self.timed_out,
        };
        *number += 1;
        let good = *outcome == Outcome::Away || matches!(outcome, Outcome::Answered(body) if right(domain, body));
        if !good && self.losses.len() < SAMPLES {
            let now = humantime::format_rfc3339_millis(SystemTime::now());
            self.losses.push(format!("{now} {domain} after {time:.1?}: {outcome:?}"));
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({
            "sent": self.sent(), "answered": self.answered, "away": self.away, "lost": self.lost(), "failed": self.failed,
            "reset": self.reset, "refused": self.refused, "timed-out": self.timed_out, "astray": self.astray,
            "closed-idle": self.closed_idle, "repeated": self.repeated, "connections": self.connections,
            "servers": self.by_server.len(), "slowest-ms": self.slowest.as_millis(), "losses": self.losses,
        })
    }
}

/// Whether `body` comes from the service of `domain`: a [`Server`](crate::Server) answers `<service>/<instance>`, and the
/// first label of a domain is its service. Other servers cannot tell, and are believed.
fn right(domain: &str, body: &str) -> bool {
    body.split_once('/').is_none_or(|(service, _)| domain.split('.').next() == Some(service))
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests: {} answered by {} servers, {} while there was none, {} lost ({} failed, {} reset, {} refused, {} timed out, {} astray), \
             {} connections, {} of them closed while idle",
            self.sent(),
            self.answered,
            self.by_server.len(),
            self.away,
            self.lost(),
            self.failed,
            self.reset,
            self.refused,
            self.timed_out,
            self.astray,
            self.connections,
            self.closed_idle
        )
    }
}
