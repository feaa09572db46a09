//! Reloads by the socket of `HAProxy`'s master process.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use waypost::proxy::{Proxy, ProxyOptions, Reload};
use waypost_test_support::{Program, Signal, haproxy};

use super::site::{Site, reload, state};

/// A master with a socket, as Debian's unit runs it.
async fn start(site: &Site, word: &str) -> Program {
    let master = haproxy(&["-W", "-S", socket(site).to_str().unwrap()], site.dir.path()).ended_by(Signal::TERM);
    site.until_answers(word).await;
    master
}

fn socket(site: &Site) -> PathBuf {
    site.path("master.sock")
}

fn proxy(site: &Site, limit: Duration) -> Proxy {
    let options = site.options(Some(Reload::MasterSocket(socket(site))));
    Proxy::new(ProxyOptions { timeout: limit, ..options })
}

#[tokio::test]
async fn a_reload_is_confirmed_and_a_refusal_told() {
    let site = Site::new();
    let proxy = proxy(&site, Duration::from_secs(10));
    site.configure("one", "");
    proxy.request_reload();
    let status = state(&proxy, "a failure", |status| status.last_error.is_some()).await;
    let error = status.last_error.unwrap();
    assert!(error.contains("does HAProxy run, with -W and -S?"), "{error}");
    let master = start(&site, "one").await;
    state(&proxy, "the repeated reload", |status| status.done == 1).await;

    for round in 0..10 {
        let word = format!("round-{round}");
        site.configure(&word, "");
        reload(&proxy).await;
        // The old worker may take connections until it has seen that it was replaced.
        site.until_answers(&word).await;
    }
    site.configure("bad", "garbage");
    proxy.request_reload();
    let status = state(&proxy, "a failure", |status| status.last_error.is_some()).await;
    let error = status.last_error.unwrap();
    assert!(error.contains("the proxy refused the new files and goes on with the old ones"), "{error}");
    assert!(site.answers("round-9"));
    site.configure("good", "");
    state(&proxy, "the repeated reload", |status| status.done == status.wanted).await;
    site.until_answers("good").await;

    // A master that is started again has counted no reloads.
    drop(master);
    site.configure("fresh", "");
    let _master = start(&site, "fresh").await;
    site.configure("last", "");
    reload(&proxy).await;
    site.until_answers("last").await;
    proxy.stop().await;
}

/// What a master that answers as 2.7 and later do is asked, and says.
fn answering(listener: &UnixListener, answers: &[(&str, &str)]) {
    for (expected, answer) in answers {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = String::new();
        // The end of the query is the end of what is sent.
        stream.read_to_string(&mut asked).unwrap();
        assert_eq!(asked, format!("{expected}\n"));
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

#[tokio::test]
async fn the_answer_of_a_newer_master_is_taken_with_its_words() {
    let site = Site::new();
    let listener = UnixListener::bind(socket(&site)).unwrap();
    let list = "1 master 0 [failed: 0] 0d 3.0\n# workers\n2 worker 0 0d 3.0\n";
    let refusal = "Success=0\n--\n[NOTICE] (1) : haproxy version is 3.0\n[ALERT] (1) : config : unknown keyword\n\n";
    let script = [("show proc", list), ("reload", refusal), ("show proc", list), ("reload", "Success=1\n--\n\n")];
    let master = std::thread::spawn(move || answering(&listener, &script));
    let proxy = proxy(&site, Duration::from_secs(10));
    proxy.request_reload();
    let status = state(&proxy, "a failure", |status| status.last_error.is_some()).await;
    let error = status.last_error.unwrap();
    assert!(error.ends_with("the old ones: [ALERT] (1) : config : unknown keyword"), "{error}");
    state(&proxy, "the repeated reload", |status| status.done == 1).await;
    proxy.stop().await;
    master.join().unwrap();
}

#[tokio::test]
async fn no_second_reload_is_asked_for_before_the_first_is_confirmed() {
    let site = Site::new();
    let listener = UnixListener::bind(socket(&site)).unwrap();
    let list = |reloads: u32, worker: u32| format!("1 master {reloads} [failed: 0] 0d 2.6\n2 worker {worker} 0d 2.6\n");
    let (before, midway, after) = (list(0, 0), list(1, 1), list(1, 0));
    let failed = Arc::new(AtomicBool::new(false));
    let is_late = Arc::clone(&failed);
    let master = std::thread::spawn(move || {
        answering(&listener, &[("show proc", &before), ("reload", "")]);
        // It reloads for longer than the time limit, and is asked about that before anything else.
        let mut confirmed = false;
        loop {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = String::new();
            stream.read_to_string(&mut asked).unwrap();
            if asked == "reload\n" {
                return confirmed;
            }
            let late = is_late.load(Ordering::Acquire);
            // The limit may end while this is being asked.
            let told = stream.write_all(if late { &after } else { &midway }.as_bytes());
            confirmed = late && told.is_ok();
        }
    });
    let proxy = proxy(&site, Duration::from_millis(1500));
    proxy.request_reload();
    let status = state(&proxy, "a failure", |status| status.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("did not confirm the reload within 1.5s"));
    failed.store(true, Ordering::Release);
    let confirmed = tokio::task::spawn_blocking(|| master.join().unwrap()).await.unwrap();
    assert!(confirmed, "asked for a second reload before the first was confirmed");
    proxy.stop().await;
}
