//! Servers and clients, and how a process is brought from one catalog to the next.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use waypost_plugin_sdk::sample::instance_at;
use waypost_plugin_sdk::{Instance, Service};

use crate::agent::{Tally, changes, settle};
use crate::haproxy::{Catalog, Haproxy};

/// Heads of requests, in order.
pub(crate) type Requests = Arc<Mutex<Vec<String>>>;

/// A server that answers every request with `name`; the end of an answer to `/wait` comes with a request for `/go`, which
/// also ends a request for `/hang` without an answer.
pub(crate) fn backend(name: &'static str) -> SocketAddr {
    spied(name).0
}

/// The same, and the requests that it was sent.
pub(crate) fn spied(name: &'static str) -> (SocketAddr, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (gate, seen) = (Arc::clone(&gate), Arc::clone(&seen));
            thread::spawn(move || serve(&stream.unwrap(), name, &gate, &seen));
        }
    });
    (address, requests)
}

fn serve(mut stream: &TcpStream, name: &str, (gate, opened): &(Mutex<bool>, Condvar), seen: &Requests) -> Option<()> {
    let request = head(stream)?;
    seen.lock().unwrap().push(request.clone());
    if request.contains("/hang") {
        drop(opened.wait_while(gate.lock().unwrap(), |open| !*open).unwrap());
        return None;
    }
    let length = name.len();
    stream.write_all(format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n").as_bytes()).ok()?;
    if request.contains("/go") {
        *gate.lock().unwrap() = true;
        opened.notify_all();
    }
    if request.contains("/wait") {
        drop(opened.wait_while(gate.lock().unwrap(), |open| !*open).unwrap());
    }
    stream.write_all(name.as_bytes()).ok()
}

/// All lines up to the empty one; nothing more is taken from the stream.
pub(crate) fn head(mut stream: &TcpStream) -> Option<String> {
    let mut head = String::new();
    let mut byte = [0];
    while !head.ends_with("\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(char::from(byte[0]));
    }
    Some(head)
}

/// Status and body.
pub(crate) fn get(haproxy: &Haproxy, host: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(&haproxy.http).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, answer.rsplit("\r\n\r\n").next().unwrap_or_default().to_owned())
}

/// The names that answer ten requests.
pub(crate) fn answering(haproxy: &Haproxy, host: &str) -> Vec<String> {
    let mut names: Vec<String> = (0..10).map(|_| get(haproxy, host, "/").1).collect();
    names.sort();
    names.dedup();
    names
}

pub(crate) fn instance(id: &str, address: SocketAddr, facts: &[(&str, &str)]) -> Instance {
    instance_at(id, &address.ip().to_string(), address.port(), facts)
}

pub(crate) fn http(id: &str, address: SocketAddr, domain: &str) -> Instance {
    instance(id, address, &[("protocol", "http"), ("domain", domain)])
}

pub(crate) fn catalog(services: &[(&str, &[Instance])]) -> Catalog {
    let service = |(name, instances): &(&str, &[Instance])| {
        ((*name).to_owned(), Service { name: (*name).to_owned(), instances: instances.to_vec(), denied: Vec::new() })
    };
    services.iter().map(service).collect()
}

/// Settles from one catalog to the next, without a reload.
pub(crate) fn follow(haproxy: &Haproxy, before: &Catalog, after: &Catalog) -> Tally {
    let tally = settle(haproxy, &changes(haproxy, before, after), &mut || false);
    assert!(!tally.reload, "{tally:?}");
    tally
}

/// A client that has sent a request and waits.
pub(crate) fn send(haproxy: &Haproxy, host: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&haproxy.http).unwrap();
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\nCookie: secret=1\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// All that a client still gets.
pub(crate) fn rest(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Lets a server go on.
pub(crate) fn release(server: SocketAddr) {
    TcpStream::connect(server).unwrap().write_all(b"GET /go HTTP/1.0\r\n\r\n").unwrap();
}
