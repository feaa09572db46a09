//! Clients, and the servers behind nginx; these run until the tests end.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

/// How long an answer may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A port whose connections are refused, and that nobody else is given: it is bound and not listened on.
pub(super) fn closed_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "somebody listens on {port}");
    port
}

/// Serves every connection on a thread of its own, and gives the port.
fn serve(each: impl Fn(BufReader<TcpStream>) -> Option<()> + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            thread::spawn(move || each(BufReader::new(stream)));
        }
    });
    port
}

/// Answers requests with its name and what it was asked; one that asks for a websocket gets it, and then every line back.
pub(super) fn web(name: &'static str) -> u16 {
    serve(move |mut stream| {
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                (stream.read_line(&mut head).ok()? > 0).then_some(())?;
            }
            if head.contains("Upgrade: websocket\r\n") && head.contains("Connection: upgrade\r\n") {
                let accepted = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
                stream.get_mut().write_all(accepted.as_bytes()).ok()?;
                return echo(stream);
            }
            let body = format!("{name}\n{}", head.replace('\r', ""));
            let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.get_mut().write_all(reply.as_bytes()).ok()?;
        }
    })
}

/// Says its name, and then every line back.
pub(super) fn greeter(name: &'static str) -> u16 {
    serve(move |mut stream| {
        stream.get_mut().write_all(format!("{name}\n").as_bytes()).ok()?;
        echo(stream)
    })
}

fn echo(mut stream: BufReader<TcpStream>) -> Option<()> {
    loop {
        let mut line = String::new();
        (stream.read_line(&mut line).ok()? > 0).then_some(())?;
        stream.get_mut().write_all(line.as_bytes()).ok()?;
    }
}

/// Answers datagrams with its name and what they say.
pub(super) fn datagrams(name: &'static str) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let answer = [name.as_bytes(), b" ", &buffer[..length]].concat();
            socket.send_to(&answer, from).ok();
        }
    });
    port
}

/// A connection to a port on loopback.
pub(super) struct Client(BufReader<TcpStream>);

impl Client {
    pub(super) fn new(port: u16) -> Client {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(BufReader::new(stream))
    }

    pub(super) fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next line, without its end.
    pub(super) fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// Status and body of one request.
pub(super) fn ask(port: u16, method: &str, host: &str, path: &str) -> (u16, String) {
    let mut client = Client::new(port);
    let more = "Connection: close\r\nX-Forwarded-For: 9.9.9.9\r\nContent-Length: 0\r\n";
    client.say(&format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n"));
    let mut text = String::new();
    client.0.read_to_string(&mut text).unwrap();
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status in {text:?}"));
    (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
