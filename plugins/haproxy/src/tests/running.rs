//! A real HAProxy, started from the files, and servers that say what they were asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::{fs, thread};

use tempfile::TempDir;
use waypost_plugin_sdk::{Change, Instance, LivePlan, Service};
use waypost_test_support::{Program, free_port, haproxy};

use super::{compose, instance, node, service, settings};
use crate::{Settings, plan, queries};

/// A process, which ends with this value.
pub(super) struct Running {
    /// Where it listens for http.
    http: SocketAddr,
    pub(super) program: Program,
    settings: Settings,
    dir: TempDir,
}

impl Running {
    /// Starts it; `more` are settings in JSON, each with a comma before it, where `{dir}` is its directory.
    pub(super) fn start(more: &str, services: &[Service]) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let http = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let more = more.replace("{dir}", &dir.path().display().to_string());
        let settings = settings(&format!(r#"{{"http-bind": "{http}", "stats-bind": "off", "check": false{more}}}"#));
        for (name, text) in compose(&settings, services).0 {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let mut program = haproxy(&["-db"], dir.path());
        program.until("it listens", || Ok(TcpStream::connect(http)?));
        Running { http, program, settings, dir }
    }

    /// A client's connection; a read fails when nothing comes for long.
    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    pub(super) fn is_listening(&self) -> bool {
        TcpStream::connect(self.http).is_ok()
    }

    /// Brings it to another state over its socket, `{dir}/socket`, by what the plugin says; panics when it asks for a reload.
    pub(super) fn follow(&self, change: Change) {
        let changes = [change];
        for _ in 0..5 {
            let queries = queries(&self.settings, &changes).unwrap();
            let answers: Vec<String> = queries.iter().map(|line| self.say(line)).collect();
            match plan(&self.settings, &node(), &changes, &answers).unwrap() {
                LivePlan::Commands(lines) | LivePlan::CommandsAndReload(lines) if lines.is_empty() => return,
                LivePlan::Commands(lines) | LivePlan::CommandsAndReload(lines) => {
                    lines.iter().for_each(|line| drop(self.say(line)));
                }
                LivePlan::Reload => panic!("{changes:?} need a reload"),
            }
        }
        panic!("it does not settle: {changes:?}");
    }

    /// What it answers to one line on its socket.
    pub(super) fn say(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(self.dir.path().join("socket")).unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Status and body of the answer to these bytes, after which HAProxy closes.
    pub(super) fn ask(&self, request: &[u8]) -> (String, String) {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        (head.split(' ').nth(1).unwrap_or_default().to_owned(), body.to_owned())
    }

    /// Who answers a request of HTTP/1.1: a server's name, or the status of HAProxy's own answer.
    pub(super) fn who(&self, host: &str, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let (status, body) = self.ask(request.as_bytes());
        if status == "200" { body.lines().next().unwrap_or_default().to_owned() } else { status }
    }
}

/// A server that answers every request with `name` and the head of the request.
pub(super) fn server(name: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let name = name.to_owned();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let name = name.clone();
            thread::spawn(move || answer(&stream.unwrap(), &name));
        }
    });
    address
}

fn answer(mut stream: &TcpStream, name: &str) -> Option<()> {
    let mut head = String::new();
    let mut byte = [0];
    while !head.ends_with("\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(char::from(byte[0]));
    }
    let body = format!("{name}\n{head}");
    let length = body.len();
    stream
        .write_all(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").as_bytes())
        .ok()
}

/// An http service of one such server.
pub(super) fn http(name: &str, facts: &[(&str, &str)]) -> Service {
    service(name, &[http_instance(name, facts)])
}

pub(super) fn http_instance(name: &str, facts: &[(&str, &str)]) -> Instance {
    let facts: Vec<(&str, &str)> = facts.iter().copied().chain([("protocol", "http")]).collect();
    let address = server(name);
    instance("a", &address.ip().to_string(), address.port(), &facts)
}
