//! Who gets a domain that two services ask for, when agents of the real program read it from a real etcd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use etcd_client::{Client, PutOptions};
use waypost_test_support::{Program, Signal, eventually_async, free_port, holds};

use crate::server::Server;
use crate::tools::{DEADLINE, client};

/// The agent of one host, with files and a memory of its own.
struct Host {
    directory: tempfile::TempDir,
    agent: Option<Program>,
}

impl Host {
    fn new(server: &Server) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().display();
        let text = format!(
            "[agent]\nnode = \"edge\"\nadvertise = \"127.0.0.1\"\nregister = false\nstate-dir = \"{at}/state\"\n\
             [registry]\nkind = \"etcd\"\nendpoints = [\"{}\"]\n[[layout]]\nplugin = \"json\"\n\
             [[output]]\nplugin = \"haproxy\"\ndirectory = \"{at}/out\"\n\
             [output.settings]\nhttp-bind = \"127.0.0.1:{}\"\nstats-bind = \"off\"\n",
            server.endpoint(),
            free_port()
        );
        fs::create_dir(directory.path().join("out")).unwrap();
        fs::write(directory.path().join("agent.toml"), text).unwrap();
        Host { directory, agent: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn waypost(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waypost"));
        command.args(arguments).arg("--config").arg(self.path("agent.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn start(&mut self) {
        self.agent = Some(Program::start(self.waypost(&["run"]), "it is built with this test"));
    }

    fn stop(&mut self) {
        let Some(mut agent) = self.agent.take() else { return };
        agent.signal(Signal::TERM);
        assert!(agent.wait().success());
    }

    /// Writes the files once, as an agent does that knows only what etcd says.
    fn render_from_nothing(&self) {
        fs::remove_file(self.path("state/served-haproxy.redb")).ok();
        assert!(self.waypost(&["render", "--once"]).status().unwrap().success());
    }

    /// The service that requests for the domain go to.
    fn holder(&self) -> Option<String> {
        let routes = fs::read_to_string(self.path("out/routes.map")).ok()?;
        let line = routes.lines().find_map(|line| line.strip_prefix("shop.example/ "))?;
        Some(line.to_owned())
    }

    async fn serves(&self, service: &str, id: &str) {
        let server = format!("server {id} ");
        eventually_async(DEADLINE, &format!("{service} has the domain, and the instance {id} is there"), async || {
            let file = fs::read_to_string(self.path("out/haproxy.cfg"))?;
            let holder = self.holder();
            holds(holder.as_deref() == Some(service) && file.contains(&server), (holder, file))
        })
        .await;
    }

    fn problems(&self) -> String {
        let told = self.waypost(&["catalog", "--json"]).stdout(Stdio::piped()).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        report["problems"].to_string()
    }
}

fn key(service: &str, id: &str) -> String {
    Path::new("/waypost/services").join(service).join(id).display().to_string()
}

/// Registers an instance under a lease of its own, as an agent does that starts.
async fn offer(etcd: &Client, service: &str, id: &str) {
    let lease = etcd.lease_client().grant(600, None).await.unwrap().id();
    let value = r#"{"address":"10.0.0.9","port":80,"transport":"tcp","readiness":"ready",
        "attributes":{"protocol":"http","domain":"shop.example"}}"#;
    let options = PutOptions::new().with_lease(lease);
    etcd.kv_client().put(key(service, id), value, Some(options)).await.unwrap();
}

async fn created(etcd: &Client, service: &str, id: &str) -> i64 {
    etcd.kv_client().get(key(service, id), None).await.unwrap().kvs()[0].create_revision()
}

#[tokio::test]
async fn an_agent_that_starts_with_nothing_gives_a_domain_to_the_older_service() {
    let server = Server::start().await;
    let etcd = client(&server).await;
    offer(&etcd, "zebra", "z1").await;
    offer(&etcd, "ant", "a1").await;
    let (mut edge, fresh) = (Host::new(&server), Host::new(&server));
    edge.start();
    edge.serves("zebra", "z1").await;
    fresh.render_from_nothing();
    assert_eq!(fresh.holder().unwrap(), "zebra");

    // Registered again under another lease, it is as old as before.
    let before = created(&etcd, "zebra", "z1").await;
    offer(&etcd, "zebra", "z1").await;
    assert_eq!(created(&etcd, "zebra", "z1").await, before);
    fresh.render_from_nothing();
    assert_eq!(fresh.holder().unwrap(), "zebra");

    // So it is while its oldest instance stays, and no longer.
    offer(&etcd, "zebra", "z2").await;
    fresh.render_from_nothing();
    assert_eq!(fresh.holder().unwrap(), "zebra");
    etcd.kv_client().delete(key("zebra", "z1"), None).await.unwrap();
    fresh.render_from_nothing();
    assert_eq!(fresh.holder().unwrap(), "ant");

    // Who saw the rollout stays with whom it had, says so, and knows it after a restart.
    edge.serves("zebra", "z2").await;
    eventually_async(DEADLINE, "the other one's loss is told", async || {
        let problems = edge.problems();
        holds(problems.contains("it goes without domain shop.example, which service zebra has had since"), problems)
    })
    .await;
    edge.stop();
    fs::remove_file(edge.path("out/routes.map")).unwrap();
    edge.start();
    edge.serves("zebra", "z2").await;
    edge.stop();
}
