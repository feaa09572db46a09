//! The load sees every loss: against servers that lose some on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::ensure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::{CHANGE_TIMEOUT, eventually};

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na/1\n";

/// What a server does with a request, given its number.
type Answer = fn(u64) -> LivePlan;

enum LivePlan {
    /// Sends this and waits for the next request.
    Say(&'static str),
    /// Sends this, and ends the connection in order.
    Last(&'static str),
    /// Sends this, and ends the connection with a reset.
    Reset(&'static str),
    /// Says nothing any more.
    Silence,
}

/// Requests that a server saw.
struct Server {
    inside: NetnsRuntime,
    address: SocketAddr,
    seen: Arc<AtomicU64>,
}

impl Server {
    fn start(answer: Answer) -> Server {
        let (inside, seen) = (NetnsRuntime::here(), Arc::new(AtomicU64::new(0)));
        let listener = inside.run(async { TcpListener::bind("127.0.0.1:0").await.unwrap() });
        let (address, count) = (listener.local_addr().unwrap(), seen.clone());
        inside.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, count.clone(), answer));
            }
        });
        Server { inside, address, seen }
    }

    /// A load on it, until `requests` were seen.
    fn loaded(&self, requests: u64, change: impl FnOnce(&mut LoadOptions)) -> Tally {
        let mut options = LoadOptions::new(self.address, vec!["a.example".into()]);
        options.rate = 4000;
        change(&mut options);
        let load = Load::here(options);
        eventually(CHANGE_TIMEOUT, "the server is asked", || {
            let seen = self.seen.load(Ordering::Relaxed);
            ensure!(seen >= requests, "{seen} requests");
            Ok(())
        });
        load.finish()
    }
}

async fn serve(mut stream: TcpStream, count: Arc<AtomicU64>, answer: Answer) {
    let mut request = Vec::new();
    while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let close = String::from_utf8_lossy(&request).contains("close");
        request.clear();
        let reaction = answer(count.fetch_add(1, Ordering::Relaxed) + 1);
        let (text, ends) = match reaction {
            LivePlan::Say(text) => (text, close),
            LivePlan::Last(text) => (text, true),
            LivePlan::Reset(text) => {
                stream.set_zero_linger().unwrap();
                (text, true)
            }
            LivePlan::Silence => return std::future::pending().await,
        };
        if stream.write_all(text.as_bytes()).await.is_err() || ends {
            return;
        }
    }
}

#[test]
fn what_is_good_counts_as_good() {
    let server = Server::start(|_| LivePlan::Say(GOOD));
    let tally = server.loaded(1000, |_| ());
    let seen = server.seen.load(Ordering::Relaxed);
    assert_eq!((tally.lost(), tally.answered, tally.by_server["a/1"]), (0, seen, seen), "{tally}");
    let fresh = tally.connections - 8;
    assert!(fresh > 100 && fresh < seen - 100, "half of the clients keep their connection: {tally}");
}

#[test]
fn every_hundredth_that_is_reset_is_counted() {
    let server = Server::start(|number| if number % 100 == 0 { LivePlan::Reset("") } else { LivePlan::Say(GOOD) });
    let tally = server.loaded(1000, |_| ());
    let seen = server.seen.load(Ordering::Relaxed);
    assert_eq!((tally.sent(), tally.reset, tally.lost()), (seen, seen / 100, seen / 100), "{tally}");
    assert_eq!(tally.losses.len() as u64, seen / 100);
    assert!(tally.losses[0].contains("before the answer"), "{:?}", tally.losses);
}

#[test]
fn an_answer_that_breaks_off_is_lost() {
    let server = Server::start(|number| match number % 100 {
        0 => LivePlan::Last("HTTP/1.1 200 OK\r\n"),
        33 => LivePlan::Last("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na"),
        66 => LivePlan::Last(""),
        _ => LivePlan::Say(GOOD),
    });
    let tally = server.loaded(1000, |_| ());
    let seen = server.seen.load(Ordering::Relaxed);
    let broken = seen / 100 + (seen + 67) / 100 + (seen + 34) / 100;
    assert_eq!((tally.sent(), tally.reset, tally.lost()), (seen, broken, broken), "{tally}");
}

#[test]
fn other_statuses_and_other_services_are_losses() {
    let server = Server::start(|number| match number % 50 {
        0 => LivePlan::Say("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
        25 => LivePlan::Say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nb/1\n"),
        _ => LivePlan::Say(GOOD),
    });
    let tally = server.loaded(1000, |_| ());
    let seen = server.seen.load(Ordering::Relaxed);
    assert_eq!((tally.failed, tally.astray, tally.sent()), (seen / 50, (seen + 25) / 50, seen), "{tally}");
}

#[test]
fn a_connection_that_is_closed_between_requests_is_no_loss() {
    let server = Server::start(|number| if number % 10 == 0 { LivePlan::Last(GOOD) } else { LivePlan::Say(GOOD) });
    let tally = server.loaded(1000, |options| options.fresh = 0);
    assert_eq!(tally.lost(), 0, "{tally}");
    assert!(tally.closed_idle >= 90, "{tally}");
}

#[test]
fn a_repeated_request_is_lost_when_it_is_lost_again() {
    // The second request of a connection is reset, and so is every third that is sent again.
    let server = Server::start(|number| if number % 3 == 0 { LivePlan::Reset("") } else { LivePlan::Say(GOOD) });
    let tally = server.loaded(500, |options| (options.fresh, options.keep_alive, options.repeat) = (0, 1, true));
    let seen = server.seen.load(Ordering::Relaxed);
    assert_eq!((tally.lost(), tally.sent() + tally.repeated), (0, seen), "{tally}");
    assert_eq!(tally.repeated, seen / 3, "{tally}");
}

#[test]
fn nobody_there_and_no_answer_are_losses() {
    let mut silent = Server::start(|_| LivePlan::Silence);
    let tally = silent.loaded(16, |options| options.patience = Duration::from_millis(200));
    assert_eq!((tally.timed_out, tally.answered), (tally.sent(), 0), "{tally}");
    // Its listener goes with its thread.
    silent.inside = NetnsRuntime::here();
    let load = Load::here(LoadOptions::new(silent.address, vec!["a.example".into()]));
    eventually(CHANGE_TIMEOUT, "connections are refused", || {
        ensure!(load.tally().refused > 100);
        Ok(())
    });
    let tally = load.finish();
    assert_eq!((tally.refused, tally.answered), (tally.sent(), 0), "{tally}");
}
