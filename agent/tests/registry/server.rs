//! A real etcd on free ports, with its data in memory where the machine allows it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// One etcd process; it ends with this value.
pub struct Server {
    directory: TempDir,
    client_port: u16,
    peer_port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Server {
    /// Starts an empty etcd.
    pub async fn start() -> Server {
        Server::start_with(&[]).await
    }

    /// Starts an empty etcd with more arguments; `DIR` in them is its data directory.
    pub async fn start_with(arguments: &[&str]) -> Server {
        let directory =
            if Path::new("/dev/shm").is_dir() { tempfile::tempdir_in("/dev/shm") } else { tempfile::tempdir() };
        let mut server = Server {
            directory: directory.unwrap(),
            client_port: free_port(),
            peer_port: free_port(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            child: None,
        };
        server.up().await;
        server
    }

    /// Where it listens, without a scheme.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme(), self.address())
    }

    fn scheme(&self) -> &'static str {
        if self.arguments.iter().any(|argument| argument == "--cert-file") { "https" } else { "http" }
    }

    /// Starts the process on its old ports and data.
    pub async fn up(&mut self) {
        let client = self.endpoint();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let child = Command::new("etcd")
            .args(["--name", "one", "--logger", "zap", "--log-level", "error", "--log-outputs", "stderr"])
            .arg("--data-dir")
            .arg(self.directory.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is in the PATH");
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(self.address()).await.is_err() {
            assert!(Instant::now() < deadline, "etcd does not listen on {}", self.address());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the process.
    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Kills the process and loses its data.
    pub fn wipe(&mut self) {
        self.down();
        std::fs::remove_dir_all(self.directory.path().join("data")).unwrap();
    }

    /// Stops the process from answering while its connections stay open.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().unwrap();
        kill_process(Pid::from_child(child), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.down();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
