//! A proxy with services behind it that tell what they were asked.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use harness::{
    CHANGE_TIMEOUT, Host, NetnsRuntime, Network, Process, agent_section, etcd_section, eventually, haproxy_section,
    nginx_section, waypost,
};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::{NOBODY, services};

/// Answers every request with its name, and then what it was asked.
async fn echo(listener: TcpListener, name: &'static str) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(BufReader::new(stream), name));
    }
}

async fn answer(mut stream: BufReader<TcpStream>, name: &'static str) -> std::io::Result<()> {
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        let body = format!("{name}\r\n{head}");
        let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(reply.as_bytes()).await?;
    }
}

/// A proxy on files that the agent rendered, and the services behind it.
pub(super) struct Front<'a> {
    host: &'a Host,
    default_service: bool,
    _services: NetnsRuntime,
    _proxy: Process,
}

impl<'a> Front<'a> {
    pub(super) fn start(lab: &Network, host: &'a Host, proxy: &Proxy, default_service: bool) -> Front<'a> {
        let etcd = lab.etcd();
        let inside = NetnsRuntime::of(host);
        let mut entries = BTreeMap::new();
        for (name, domain, path, readiness) in services() {
            let address = (host.address(), 0);
            let listener = inside.run(async move { TcpListener::bind(address).await.unwrap() });
            let value = json!({
                "address": host.address(), "port": listener.local_addr().unwrap().port(), "readiness": readiness,
                "attributes": {"protocol": "http", "domain": domain, "path": path},
            });
            entries.insert(format!("/waypost/services/{name}/one"), value.to_string());
            inside.spawn(echo(listener, name));
        }
        etcd.put_all(&entries);
        let config = host.dir().join("agent.toml");
        let default = if default_service { "default-service = \"fallback\"\n" } else { "" };
        let text = [&agent_section(host), "register = false\n", &etcd_section(&etcd, "15s"), &(proxy.section)(host)];
        std::fs::write(&config, text.concat() + default).unwrap();
        let done = waypost(host, &["render", "--once", "--config", config.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success() && !said.contains("left out"), "{said}");
        let mut command = host.command(proxy.program);
        let dir = host.dir().join("proxy");
        command.args(proxy.arguments.iter().map(|word| word.replace("{dir}", dir.to_str().unwrap())));
        let front = Front { host, default_service, _services: inside, _proxy: host.spawn(proxy.program, command) };
        eventually(CHANGE_TIMEOUT, "the proxy answers", || {
            let seen = front.ask("GET / HTTP/1.1\r\nHost: shop.example\r\n")?;
            ensure!(seen.who == "shop", "{}", seen.who);
            Ok(())
        });
        front
    }

    pub(super) fn ask(&self, head: &str) -> anyhow::Result<Seen> {
        let text = self.host.connect(80)?.exchange(&format!("{head}Connection: close\r\n\r\n"))?;
        let (answer, body) = text.split_once("\r\n\r\n").with_context(|| format!("no answer in {text:?}"))?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        if status != "200" {
            return Ok(Seen { who: status.to_owned(), head: String::new() });
        }
        let (who, head) = body.split_once("\r\n").with_context(|| format!("nobody's answer: {body:?}"))?;
        Ok(Seen { who: who.to_owned(), head: head.to_owned() })
    }

    /// Why the answer to a request is wrong, if it is.
    pub(super) fn wrong(&self, head: &str, expected: &str) -> Option<String> {
        let expected = match (expected, self.default_service) {
            (NOBODY, true) => "fallback",
            (NOBODY, false) => "503",
            (other, _) => other,
        };
        let seen = match self.ask(head) {
            Ok(seen) => seen,
            Err(error) => return Some(format!("expected {expected}, {error:#}")),
        };
        if seen.who != expected {
            return Some(format!("expected {expected}, found {}", seen.who));
        }
        // What the service is asked for is what the client wrote, less the host in it.
        let target = |head: &str| {
            let target = head.split(' ').nth(1).unwrap_or_default();
            target
                .find("://")
                .map_or(target, |end| &target[end + 3 + target[end + 3..].find('/').unwrap_or(0)..])
                .to_owned()
        };
        let asked = target(&seen.head);
        (!seen.head.is_empty() && asked != target(head)).then(|| format!("the service was asked for {asked}"))
    }
}

/// Who answered, and the head of the request as the service saw it.
pub(super) struct Seen {
    pub(super) who: String,
    pub(super) head: String,
}

impl Seen {
    /// The values of a header, in order.
    pub(super) fn header(&self, name: &str) -> String {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        let values = lines.filter(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value);
        values.collect::<Vec<_>>().join(", ")
    }
}

/// A proxy, and how it is started on the files in `{dir}`.
pub(super) struct Proxy {
    section: fn(&Host) -> String,
    program: &'static str,
    arguments: &'static [&'static str],
}

pub(super) const NGINX: Proxy = Proxy {
    section: nginx_section,
    program: "nginx",
    arguments: &["-e", "stderr", "-p", "{dir}", "-c", "{dir}/nginx.conf", "-g", "daemon off;"],
};

pub(super) const HAPROXY: Proxy = Proxy {
    section: |host| haproxy_section(host) + "[output.settings]\n",
    program: "haproxy",
    arguments: &["-W", "-f", "{dir}/haproxy.cfg"],
};
