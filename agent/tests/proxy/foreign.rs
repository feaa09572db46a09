//! Checks, and proxies that somebody else runs.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use waypost::proxy::{Call, Location, Proxy, Reload, ReloadStatus, Signal, Verdict};
use waypost_test_support::{self as support, DEADLINE, Program, eventually_async, haproxy, holds};

use super::site::{Site, alive, kill, reload, state};

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn check(site: &Site, command: &[&str], limit: Duration) -> anyhow::Result<Verdict> {
    let options = waypost::proxy::ProxyOptions { check: Some(words(command)), timeout: limit, ..site.options(None) };
    let proxy = Proxy::new(options);
    let verdict = proxy.check(site.dir.path(), Vec::new(), None).await;
    proxy.stop().await;
    verdict
}

const HAPROXY: [&str; 4] = ["haproxy", "-c", "-f", "{dir}/haproxy.cfg"];
const LONG: Duration = Duration::from_secs(10);

#[tokio::test]
async fn haproxys_check_names_the_line() {
    let site = Site::new();
    site.configure("one", "");
    assert_eq!(check(&site, &HAPROXY, LONG).await.unwrap(), Verdict::Valid);

    site.configure("one", "garbage");
    let Verdict::Invalid { text, locations, .. } = check(&site, &HAPROXY, LONG).await.unwrap() else { panic!("valid") };
    let fault = "unknown keyword 'garbage' in 'frontend' section".to_owned();
    assert_eq!(locations, [Location { path: "haproxy.cfg".to_owned(), line: 9, text: fault, is_transient: false }]);
    assert!(text.contains("parsing [haproxy.cfg:9]"), "{text}");

    fs::write(site.path("haproxy.cfg"), "global\n").unwrap();
    let Verdict::Invalid { locations, .. } = check(&site, &HAPROXY, LONG).await.unwrap() else { panic!("valid") };
    assert_eq!(locations, [], "a file without a listener is refused, and no line is to blame");
}

#[tokio::test]
async fn a_check_that_cannot_run_is_no_verdict() {
    let site = Site::new();
    let said = |error: anyhow::Error| format!("{error:#}");
    let error = said(check(&site, &["no-such-proxy", "-c"], LONG).await.unwrap_err());
    assert!(error.contains("\"no-such-proxy\"; it is in no directory of PATH"), "{error}");
    let error = said(check(&site, &["/no/such/proxy"], LONG).await.unwrap_err());
    assert!(error.contains("is not there"), "{error}");
    fs::write(site.path("plain"), "").unwrap();
    let error = said(check(&site, &["{dir}/plain"], LONG).await.unwrap_err());
    assert!(error.contains("not executable"), "{error}");
    let error = said(check(&site, &[], LONG).await.unwrap_err());
    assert!(error.contains("the command is empty"), "{error}");
}

#[tokio::test]
async fn a_check_that_hangs_is_killed_with_its_children() {
    let site = Site::new();
    let script = site.script("hang", "sleep 600 & echo $! > \"$0.child\"; wait");
    let verdict = check(&site, &["sh", &script], Duration::from_millis(500)).await.unwrap();
    let Verdict::Invalid { text, locations, overdue: true } = verdict else { panic!("{verdict:?}") };
    assert!(text.contains("did not end within 500ms") && locations.is_empty(), "{text}");
    let child: u32 = fs::read_to_string(site.path("hang.child")).unwrap().trim().parse().unwrap();
    eventually_async(DEADLINE, "the end of the child", async || holds(!alive(child), child)).await;
}

#[tokio::test]
async fn output_is_bounded_and_need_not_be_text() {
    let site = Site::new();
    let script = site.script("loud", "printf '\\377'; head -c 300000 /dev/zero | tr '\\0' x >&2; exit 3");
    let Verdict::Invalid { text, .. } = check(&site, &["sh", &script], LONG).await.unwrap() else { panic!("valid") };
    assert_eq!(text.len(), (64 << 10) + "\n\u{fffd}".len());
}

#[tokio::test]
async fn a_check_that_leaves_a_child_behind_does_not_wait_for_it() {
    let mut site = Site::new();
    let script = site.script("leaves", "sleep 600 & echo $! > \"$0.child\"");
    assert_eq!(check(&site, &["sh", &script], LONG).await.unwrap(), Verdict::Valid);
    let child: u32 = fs::read_to_string(site.path("leaves.child")).unwrap().trim().parse().unwrap();
    assert!(alive(child), "a command may start what stays");
    kill("-KILL", &child.to_string());
    site.kill_at_end(child);
}

#[tokio::test]
async fn a_reload_command_is_tried_again_until_it_succeeds() {
    let site = Site::new();
    let script = site.script("reload", "echo \"$1\" >> \"$1/calls\"; [ -e \"$1/good\" ] || { echo no >&2; exit 4; }");
    let proxy = site.proxy(Reload::Command(words(&["sh", &script, "{dir}"])));
    proxy.request_reload();
    let status = state(&proxy, "a failure", |status| status.last_error.is_some()).await;
    let error = status.last_error.unwrap();
    assert!(error.contains("ended with exit status: 4: no"), "{error}");
    assert_eq!((status.wanted, status.done), (1, 0));
    fs::write(site.path("good"), "").unwrap();
    let status = state(&proxy, "a success", |status| status.done == 1).await;
    assert_eq!((status.reloads, status.last_error), (1, None));
    proxy.stop().await;
    let calls = fs::read_to_string(site.path("calls")).unwrap();
    assert!(calls.lines().count() >= 2 && calls.lines().all(|line| line == site.dir.path().to_str().unwrap()));
}

#[tokio::test]
async fn a_reload_command_that_fails_five_times_is_done_by_the_sixth_although_nobody_asks_again() {
    let site = Site::new();
    let script = site.script("reload", "echo call >> \"$1/calls\"; [ \"$(wc -l < \"$1/calls\")\" -gt 5 ]");
    let proxy = site.proxy(Reload::Command(words(&["sh", &script, "{dir}"])));
    let status = reload(&proxy).await;
    assert_eq!((status.wanted, status.reloads, status.last_error), (1, 1, None));
    proxy.stop().await;
    assert_eq!(fs::read_to_string(site.path("calls")).unwrap().lines().count(), 6);
}

#[tokio::test]
async fn a_reload_command_that_hangs_is_killed_and_tried_again() {
    let site = Site::new();
    let script = site.script("reload", "[ -e \"$1/again\" ] && exit 0; touch \"$1/again\"; sleep 600");
    let method = Reload::Command(words(&["sh", &script, "{dir}"]));
    let options = waypost::proxy::ProxyOptions { timeout: Duration::from_millis(500), ..site.options(Some(method)) };
    let proxy = Proxy::new(options);
    proxy.request_reload();
    let status = state(&proxy, "a failure", |status| status.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("did not end within 500ms"));
    state(&proxy, "a success", |status| status.done == 1).await;
    proxy.stop().await;
}

#[tokio::test]
async fn a_call_has_a_time_limit_and_is_made_again() {
    let site = Site::new();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let call = Call::new(move || {
        let count = counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            match count {
                0 => std::future::pending().await,
                1 => Err(anyhow::anyhow!("it is away").into()),
                _ => Ok(()),
            }
        })
    });
    let method = Some(Reload::Call(call));
    let options = waypost::proxy::ProxyOptions { timeout: Duration::from_millis(300), ..site.options(method) };
    let proxy = Proxy::new(options);
    proxy.request_reload();
    let failed = |text: &'static str| move |status: &ReloadStatus| status.last_error.as_deref() == Some(text);
    state(&proxy, "its limit", failed("the reload did not end within 300ms")).await;
    state(&proxy, "its failure", failed("it is away")).await;
    let status = state(&proxy, "its success", |status| status.done == 1).await;
    assert_eq!((status.reloads, calls.load(Ordering::SeqCst)), (1, 3));
    proxy.stop().await;
}

#[tokio::test]
async fn files_alone_are_done_at_once() {
    let site = Site::new();
    let proxy = Proxy::new(site.options(None));
    assert_eq!(reload(&proxy).await.reloads, 1);
    proxy.stop().await;
}

/// A master with workers, as an init system would run it, that notes its pid.
async fn start(site: &Site) -> Program {
    let noted = site.path("haproxy.pid");
    let program = haproxy(&["-W", "-p", noted.to_str().unwrap()], site.dir.path()).ended_by(support::Signal::TERM);
    site.until_answers("one").await;
    program
}

#[tokio::test]
async fn a_signal_counts_when_there_is_a_new_worker() {
    let site = Site::new();
    site.configure("one", "");
    let foreign = start(&site).await;
    let method = Reload::PidFile { path: site.path("haproxy.pid"), signal: Signal::Usr2 };
    let options =
        waypost::proxy::ProxyOptions { timeout: Duration::from_secs(2), ..site.options(Some(method.clone())) };
    let proxy = Proxy::new(options);

    // The first signal may be lost while the master is still starting, and is then sent again.
    site.configure("two", "");
    reload(&proxy).await;
    site.until_answers("two").await;

    site.configure("three", "garbage");
    proxy.request_reload();
    let status = state(&proxy, "a failure", |status| status.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("no new worker process"));
    assert!(site.answers("two"));
    site.configure("three", "");
    state(&proxy, "a success", |status| status.done == 2).await;
    site.until_answers("three").await;

    drop(foreign);
    proxy.request_reload();
    let status = state(&proxy, "a failure", |status| status.last_error.is_some()).await;
    assert!(status.last_error.unwrap().contains("is the proxy running?"));
    proxy.stop().await;
}
