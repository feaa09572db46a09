//! The right loop with a supervised `HAProxy`, fed by hand; all goes when it is dropped.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use tokio::sync::watch;
use waypost::discover::{self, Inputs, LayoutSource, LiveOptions, Pace, Target};
use waypost::layout::{Decoder, Layout};
use waypost::model::{Ages, Attributes, Entries, Node, Stored};
use waypost::output::write::Directory;
use waypost::output::{Consumed, Filter, Output, SavedState, Selection};
use waypost::plugin::{Host, Limits, Plugin, Source};
use waypost::proxy::{Proxy, ProxyOptions, Reload, Signal, Socket};
use waypost::shutdown::{Kept, Shutdown};
use waypost::status::{OutputState, Status};
use waypost_test_support::{DEADLINE, eventually_async, free_port};

/// Services that leave stay no longer than that.
const LINGER: Duration = Duration::ZERO;

/// What a test offers of one instance, by service and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub port: u16,
    pub weight: Option<u16>,
    pub draining: bool,
    /// The domain of an http service, or the port of a tcp service.
    pub leads: Result<String, u16>,
}

/// An http instance on a port of this machine.
pub fn http(port: u16, domain: &str) -> Offer {
    Offer { port, weight: None, draining: false, leads: Ok(domain.to_owned()) }
}

pub type Offers = BTreeMap<(String, String), Offer>;

pub struct TestProxy {
    pub dir: tempfile::TempDir,
    pub port: u16,
    pub status: Status,
    /// What the agent is started with: name of the stats socket, how often all is asked about, settings.
    with: (String, Duration, serde_json::Value),
    entries: watch::Sender<Option<Entries>>,
    _consumed: watch::Sender<Consumed>,
    shutdown: Shutdown,
    tasks: Vec<tokio::task::JoinHandle<anyhow::Result<()>>>,
    _host: Host,
}

async fn plugin(host: &Host, name: &str, settings: serde_json::Value) -> Plugin {
    host.load(Source::Shipped(name), &settings).await.unwrap()
}

impl TestProxy {
    /// `socket` names the stats socket that the agent uses, which `relay` may stand before.
    pub async fn start(socket: &str, resync: Duration, settings: serde_json::Value) -> Self {
        TestProxy::start_in(tempfile::tempdir().unwrap(), free_port(), (socket.to_owned(), resync, settings)).await
    }

    /// Another agent takes over, with `more` settings; the proxy goes on meanwhile.
    pub async fn restarted(mut self, more: serde_json::Value) -> Self {
        let entries = self.entries.borrow().clone();
        self.shutdown.request_keeping(Kept::all());
        self.finish().await;
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        let (socket, resync, mut settings) = self.with.clone();
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let site = TestProxy::start_in(dir, self.port, (socket, resync, settings)).await;
        site.entries.send_replace(entries);
        site
    }

    async fn start_in(dir: tempfile::TempDir, port: u16, with: (String, Duration, serde_json::Value)) -> Self {
        let (socket, resync, settings) = with.clone();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugins");
        let host = Host::new(Limits::default(), Some(cache)).unwrap();
        let (status, shutdown) = (Status::new("n"), Shutdown::default());
        let node = Arc::new(Node { name: "n".into(), address: "127.0.0.1".into(), attributes: Attributes::new() });
        let mut all = serde_json::json!({
            "http-bind": format!("127.0.0.1:{port}"), "stats-bind": "off", "tcp-bind": "127.0.0.1",
            "socket": dir.path().join("haproxy.sock"),
        });
        all.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        let haproxy = plugin(&host, "haproxy", all).await;
        let json = plugin(&host, "json", serde_json::json!({})).await;
        let (entries, followed) = watch::channel(None);
        let (consumed, wanted) = watch::channel(Consumed::new());
        let (catalog, services) = watch::channel(None);
        let (ages_out, ages) = watch::channel(Ages::new());
        let decoder = Decoder::new(Layout::new(json).await.unwrap(), status.clone());
        let output = Output::new("haproxy", Arc::new(haproxy.clone()), node.clone(), status.clone());
        let socket = Socket::new(dir.path().join(&socket), Duration::from_secs(2));
        let live = LiveOptions { renderer: Arc::new(haproxy), node, socket, resync };
        let inputs = Inputs { services, ages, consumed: wanted, selection: Selection::new(Filter::default()) };
        let pace = Pace { min: Duration::from_millis(50), max: Duration::from_millis(500) };
        let target = target(dir.path(), live);
        let tasks = vec![
            tokio::spawn(discover::serve(output, inputs, target, pace, status.clone(), shutdown.clone())),
            tokio::spawn(discover::follow(
                vec![LayoutSource { entries: followed, decoder, self_preservation: None }],
                catalog,
                ages_out,
                status.clone(),
                shutdown.token(),
            )),
        ];
        TestProxy { dir, port, status, with, entries, _consumed: consumed, shutdown, tasks, _host: host }
    }

    /// Makes these the entries of the registry.
    pub fn offer(&self, offers: &Offers) {
        let entries = offers.iter().map(|((service, id), offer)| {
            let attributes = match &offer.leads {
                Ok(domain) => serde_json::json!({ "protocol": "http", "domain": domain }),
                Err(port) => serde_json::json!({ "protocol": "tcp", "listen-port": port.to_string() }),
            };
            let value = serde_json::json!({
                "address": "127.0.0.1", "port": offer.port, "transport": "tcp", "weight": offer.weight,
                "readiness": if offer.draining { "draining" } else { "ready" }, "attributes": attributes,
            });
            let stored = Stored { value: value.to_string().into(), created: 1 };
            (Arc::from(format!("/waypost/services/{service}/{id}")), stored)
        });
        self.entries.send_replace(Some(entries.collect()));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn file(&self) -> String {
        fs::read_to_string(self.path("out/haproxy.cfg")).unwrap_or_default()
    }

    /// Body of the answer to a request for `domain`, or its status.
    pub fn get(&self, domain: &str) -> String {
        let asked = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(DEADLINE))?;
            stream.write_all(format!("GET / HTTP/1.1\r\nHost: {domain}\r\nConnection: close\r\n\r\n").as_bytes())?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        };
        let Ok(text) = asked() else { return "no answer".to_owned() };
        match text.strip_prefix("HTTP/1.1 200") {
            Some(rest) => rest.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned(),
            None => text.split(' ').nth(1).unwrap_or("nothing").to_owned(),
        }
    }

    /// The set of answers to twenty requests.
    pub fn answers(&self, domain: &str) -> Vec<String> {
        let mut seen: Vec<String> = (0..20).map(|_| self.get(domain)).collect();
        seen.sort();
        seen.dedup();
        seen
    }

    pub fn output(&self) -> OutputState {
        self.status.report().outputs.get("haproxy").cloned().unwrap_or_default()
    }

    /// Instances that the catalog has.
    pub fn instances(&self) -> usize {
        self.status.report().services.iter().map(|service| service.instances.len()).sum()
    }

    pub fn problems(&self) -> BTreeMap<String, String> {
        self.status.report().problems.into_iter().map(|problem| (problem.subject, problem.text)).collect()
    }

    pub async fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        eventually_async(DEADLINE, what, async || {
            ensure!(is(), "{:?}, problems {:?}\n{}", self.output(), self.problems(), self.file());
            Ok(())
        })
        .await;
    }

    pub async fn end(mut self) {
        self.finish().await;
    }

    async fn finish(&mut self) {
        self.shutdown.request();
        for task in std::mem::take(&mut self.tasks) {
            task.await.unwrap().unwrap();
        }
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        let noted = fs::read_to_string(self.path("out/.waypost-haproxy.pid")).unwrap_or_default();
        if let Some(master) = noted.lines().next() {
            std::process::Command::new("kill").args(["-KILL", "--", &format!("-{master}")]).status().ok();
        }
    }
}

fn target(root: &Path, live: LiveOptions) -> Target {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let options = ProxyOptions {
        bind_check: true,
        dir: root.join("out"),
        check: Some(words(&["haproxy", "-c", "-f", "{dir}/haproxy.cfg"])),
        reload: Some(Reload::Supervise {
            command: words(&["haproxy", "-Ws", "-f", "{dir}/haproxy.cfg"]),
            signal: Signal::Usr2,
        }),
        timeout: Duration::from_secs(10),
        min_interval: Duration::from_millis(200),
        name: "haproxy".to_owned(),
    };
    Target {
        name: "haproxy".to_owned(),
        directory: Directory::open(root.join("out")).unwrap(),
        saved_state: SavedState::new(root, "haproxy"),
        linger: LINGER,
        proxy: Proxy::new(options),
        live: Some(live),
    }
}

/// An http server on a port of this machine that answers `word`, until the test ends.
pub async fn server(word: &str) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, word) = (listener.local_addr().unwrap().port(), word.to_owned());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let word = word.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                    let answer =
                        format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{word}", word.len());
                    _ = stream.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    port
}
