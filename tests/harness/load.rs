//! A load of HTTP requests at a bounded rate that knows what became of every one.
//!
//! Some clients keep their connection, the others open one for each request. A kept connection that the other side has
//! closed before a request was sent is no loss; whatever happens to a request after it was sent is.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::host::Host;
use crate::netns_runtime::NetnsRuntime;

mod away;
mod client;
mod tally;
#[cfg(test)]
mod tests;

pub use away::Away;
use client::Client;
pub use tally::{Outcome, Tally};

/// What a proxy answers for a service without an instance.
const UNAVAILABLE: u16 = 503;

/// What is asked, by how many and how often.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where all connections go.
    pub address: SocketAddr,
    /// The `Host` headers, one after the other.
    pub domains: Vec<String>,
    /// Clients that keep their connection.
    pub keep_alive: usize,
    /// Clients that open a connection for each request.
    pub fresh: usize,
    /// Requests a second, of all clients together; fewer when answers take long, never more.
    pub rate: u32,
    /// How long one request may take.
    pub patience: Duration,
    /// Whether a request is sent again when a kept connection ends before anything of its answer came. HTTP lets clients
    /// do so, and they do: a proxy that closes idle connections cannot know that a request is on its way.
    pub repeat: bool,
    /// When 503 is the right answer, because what is asked for has no instance.
    pub away: Option<Away>,
}

impl LoadOptions {
    /// Eight clients of each kind, 400 requests a second in all, ten seconds for each, none of them sent twice.
    pub fn new(address: SocketAddr, domains: Vec<String>) -> LoadOptions {
        let patience = Duration::from_secs(10);
        LoadOptions { address, domains, keep_alive: 8, fresh: 8, rate: 400, patience, repeat: false, away: None }
    }
}

/// Clients that send requests until [`Load::finish`].
pub struct Load {
    inside: NetnsRuntime,
    tally: Arc<Mutex<Tally>>,
    stop: watch::Sender<bool>,
    clients: Option<JoinSet<()>>,
}

impl Load {
    /// Sends requests from `host`.
    pub fn from(host: &Host, options: LoadOptions) -> Load {
        Load::start(NetnsRuntime::of(host), options)
    }

    /// Sends requests from where the test runs.
    pub fn here(options: LoadOptions) -> Load {
        Load::start(NetnsRuntime::here(), options)
    }

    fn start(inside: NetnsRuntime, options: LoadOptions) -> Load {
        assert!(!options.domains.is_empty(), "no domain to ask for");
        let (tally, (stop, stopped)) = (Arc::new(Mutex::new(Tally::default())), watch::channel(false));
        let (options, counted) = (Arc::new(options), tally.clone());
        let clients = inside.run(async move {
            let mut clients = JoinSet::new();
            for number in 0..options.keep_alive + options.fresh {
                clients.spawn(client(number, options.clone(), counted.clone(), stopped.clone()));
            }
            clients
        });
        Load { inside, tally, stop, clients: Some(clients) }
    }

    /// What became of the requests up to now.
    pub fn tally(&self) -> Tally {
        locked(&self.tally).clone()
    }

    /// Sends no more, waits for the answers that are owed, and says what became of all requests.
    pub fn finish(mut self) -> Tally {
        self.stop.send_replace(true);
        if let Some(mut clients) = self.clients.take() {
            self.inside.run(async move {
                while let Some(ended) = clients.join_next().await {
                    ended.expect("a client panicked");
                }
            });
        }
        self.tally()
    }
}

async fn client(
    number: usize,
    options: Arc<LoadOptions>,
    tally: Arc<Mutex<Tally>>,
    mut stopped: watch::Receiver<bool>,
) {
    let all = options.keep_alive + options.fresh;
    let period = Duration::from_secs(1) * u32::try_from(all).expect("few clients") / options.rate;
    // Clients take turns within the period.
    let begin =
        Instant::now() + period * u32::try_from(number).expect("few clients") / u32::try_from(all).expect("few");
    let mut ticks = interval_at(begin, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut client = Client::new(options.address, number < options.keep_alive);
    for turn in number.. {
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return,
            _ = ticks.tick() => {}
        }
        let domain = &options.domains[turn % options.domains.len()];
        let (begun, then) = (Instant::now(), options.away.as_ref().map(Away::now));
        let (mut outcome, repeatable) = limited(&mut client, domain, &options).await;
        let again = repeatable && options.repeat;
        if again {
            outcome = limited(&mut client, domain, &options).await.0;
        }
        let was_away = options.away.as_ref().zip(then).is_some_and(|(away, then)| away.was_since(then));
        if was_away && outcome == Outcome::Failed(UNAVAILABLE) {
            outcome = Outcome::Away;
        }
        let mut tally = locked(&tally);
        tally.count(domain, &outcome, begun.elapsed());
        tally.repeated += u64::from(again);
        tally.connections += std::mem::take(&mut client.connections);
        tally.closed_idle += std::mem::take(&mut client.closed_idle);
    }
}

async fn limited(client: &mut Client, domain: &str, options: &LoadOptions) -> (Outcome, bool) {
    timeout(options.patience, client.request(domain)).await.unwrap_or((Outcome::TimedOut, false))
}

fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
