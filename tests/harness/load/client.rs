//! One client of a load: requests over one connection, or over one connection each.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::tally::Outcome;

/// Longest head or body of an answer, in bytes; ours are much shorter.
const LONGEST: u64 = 64 << 10;

/// A client and the connection that it keeps, when it does.
pub(super) struct Client {
    address: SocketAddr,
    keep: bool,
    kept: Option<BufReader<TcpStream>>,
    /// Connections that were opened.
    pub(super) connections: u64,
    /// Kept connections that the other side closed between two requests.
    pub(super) closed_idle: u64,
}

/// How an exchange over an open connection failed.
struct Broken {
    said: String,
    /// Whether nothing of an answer had come, over a connection that had served before: then HTTP lets a client repeat
    /// the request (RFC 9112, 9.3.1).
    repeatable: bool,
}

impl Client {
    pub(super) fn new(address: SocketAddr, keep: bool) -> Client {
        Client { address, keep, kept: None, connections: 0, closed_idle: 0 }
    }

    /// Sends one request and reads its answer; true when a client may send it again.
    pub(super) async fn request(&mut self, domain: &str) -> (Outcome, bool) {
        let (mut stream, used) = match self.usable() {
            Some(stream) => (stream, true),
            None => match self.connect().await {
                Ok(stream) => (stream, false),
                Err(outcome) => return (outcome, false),
            },
        };
        match exchange(&mut stream, domain, self.keep).await {
            Ok((outcome, stays)) => {
                self.kept = (stays && self.keep).then_some(stream);
                (outcome, false)
            }
            Err(broken) => {
                let which = if used { "kept" } else { "new" };
                (Outcome::Reset(format!("{which} connection, {}", broken.said)), used && broken.repeatable)
            }
        }
    }

    /// The kept connection, unless the other side has closed it.
    fn usable(&mut self) -> Option<BufReader<TcpStream>> {
        let stream = self.kept.take()?;
        // The socket itself is asked, because what the runtime knows of it may be some tasks old.
        let open = stream.buffer().is_empty()
            && matches!(rustix::io::read(stream.get_ref(), &mut [0_u8; 1]), Err(rustix::io::Errno::AGAIN));
        if !open {
            self.closed_idle += 1;
        }
        open.then_some(stream)
    }

    async fn connect(&mut self) -> Result<BufReader<TcpStream>, Outcome> {
        self.connections += 1;
        match TcpStream::connect(self.address).await {
            Ok(stream) => {
                stream.set_nodelay(true).ok();
                Ok(BufReader::new(stream))
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(Outcome::Reset(error.to_string())),
            Err(error) if error.kind() == ErrorKind::TimedOut => Err(Outcome::TimedOut),
            Err(error) => Err(Outcome::Refused(error.to_string())),
        }
    }
}

/// Gives what came of it, and whether the connection can serve again.
async fn exchange(stream: &mut BufReader<TcpStream>, domain: &str, keep: bool) -> Result<(Outcome, bool), Broken> {
    let connection = if keep { "keep-alive" } else { "close" };
    let text = format!("GET / HTTP/1.1\r\nHost: {domain}\r\nConnection: {connection}\r\n\r\n");
    let early = |error: std::io::Error| Broken { said: format!("sending: {error}"), repeatable: true };
    stream.get_mut().write_all(text.as_bytes()).await.map_err(early)?;
    let mut first = String::new();
    let got = (&mut *stream).take(LONGEST).read_line(&mut first).await;
    if !matches!(got, Ok(1..)) {
        let said = got.map_or_else(|error| error.to_string(), |_| "closed".to_owned());
        return Err(Broken { said: format!("before the answer: {said}"), repeatable: first.is_empty() });
    }
    let late = |error: std::io::Error| Broken { said: format!("within the answer: {error}"), repeatable: false };
    let (status, stays, body) = rest(stream, &first).await.map_err(late)?;
    let outcome = if status == 200 { Outcome::Answered(body) } else { Outcome::Failed(status) };
    Ok((outcome, stays))
}

/// Status, whether the connection stays open, and body of an answer that begins with the line `first`.
async fn rest(stream: &mut BufReader<TcpStream>, first: &str) -> std::io::Result<(u16, bool, String)> {
    let invalid = |what: &str| std::io::Error::new(ErrorKind::InvalidData, format!("no {what}"));
    let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| invalid("status"))?;
    let mut stays = first.starts_with("HTTP/1.1");
    let mut length = None;
    loop {
        let mut line = String::new();
        if (&mut *stream).take(LONGEST).read_line(&mut line).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        match line.split_once(':') {
            None => break,
            Some(("content-length", value)) => {
                length = Some(value.trim().parse::<u64>().map_err(|_| invalid("length"))?);
            }
            Some(("connection", value)) if value.contains("close") => stays = false,
            Some(("transfer-encoding", _)) => return Err(invalid("body that this client reads")),
            Some(_) => {}
        }
    }
    let mut body = Vec::new();
    let read = (&mut *stream).take(length.unwrap_or(LONGEST).min(LONGEST)).read_to_end(&mut body).await?;
    if length.is_some_and(|length| length != read as u64) {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok((status, stays && length.is_some(), String::from_utf8_lossy(&body).trim().to_owned()))
}
