//! A directory with a real proxy in it, on free loopback ports; all goes when it is dropped.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use waypost::proxy::{Proxy, ProxyOptions, Reload, ReloadStatus, Signal};
use waypost_test_support::{DEADLINE, eventually_async, free_port, holds};

pub struct Site {
    pub dir: tempfile::TempDir,
    pub port: u16,
    /// Process groups to end.
    groups: Vec<u32>,
}

impl Site {
    pub fn new() -> Self {
        Site { dir: tempfile::tempdir().unwrap(), port: free_port(), groups: Vec::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A file whose proxy answers `word`; `more` follows.
    pub fn configure(&self, word: &str, more: &str) {
        let text = format!(
            "defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 5s\n\
             frontend in\n bind 127.0.0.1:{}\n http-request return status 200 content-type text/plain string {word}\n\
             {more}\n",
            self.port
        );
        fs::write(self.path("haproxy.cfg"), text).unwrap();
    }

    /// A program for `sh`, which is not executed itself: another test may fork while it is still open for writing.
    pub fn script(&self, name: &str, body: &str) -> String {
        let path = self.path(name);
        fs::write(&path, format!("{body}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub fn options(&self, reload: Option<Reload>) -> ProxyOptions {
        ProxyOptions {
            bind_check: false,
            dir: self.dir.path().to_owned(),
            check: None,
            reload,
            timeout: Duration::from_secs(10),
            min_interval: Duration::ZERO,
            name: "test".to_owned(),
        }
    }

    pub fn proxy(&self, reload: Reload) -> Proxy {
        Proxy::new(self.options(Some(reload)))
    }

    pub fn supervised(&self) -> Proxy {
        self.proxy(supervise(&["haproxy", "-Ws", "-f", "{dir}/haproxy.cfg"]))
    }

    /// The group of this process is killed at the end, whatever happens.
    pub fn kill_at_end(&mut self, pid: u32) -> u32 {
        self.groups.push(pid);
        pid
    }

    /// What the proxy answers; none when it does not.
    pub fn answer(&self) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text.rsplit_once("\r\n\r\n")?.1.to_owned())
    }

    pub fn answers(&self, word: &str) -> bool {
        self.answer().as_deref() == Some(word)
    }

    /// Waits until the proxy answers `word`.
    pub async fn until_answers(&self, word: &str) {
        let what = format!("the proxy answers {word}");
        eventually_async(DEADLINE, &what, async || {
            let answer = self.answer();
            holds(answer.as_deref() == Some(word), answer)
        })
        .await;
    }

    /// The agent's own files.
    pub fn hidden(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with('.')).collect()
    }

    /// The process that an agent noted, when it lives.
    pub fn noted(&self) -> Option<u32> {
        let text = fs::read_to_string(self.path(".waypost-test.pid")).ok()?;
        text.lines().next()?.parse().ok().filter(|pid| alive(*pid))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.groups.extend(self.noted());
        for group in self.groups.drain(..) {
            kill("-KILL", &format!("-{group}"));
        }
    }
}

pub fn supervise(command: &[&str]) -> Reload {
    Reload::Supervise { command: command.iter().map(|word| (*word).to_owned()).collect(), signal: Signal::Usr2 }
}

pub fn kill(signal: &str, target: &str) {
    let mut command = std::process::Command::new("kill");
    command.args([signal, "--", target]).stderr(std::process::Stdio::null()).status().ok();
}

/// Whether a process runs; one that ended and was not waited for does not.
pub fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    stat.is_ok_and(|stat| !stat.rsplit_once(") ").unwrap().1.starts_with('Z'))
}

/// Waits for a state of reloading.
pub async fn state(proxy: &Proxy, what: &str, wanted: impl FnMut(&ReloadStatus) -> bool) -> ReloadStatus {
    let mut status = proxy.status();
    let reached = tokio::time::timeout(DEADLINE, status.wait_for(wanted)).await.map(|status| status.unwrap().clone());
    reached.unwrap_or_else(|_| panic!("{what} has not come true: {:?}", *proxy.status().borrow()))
}

/// Asks for a reload and waits until it is done.
pub async fn reload(proxy: &Proxy) -> ReloadStatus {
    proxy.request_reload();
    let wanted = proxy.status().borrow().wanted;
    state(proxy, "the reload", |status| status.done == wanted).await
}
