//! A standby backend that has served somebody is not given to the next one while a request of its last owner is open.

use std::sync::{Arc, Mutex};

use anyhow::ensure;
use harness::{Agent, CHANGE_TIMEOUT, Host, Network, Section, eventually};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Offers, at_once, clean, discovering, http, live, unavailable};

/// The heads of the requests that a server has got.
type Heads = Arc<Mutex<Vec<String>>>;

/// Takes requests, notes them, and answers them only when it is `prompt`; all its connections end with `running`.
async fn listen(listener: TcpListener, heads: Heads, prompt: bool, mut running: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = running.changed() => return,
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { return };
                let (heads, mut running) = (Arc::clone(&heads), running.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        _ = running.changed() => {}
                        _ = answer(BufReader::new(stream), heads, prompt) => {}
                    }
                });
            }
        }
    }
}

async fn answer(mut stream: BufReader<TcpStream>, heads: Heads, prompt: bool) -> std::io::Result<()> {
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        heads.lock().unwrap().push(head);
        if !prompt {
            return std::future::pending().await;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nstranger").await?;
    }
}

/// Starts such a server and registers it; gives what it gets, and what ends it.
fn start(offers: &Offers<'_>, service: &str, prompt: bool) -> (Heads, watch::Sender<bool>) {
    let (heads, address) = (Heads::default(), (offers.address, 0));
    let (stop, running) = watch::channel(true);
    let listener = offers.inside.run(async move { TcpListener::bind(address).await.unwrap() });
    let port = listener.local_addr().unwrap().port();
    offers.inside.spawn(listen(listener, Arc::clone(&heads), prompt, running));
    let attributes = http(&format!("{service}.example"), "/");
    offers.put(&format!("{service}/one"), &json!({"address": offers.address, "port": port, "attributes": attributes}));
    (heads, stop)
}

fn given_away(section: fn(&Host) -> Section) {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let offers = Offers::on(&host, &etcd);
    let agent =
        Agent::start(&host, "agent", &discovering(&host, &etcd, &section(&host).setting("standby-backends", 1)));
    clean(&agent);
    let (seen, owner) = start(&offers, "shop", false);
    let secret = "GET /basket HTTP/1.1\r\nHost: shop.example\r\nCookie: session=secret\r\nConnection: close\r\n\r\n";
    let answer = std::thread::scope(|scope| {
        // Until it is routed there is another answer.
        let request = scope.spawn(|| {
            eventually(CHANGE_TIMEOUT, "the request gets to its service", || {
                let answer = host.connect(80)?.exchange(secret);
                ensure!(!seen.lock().unwrap().is_empty(), "{answer:?}");
                Ok(answer)
            })
        });
        eventually(CHANGE_TIMEOUT, "the owner has the request", || {
            ensure!(!seen.lock().unwrap().is_empty());
            Ok(())
        });
        offers.etcd.delete("/waypost/services/shop/one");
        unavailable(&host, "shop.example", "/");
        let (heads, _stranger) = start(&offers, "stranger", true);
        eventually(CHANGE_TIMEOUT, "the stranger is served", || {
            let seen = host.connect(80)?.get_of("stranger.example", "/")?.good()?;
            ensure!(seen == "stranger");
            Ok(())
        });
        owner.send(false).unwrap();
        let answer = request.join().unwrap();
        let heads = heads.lock().unwrap().clone();
        assert!(!heads.iter().any(|head| head.contains("secret")), "the stranger was sent {heads:?}");
        answer
    });
    assert!(!answer.unwrap_or_default().contains("stranger"));
}

#[test]
fn a_request_never_gets_to_the_next_owner_of_its_backend() {
    given_away(live);
}

#[test]
fn a_request_never_gets_to_the_next_owner_of_its_backend_when_nothing_lingers() {
    given_away(at_once);
}
