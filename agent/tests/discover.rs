//! The right loop against real plugins, a real directory and a check of our own: from entries to files.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use waypost::discover::{self, Inputs, LayoutSource, Pace, Target};
use waypost::layout::{Decoder, Layout};
use waypost::model::{Ages, Attributes, Entries, Node, Services, Stored};
use waypost::output::write::Directory;
use waypost::output::{Consumed, Filter, Output, SavedState, Selection};
use waypost::plugin::{Host, Limits, Plugin, Source};
use waypost::proxy::{Proxy, ProxyOptions, Reload};
use waypost::shutdown::Shutdown;
use waypost::status::Status;
use waypost_test_support::{DEADLINE, eventually_async, holds};

/// Services that leave stay no longer than that.
const LINGER: Duration = Duration::ZERO;

/// Refuses a file in which a server has the weight 13, naming the line as `HAProxy` does; a weight of 14 is refused
/// without naming a line.
const CHECK: &str = r#"#!/bin/sh
echo checked >> "$2"
line=$(grep -n 'weight 13' "$1/haproxy.cfg" | head -1 | cut -d: -f1)
[ -n "$line" ] && { echo "[ALERT] (1) : config : parsing [$1/haproxy.cfg:$line] : unlucky weight" >&2; exit 1; }
grep -q 'weight 14' "$1/haproxy.cfg" && { echo "[ALERT] something is wrong" >&2; exit 1; }
line=$(grep -n 'frontend http-in' "$1/haproxy.cfg" | cut -d: -f1)
[ -e "$2.common" ] && { echo "[ALERT] (1) : config : parsing [$1/haproxy.cfg:$line] : bad frontend" >&2; exit 1; }
exit 0
"#;

struct Loop {
    entries: watch::Sender<Option<Entries>>,
    consumed: watch::Sender<Consumed>,
    status: Status,
    shutdown: Shutdown,
    directory: tempfile::TempDir,
    tasks: Vec<tokio::task::JoinHandle<anyhow::Result<()>>>,
    _host: Host,
}

async fn plugin(host: &Host, name: &str) -> Plugin {
    let settings = if name == "haproxy" { serde_json::json!({ "http-bind": "*:8080" }) } else { serde_json::json!({}) };
    host.load(Source::Shipped(name), &settings).await.unwrap()
}

impl Loop {
    async fn start(filter: Filter) -> Self {
        Loop::start_in(tempfile::tempdir().unwrap(), filter).await
    }

    async fn start_in(directory: tempfile::TempDir, filter: Filter) -> Self {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins");
        let host = Host::new(Limits::default(), Some(cache)).unwrap();
        let status = Status::new("n");
        let shutdown = Shutdown::default();
        let node = Arc::new(Node { name: "n".into(), address: "10.0.0.1".into(), attributes: Attributes::new() });
        let (entries, followed) = watch::channel(None);
        let (consumed, wanted) = watch::channel(Consumed::new());
        let (catalog, services) = watch::channel::<Option<Services>>(None);
        let (ages_out, ages) = watch::channel(Ages::new());
        let decoder = Decoder::new(Layout::new(plugin(&host, "json").await).await.unwrap(), status.clone());
        let output = Output::new("haproxy", Arc::new(plugin(&host, "haproxy").await), node, status.clone());
        let target = target(directory.path());
        let inputs = Inputs { services, ages, consumed: wanted, selection: Selection::new(filter) };
        let pace = Pace { min: Duration::from_millis(10), max: Duration::from_millis(50) };
        let source = LayoutSource { entries: followed, decoder, self_preservation: None };
        let tasks = vec![
            tokio::spawn(discover::serve(output, inputs, target, pace, status.clone(), shutdown.clone())),
            tokio::spawn(discover::follow(vec![source], catalog, ages_out, status.clone(), shutdown.token())),
        ];
        Loop { entries, consumed, status, shutdown, directory, tasks, _host: host }
    }

    /// Makes these the entries: service, id and weight.
    fn offer(&self, instances: &[(&str, &str, u16)]) {
        let entries = instances.iter().map(|(service, id, weight)| {
            let value = format!(
                r#"{{"address":"10.0.0.9","port":80,"transport":"tcp","readiness":"ready","weight":{weight},"attributes":{{"protocol":"http"}}}}"#
            );
            (Arc::from(format!("/waypost/services/{service}/{id}")), Stored { value: value.into(), created: 1 })
        });
        self.entries.send_replace(Some(entries.collect()));
    }

    fn file(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("out/haproxy.cfg")).unwrap_or_default()
    }

    /// Servers in the file, as `service weight`.
    fn servers(&self) -> Vec<String> {
        let mut service = String::new();
        let mut servers = Vec::new();
        for line in self.file().lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("backend ") {
                name.clone_into(&mut service);
            } else if line.starts_with("server ") {
                let weight = line.split_once("weight ").map_or("-", |(_, rest)| rest.split(' ').next().unwrap_or("-"));
                servers.push(format!("{service} {weight}"));
            }
        }
        servers
    }

    fn problems(&self) -> BTreeMap<String, String> {
        self.status.report().problems.into_iter().map(|problem| (problem.subject, problem.text)).collect()
    }

    async fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        eventually_async(DEADLINE, what, async || holds(is(), (self.servers(), self.problems()))).await;
    }

    async fn serves(&self, expected: &[&str]) {
        self.until(&format!("{expected:?}"), || self.servers() == expected).await;
    }

    /// Another agent on the same files.
    async fn restarted(self) -> Self {
        let directory = self.end().await;
        Loop::start_in(directory, Filter::default()).await
    }

    async fn end(self) -> tempfile::TempDir {
        self.shutdown.request();
        for task in self.tasks {
            task.await.unwrap().unwrap();
        }
        self.directory
    }
}

fn target(root: &Path) -> Target {
    let check = root.join("check");
    std::fs::write(&check, CHECK).unwrap();
    std::fs::set_permissions(&check, std::fs::Permissions::from_mode(0o755)).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let reload =
        vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("echo reloaded >> {}", text(&root.join("reloads")))];
    let options = ProxyOptions {
        bind_check: true,
        dir: root.join("out"),
        check: Some(vec![text(&check), "{dir}".to_owned(), text(&root.join("checks"))]),
        reload: Some(Reload::Command(reload)),
        timeout: Duration::from_secs(10),
        min_interval: Duration::from_millis(10),
        name: "haproxy".to_owned(),
    };
    let directory = Directory::open(root.join("out")).unwrap();
    Target {
        name: "haproxy".to_owned(),
        directory,
        saved_state: SavedState::new(root, "haproxy"),
        linger: LINGER,
        proxy: Proxy::new(options),
        live: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_the_check_names_stays_as_it_was_alone() {
    let line = Loop::start(Filter::default()).await;
    line.offer(&[("a", "1", 1), ("b", "1", 1), ("c", "1", 1)]);
    line.serves(&["a 1", "b 1", "c 1"]).await;

    line.offer(&[("a", "1", 2), ("b", "1", 13), ("c", "1", 2)]);
    line.serves(&["a 2", "b 1", "c 2"]).await;
    let said = |name: &str, words: &str| line.problems().get(name).is_some_and(|text| text.contains(words));
    line.until("b is named", || said("b", "it stays as it was: unlucky weight")).await;

    // A new service that is bad from the start is left out; the held one returns when it is valid again.
    line.offer(&[("a", "1", 2), ("b", "1", 3), ("c", "1", 2), ("new", "1", 13)]);
    line.serves(&["a 2", "b 3", "c 2"]).await;
    line.until("b is in order", || !line.problems().contains_key("b") && line.problems().contains_key("new")).await;
    line.offer(&[("a", "1", 2), ("b", "1", 3), ("c", "1", 2), ("new", "1", 7)]);
    line.serves(&["a 2", "b 3", "c 2", "new 7"]).await;
    line.until("nothing is wrong", || line.problems().is_empty()).await;
    line.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_to_blame_stays_as_it_was_when_the_agent_restarts() {
    let line = Loop::start(Filter::default()).await;
    let kept = line.directory.path().join("served-haproxy.redb");
    line.offer(&[("a", "1", 1), ("b", "1", 1), ("c", "1", 1)]);
    line.serves(&["a 1", "b 1", "c 1"]).await;
    line.offer(&[("a", "1", 2), ("b", "1", 13), ("c", "1", 13)]);
    line.serves(&["a 2", "b 1", "c 1"]).await;

    // The first files of the next agent have them as they were, all the same who else is to blame now.
    let line = line.restarted().await;
    line.offer(&[("a", "1", 3), ("b", "1", 13), ("c", "1", 13), ("new", "1", 13)]);
    line.serves(&["a 3", "b 1", "c 1"]).await;
    let said = |name: &str, words: &str| line.problems().get(name).is_some_and(|text| text.contains(words));
    line.until("b is named", || said("b", "it stays as it was")).await;
    line.until("the new one is named", || said("new", "it is left out")).await;

    // One that left meanwhile is gone, one that is good again is new.
    let line = line.restarted().await;
    line.offer(&[("a", "1", 3), ("b", "1", 5)]);
    line.serves(&["a 3", "b 5"]).await;
    line.until("nothing is held any more", || line.problems().is_empty()).await;

    // What changes to a bad form while there is no agent stays as it was too.
    let line = line.restarted().await;
    line.offer(&[("a", "1", 13), ("b", "1", 6)]);
    line.serves(&["a 3", "b 6"]).await;
    let is_said = || line.problems().get("a").is_some_and(|text| text.contains("it stays as it was"));
    line.until("a is named", is_said).await;

    let directory = line.end().await;
    std::fs::write(&kept, "not what an agent writes").unwrap();
    let line = Loop::start_in(directory, Filter::default()).await;
    line.offer(&[("a", "1", 4), ("b", "1", 5)]);
    line.serves(&["a 4", "b 5"]).await;
    line.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_to_blame_is_found_when_the_check_names_nobody() {
    let line = Loop::start(Filter::default()).await;
    let names: Vec<String> = (0..100).map(|number| format!("s{number:02}")).collect();
    let offer = |bad: &[usize], weight: u16| {
        let instances: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(index, name)| (name.as_str(), "1", if bad.contains(&index) { 14 } else { weight }))
            .collect();
        line.offer(&instances);
    };
    let servers = |held: &[usize], before: Option<u16>, now: u16| -> Vec<String> {
        let weight = |index: usize| if held.contains(&index) { before } else { Some(now) };
        names.iter().enumerate().filter_map(|(index, name)| Some(format!("{name} {}", weight(index)?))).collect()
    };
    offer(&[7], 1);
    let expected = servers(&[7], None, 1);
    line.until("the new bad one is left out", || line.servers() == expected).await;
    let said = |name: &str, words: &str| line.problems().get(name).is_some_and(|text| text.contains(words));
    line.until("it is named", || said("s07", "it is left out: [ALERT] something is wrong")).await;

    offer(&[], 1);
    let expected = servers(&[], None, 1);
    line.until("it joins when it is valid", || line.servers() == expected).await;

    let checks = || std::fs::read_to_string(line.directory.path().join("checks")).unwrap().lines().count();
    let before = checks();
    offer(&[20, 61], 2);
    let expected = servers(&[20, 61], Some(1), 2);
    line.until("two stay as they were, the others go on", || line.servers() == expected).await;
    line.until("both are named", || line.problems().keys().eq(["s20", "s61"])).await;
    // One refusal, the last good state, 2 culprits of 100 by halves, and the result: 2 * 2 * log2(100) at the most.
    assert!(checks() - before <= 30, "{} checks", checks() - before);
    line.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_good_file_stays_when_the_proxys_own_part_is_broken() {
    let line = Loop::start(Filter::default()).await;
    line.offer(&[("a", "1", 1)]);
    line.serves(&["a 1"]).await;
    let good = line.file();
    let check = line.directory.path().join("check");
    std::fs::write(&check, "#!/bin/sh\necho '[ALERT] nothing is right' >&2\nexit 1\n").unwrap();
    line.offer(&[("a", "1", 2)]);
    line.until("the refusal is shown", || line.problems().values().any(|text| text.contains("nothing is right"))).await;
    assert_eq!(line.file(), good);
    // It is tried again by itself, without another change.
    std::fs::write(&check, "#!/bin/sh\nexit 0\n").unwrap();
    line.serves(&["a 2"]).await;
    line.until("nothing is wrong", || line.problems().is_empty()).await;
    line.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_services_share_is_no_services_fault() {
    let line = Loop::start(Filter::default()).await;
    line.offer(&[("a", "1", 1), ("b", "1", 1)]);
    line.serves(&["a 1", "b 1"]).await;
    let mark = line.directory.path().join("checks.common");
    std::fs::write(&mark, "").unwrap();
    line.offer(&[("a", "1", 2), ("b", "1", 2)]);
    line.until("the refusal is shown", || line.problems().values().any(|text| text.contains("bad frontend"))).await;
    assert_eq!(line.servers(), ["a 1", "b 1"]);
    assert!(line.problems().keys().eq(["files"]), "{:?}", line.problems());
    std::fs::remove_file(&mark).unwrap();
    line.serves(&["a 2", "b 2"]).await;
    line.until("nothing is wrong", || line.problems().is_empty()).await;
    line.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_containers_want_widens_what_an_output_takes() {
    let line = Loop::start(Filter { patterns: Some(Vec::new()) }).await;
    line.offer(&[("web.dev.internal", "1", 1), ("db.dev.internal", "1", 1), ("other", "1", 1)]);
    line.until("the base is written", || line.file().contains("defaults")).await;
    assert_eq!(line.servers(), [""; 0]);
    line.consumed.send_replace(["other".to_owned()].into());
    line.serves(&["other 1"]).await;
    line.consumed.send_replace(["*.dev.internal".to_owned()].into());
    line.serves(&["db.dev.internal 1", "web.dev.internal 1"]).await;
    line.offer(&[("web.dev.internal", "1", 5), ("x.dev.internal", "1", 1), ("other", "1", 1)]);
    line.serves(&["web.dev.internal 5", "x.dev.internal 1"]).await;
    line.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_checked_once_and_an_unchanged_catalog_not_at_all() {
    let line = Loop::start(Filter::default()).await;
    let count =
        |name: &str| std::fs::read_to_string(line.directory.path().join(name)).unwrap_or_default().lines().count();
    line.offer(&[("a", "1", 1)]);
    line.serves(&["a 1"]).await;
    line.until("one reload", || count("reloads") == 1).await;
    assert_eq!(count("checks"), 1);
    // The same again, with a revision's worth of noise around it.
    line.offer(&[("a", "1", 1)]);
    line.offer(&[("a", "1", 2)]);
    line.serves(&["a 2"]).await;
    line.until("two reloads", || count("reloads") == 2).await;
    assert_eq!(count("checks"), 2);
    line.end().await;
}
