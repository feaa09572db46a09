//! A small HTTP client, and a client for whatever else speaks over TCP.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// An open connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
    address: SocketAddr,
}

/// What a request was answered with.
#[derive(Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// The body, without the white space around it.
    pub body: String,
}

impl Reply {
    /// The body of a good answer; an error for every other status.
    pub fn good(self) -> anyhow::Result<String> {
        ensure!(self.status == 200, "status {}: {}", self.status, self.body);
        Ok(self.body)
    }
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, address: SocketAddr) -> anyhow::Result<Connection> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Connection { stream: BufReader::new(stream), address })
    }

    /// Asks for `path` as the last request of this connection, with the address as the host asked for.
    pub fn get(self, path: &str) -> anyhow::Result<Reply> {
        let host = self.address.to_string();
        self.get_of(&host, path)
    }

    /// Asks `host` for `path` as the last request of this connection.
    pub fn get_of(mut self, host: &str, path: &str) -> anyhow::Result<Reply> {
        self.request(host, path, false)
    }

    /// Asks `host` for `path` and keeps the connection open for the next request.
    pub fn get_and_stay(&mut self, host: &str, path: &str) -> anyhow::Result<Reply> {
        self.request(host, path, true)
    }

    /// Sends `text` as it is, and gives all that comes until the other side closes the connection.
    pub fn exchange(mut self, text: &str) -> anyhow::Result<String> {
        self.stream.get_mut().write_all(text.as_bytes()).context("sending")?;
        let mut answer = Vec::new();
        self.stream.read_to_end(&mut answer).context("reading the answer")?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Sends `line` and a line break.
    pub fn send_line(&mut self, line: &str) -> anyhow::Result<()> {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).context("sending")
    }

    /// The next line that the other side sends, without its line break.
    pub fn read_line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.stream.read_line(&mut line)? > 0, "the other side has closed the connection");
        Ok(line.trim_end().to_owned())
    }

    fn request(&mut self, host: &str, path: &str, stay: bool) -> anyhow::Result<Reply> {
        let mut text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
        write!(text, "Connection: {}\r\n\r\n", if stay { "keep-alive" } else { "close" })?;
        self.stream.get_mut().write_all(text.as_bytes()).context("sending the request")?;
        let first = self.read_line().context("reading the status")?;
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("no status in {first:?}"))?;
        let mut length = None;
        let mut chunked = false;
        loop {
            let line = self.read_line().context("reading the headers")?.to_ascii_lowercase();
            match line.split_once(':') {
                Some(("content-length", value)) => length = Some(value.trim().parse()?),
                Some(("transfer-encoding", value)) => chunked = value.contains("chunked"),
                Some(_) => {}
                None => break,
            }
        }
        let bytes = self.body(length, chunked).context("reading the body")?;
        Ok(Reply { status, body: String::from_utf8_lossy(&bytes).trim().to_owned() })
    }

    fn body(&mut self, length: Option<usize>, chunked: bool) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if chunked {
            loop {
                let size = self.read_line()?;
                let Ok(size) = usize::from_str_radix(&size, 16) else { bail!("{size:?} is no chunk size") };
                let mut chunk = vec![0; size];
                self.stream.read_exact(&mut chunk)?;
                self.read_line()?;
                bytes.append(&mut chunk);
                if size == 0 {
                    return Ok(bytes);
                }
            }
        }
        if let Some(length) = length {
            bytes.resize(length, 0);
            self.stream.read_exact(&mut bytes)?;
        } else {
            self.stream.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    }
}
