//! A real etcd on free ports, with its data in memory where the machine allows it.

use std::path::Path;
use std::process::Command;

use etcd_client::Client;
use tempfile::TempDir;
use tokio::net::TcpStream;
use waypost_test_support::{DEADLINE, Program, Signal, eventually_async, free_port};

/// One etcd process; it ends with this value.
pub(crate) struct Server {
    name: String,
    directory: TempDir,
    client_port: u16,
    peer_port: u16,
    /// All members, as etcd wants to be told.
    cluster: String,
    arguments: Vec<String>,
    program: Option<Program>,
}

impl Server {
    /// Starts an empty etcd.
    pub(crate) async fn start() -> Server {
        Server::start_with(&[]).await
    }

    /// Starts an empty etcd with more arguments.
    pub(crate) async fn start_with(arguments: &[&str]) -> Server {
        let mut server = Server::new("one", arguments);
        server.cluster = server.member();
        server.up().await;
        server
    }

    /// Starts a cluster of three.
    pub(crate) async fn start_three() -> Vec<Server> {
        let mut servers: Vec<Server> = ["one", "two", "three"].iter().map(|name| Server::new(name, &[])).collect();
        let cluster = servers.iter().map(Server::member).collect::<Vec<_>>().join(",");
        for server in &mut servers {
            server.cluster.clone_from(&cluster);
            server.spawn();
        }
        for server in &servers {
            server.ready().await;
        }
        servers
    }

    fn new(name: &str, arguments: &[&str]) -> Server {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Server {
            name: name.into(),
            directory: directory.unwrap(),
            client_port: free_port(),
            peer_port: free_port(),
            cluster: String::new(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            program: None,
        }
    }

    fn peer(&self) -> String {
        format!("http://127.0.0.1:{}", self.peer_port)
    }

    fn member(&self) -> String {
        format!("{}={}", self.name, self.peer())
    }

    /// Where it listens, without a scheme.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme(), self.address())
    }

    fn scheme(&self) -> &'static str {
        if self.arguments.iter().any(|argument| argument == "--cert-file") { "https" } else { "http" }
    }

    /// Starts the process on its old ports and data.
    pub(crate) async fn up(&mut self) {
        self.spawn();
        self.ready().await;
    }

    fn spawn(&mut self) {
        let (client, peer) = (self.endpoint(), self.peer());
        let mut command = Command::new("etcd");
        command
            .args(["--name", &self.name, "--logger", "zap", "--log-level", "error", "--log-outputs", "stderr"])
            .arg("--data-dir")
            .arg(self.directory.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &self.cluster])
            .args(&self.arguments);
        self.program = Some(Program::start(command, "install etcd 3.4 or later (apt-get install etcd-server)"));
    }

    async fn ready(&self) {
        let what = format!("etcd answers on {}", self.address());
        eventually_async(DEADLINE, &what, async || self.answers().await).await;
    }

    /// An error unless it takes requests; behind TLS, unless it listens.
    async fn answers(&self) -> anyhow::Result<()> {
        if self.scheme() == "https" {
            TcpStream::connect(self.address()).await?;
            return Ok(());
        }
        let client = Client::connect([self.endpoint()], None).await?;
        match client.kv_client().get("/", None).await {
            Err(error) if !error.to_string().contains("user name is empty") => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Kills the process.
    pub(crate) fn down(&mut self) {
        self.program = None;
    }

    /// Kills the process and loses its data.
    pub(crate) fn wipe(&mut self) {
        self.down();
        std::fs::remove_dir_all(self.directory.path().join("data")).unwrap();
    }

    /// Stops the process from answering while its connections stay open.
    pub(crate) fn freeze(&self) {
        self.program.as_ref().unwrap().signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub(crate) fn thaw(&self) {
        self.program.as_ref().unwrap().signal(Signal::CONT);
    }
}
