//! Proxies that the agent runs itself.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use waypost::proxy::{Proxy, ProxyOptions, Reload, Signal};
use waypost_test_support::{DEADLINE, Program, eventually_async, holds};

use super::site::{Site, alive, kill, reload, state, supervise};

#[tokio::test]
async fn haproxy_starts_with_the_first_files_and_follows_them() {
    let mut site = Site::new();
    let proxy = site.supervised();
    assert_eq!(proxy.status().borrow().running, None);
    site.configure("one", "");
    reload(&proxy).await;
    assert!(site.answers("one"), "it is ready when the reload is done");
    let pid = state(&proxy, "a pid", |status| status.running.is_some()).await.running.unwrap();
    site.kill_at_end(pid);
    for round in 0..20 {
        site.configure(&format!("round-{round}"), "");
        reload(&proxy).await;
        let word = format!("round-{round}");
        site.until_answers(&word).await;
    }
    assert_eq!(proxy.status().borrow().clone().running, Some(pid), "no reload starts a new master");
    proxy.stop().await;
    assert_eq!((site.answer(), site.hidden(), alive(pid)), (None, Vec::new(), false));
}

#[tokio::test]
async fn a_reload_that_haproxy_refuses_is_a_failure_with_its_words() {
    let site = Site::new();
    let proxy = site.supervised();
    site.configure("one", "");
    reload(&proxy).await;
    site.configure("two", "garbage");
    proxy.request_reload();
    let status = state(&proxy, "a failure", |status| status.last_error.is_some()).await;
    let error = status.last_error.unwrap();
    assert!(error.contains("unknown keyword 'garbage'"), "{error}");
    assert_eq!((status.wanted, status.done), (2, 1));
    assert!(site.answers("one"), "the old files are served on");
    site.configure("two", "");
    state(&proxy, "the repeated reload", |status| status.done == 2).await;
    site.until_answers("two").await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_proxy_that_cannot_start_says_why_and_is_tried_again() {
    let site = Site::new();
    let proxy = site.supervised();
    site.configure("one", "garbage");
    proxy.request_reload();
    let status = state(&proxy, "a failure", |status| status.last_error.is_some()).await;
    let error = status.last_error.unwrap();
    assert!(error.contains("exit status: 1") && error.contains("unknown keyword 'garbage'"), "{error}");
    site.configure("one", "");
    state(&proxy, "the start", |status| status.done == 1).await;
    assert!(site.answers("one"));
    proxy.stop().await;
}

#[tokio::test]
async fn a_proxy_that_dies_is_started_again() {
    let site = Site::new();
    let proxy = site.supervised();
    site.configure("one", "");
    reload(&proxy).await;
    let first = state(&proxy, "a pid", |status| status.running.is_some()).await.running.unwrap();
    kill("-KILL", &first.to_string());
    let status = state(&proxy, "its end", |status| status.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("signal: 9"));
    let again = state(&proxy, "another", |status| status.running.is_some_and(|pid| pid != first)).await;
    assert_eq!((again.done, again.last_error), (1, None));
    site.until_answers("one").await;
    proxy.stop().await;
}

#[tokio::test]
async fn reloads_that_come_too_fast_wait_and_none_is_lost() {
    let site = Site::new();
    let options = site.options(Some(supervise(&["haproxy", "-Ws", "-f", "{dir}/haproxy.cfg"])));
    let least = Duration::from_secs(1);
    let proxy = Proxy::new(ProxyOptions { min_interval: least, ..options });
    site.configure("one", "");
    let begin = tokio::time::Instant::now();
    reload(&proxy).await;
    for word in ["two", "three", "four"] {
        site.configure(word, "");
        proxy.request_reload();
    }
    let status = state(&proxy, "the last request", |status| status.done == 4).await;
    assert_eq!((status.reloads, status.last_error), (2, None), "they are one reload");
    assert!(begin.elapsed() >= least, "after {:?}", begin.elapsed());
    site.until_answers("four").await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_master_that_does_not_notify_is_told_by_its_workers() {
    let site = Site::new();
    let proxy = site.proxy(supervise(&["haproxy", "-W", "-f", "{dir}/haproxy.cfg"]));
    site.configure("one", "");
    reload(&proxy).await;
    assert!(site.answers("one"));
    site.configure("two", "");
    reload(&proxy).await;
    site.until_answers("two").await;
    proxy.stop().await;
    assert_eq!(site.answer(), None);
}

#[tokio::test]
async fn nginx_reloads_by_hup_and_is_told_by_its_workers() {
    let site = Site::new();
    let configure = |word: &str, more: &str| {
        let dir = site.dir.path().display();
        let text = format!(
            "pid {dir}/nginx.pid; daemon off; events {{}}\n\
             http {{ access_log off; server {{ listen 127.0.0.1:{}; location / {{ return 200 {word}; }} }} {more} }}\n",
            site.port
        );
        fs::write(site.path("nginx.conf"), text).unwrap();
    };
    let command = ["nginx", "-e", "stderr", "-c", "{dir}/nginx.conf"].map(str::to_owned).to_vec();
    let options = site.options(Some(Reload::Supervise { command, signal: Signal::Hup }));
    let proxy = Proxy::new(ProxyOptions { timeout: Duration::from_secs(4), ..options });
    configure("one", "");
    reload(&proxy).await;
    assert!(site.answers("one"));
    configure("two", "garbage;");
    proxy.request_reload();
    let status = state(&proxy, "a failure", |status| status.last_error.is_some()).await;
    let error = status.last_error.unwrap();
    assert!(error.contains("no new worker") && error.contains("unknown directive \"garbage\""), "{error}");
    configure("two", "");
    state(&proxy, "the repeated reload", |status| status.done == 2).await;
    site.until_answers("two").await;
    proxy.stop().await;
    assert_eq!(site.answer(), None);
}

#[tokio::test]
async fn a_process_that_ignores_its_end_is_killed_with_its_children() {
    let mut site = Site::new();
    let body = "trap '' TERM; trap 'echo again >> \"$0.reloads\"' USR2; sleep 600 & echo $! > \"$0.child\"\n\
                while :; do wait; done";
    let script = site.script("stubborn", body);
    let proxy = site.proxy(supervise(&["sh", &script]));
    reload(&proxy).await;
    let pid = state(&proxy, "a pid", |status| status.running.is_some()).await.running.unwrap();
    site.kill_at_end(pid);
    reload(&proxy).await;
    eventually_async(DEADLINE, "the reload", async || {
        let noted = fs::read_to_string(site.path("stubborn.reloads"))?;
        holds(noted == "again\n", noted)
    })
    .await;
    let child: u32 = fs::read_to_string(site.path("stubborn.child")).unwrap().trim().parse().unwrap();
    assert!(alive(child));
    proxy.stop().await;
    eventually_async(DEADLINE, "the end of both", async || holds(!alive(pid) && !alive(child), (pid, child))).await;
}

/// Starts this test binary again as another process.
fn process(name: &str, site: &Site) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("proxy::supervised::{name}"), "--ignored", "--nocapture"]);
    command.env("WAYPOST_TEST_DIR", site.dir.path()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn options_of_the_part() -> Option<ProxyOptions> {
    let dir = std::env::var_os("WAYPOST_TEST_DIR")?;
    let command = ["haproxy", "-Ws", "-f", "{dir}/haproxy.cfg"];
    Some(ProxyOptions { dir: dir.into(), ..Site::new().options(Some(supervise(&command))) })
}

#[tokio::test]
#[ignore = "the agent that another test kills"]
async fn agent() {
    let Some(options) = options_of_the_part() else { return };
    let proxy = Proxy::new(options);
    reload(&proxy).await;
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_agent_leaves_the_proxy_to_the_next() {
    let mut site = Site::new();
    site.configure("one", "");
    let agent = Program::start(process("agent", &site), "it is this test");
    site.until_answers("one").await;
    let pid = eventually_async(DEADLINE, "the note", async || site.noted().context("there is none")).await;
    site.kill_at_end(pid);
    drop(agent);
    // Many lines with nobody there to read them: it must neither end nor stall.
    for _ in 0..3 {
        kill("-USR2", &pid.to_string());
    }
    assert!(site.answers("one") && alive(pid));

    let proxy = site.supervised();
    assert_eq!(state(&proxy, "the adoption", |status| status.running.is_some()).await.running, Some(pid));
    site.configure("two", "");
    reload(&proxy).await;
    site.until_answers("two").await;
    site.configure("three", "garbage");
    proxy.request_reload();
    let status = state(&proxy, "a failure", |status| status.last_error.is_some()).await;
    let error = status.last_error.unwrap();
    assert!(error.contains("unknown keyword 'garbage'"), "its lines reach the new agent: {error}");
    assert_eq!((status.running, site.answers("two")), (Some(pid), true));

    // An adopted one that dies is started again.
    site.configure("three", "");
    kill("-KILL", &pid.to_string());
    let other = state(&proxy, "another", |status| status.running.is_some_and(|other| other != pid)).await;
    site.until_answers("three").await;

    // Left on purpose, and found again with another command: stopped, and started with the next request.
    proxy.leave().await;
    assert!(site.answers("three"));
    let proxy = site.proxy(supervise(&["haproxy", "-Ws", "-q", "-f", "{dir}/haproxy.cfg"]));
    reload(&proxy).await;
    assert!(!alive(other.running.unwrap()) && site.answers("three"));
    proxy.stop().await;
    assert_eq!(site.answer(), None);
}

/// Says that it reloads and is ready, but only to every second signal.
#[tokio::test]
#[ignore = "the proxy that loses signals in another test"]
async fn forgetful() {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let socket = UnixDatagram::unbound().unwrap();
    let say = |text: &str| socket.send_to(text.as_bytes(), &address).unwrap();
    let mut signals = signal(SignalKind::user_defined2()).unwrap();
    say("READY=1");
    loop {
        signals.recv().await;
        signals.recv().await;
        say("RELOADING=1");
        say("READY=1");
    }
}

#[tokio::test]
async fn a_signal_that_nothing_answers_is_sent_again() {
    let site = Site::new();
    let executable = std::env::current_exe().unwrap();
    let command = [executable.to_str().unwrap(), "--exact", "proxy::supervised::forgetful", "--ignored", "--nocapture"];
    let proxy = site.proxy(supervise(&command));
    reload(&proxy).await;
    let begin = tokio::time::Instant::now();
    let status = reload(&proxy).await;
    assert_eq!((status.done, status.last_error), (2, None));
    assert!(begin.elapsed() >= Duration::from_millis(300));
    proxy.stop().await;
}
