//! Small HTTP servers on a host that start and stop like well-behaved containers.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::netns_runtime::NetnsRuntime;

/// Answers every request with its name. It stops when it is dropped: takes no further connection, answers what it has
/// been asked, closes what is idle.
pub struct Server {
    name: String,
    port: u16,
    /// Nothing is sent: the server stops when this goes.
    _running: watch::Sender<()>,
}

impl Server {
    /// Starts one that calls itself `name` at a free port of `address`.
    pub fn start(inside: &NetnsRuntime, address: Ipv4Addr, name: &str) -> Server {
        Server::start_at(inside, address, 0, name).expect("a free port")
    }

    /// Starts one at this port.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start_at(inside: &NetnsRuntime, address: Ipv4Addr, port: u16, name: &str) -> std::io::Result<Server> {
        let (running, stopped) = watch::channel(());
        let listener = inside.run(async move { TcpListener::bind(SocketAddr::from((address, port))).await })?;
        let port = listener.local_addr()?.port();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}\n", name.len() + 1);
        inside.spawn(listen(listener, answer, stopped));
        Ok(Server { name: name.to_owned(), port, _running: running })
    }

    /// What it answers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

async fn listen(listener: TcpListener, answer: String, mut stopped: watch::Receiver<()>) {
    loop {
        let accepted = tokio::select! {
            _ = stopped.changed() => return,
            accepted = listener.accept() => accepted,
        };
        if let Ok((stream, _)) = accepted {
            tokio::spawn(serve(stream, answer.clone(), stopped.clone()));
        }
    }
}

/// Answers requests without bodies until either side ends.
async fn serve(mut stream: TcpStream, answer: String, mut stopped: watch::Receiver<()>) {
    let mut request = Vec::new();
    loop {
        let read = tokio::select! {
            // What was asked is answered first.
            biased;
            read = stream.read_buf(&mut request) => read,
            _ = stopped.changed(), if request.is_empty() => return,
        };
        if !matches!(read, Ok(1..)) {
            return;
        }
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}
