//! The socket on which a supervised process tells its state: the protocol of `sd_notify`.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram as StdDatagram};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::net::UnixDatagram;

/// Longest path of a socket; `sockaddr_un` has 108 bytes with the final zero.
const PATH_LIMIT: usize = 107;

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// `READY=1`
    pub(super) ready: bool,
    /// `RELOADING=1`
    pub(super) reloading: bool,
    /// `STATUS=...`
    pub(super) status: Option<String>,
    /// `MAINPID=...`
    pub(super) main_pid: Option<u32>,
}

impl Message {
    fn parse(bytes: &[u8]) -> Self {
        let mut message = Message::default();
        for line in String::from_utf8_lossy(bytes).lines() {
            match line.split_once('=') {
                Some(("READY", "1")) => message.ready = true,
                Some(("RELOADING", "1")) => message.reloading = true,
                Some(("STATUS", text)) => message.status = Some(text.to_owned()),
                Some(("MAINPID", pid)) => message.main_pid = pid.parse().ok(),
                _ => {}
            }
        }
        message
    }

    /// What `HAProxy` 3.0 says of a reload that it refused: `STATUS=Reload failed!`
    pub(super) fn tells_failure(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.to_ascii_lowercase().contains("failed"))
    }
}

/// A bound socket.
#[derive(Debug)]
pub(super) struct NotifySocket {
    socket: UnixDatagram,
    path: PathBuf,
    /// Value of `NOTIFY_SOCKET`.
    pub(super) address: String,
}

impl NotifySocket {
    /// Binds the socket at `path`, so that a process that an earlier agent started is heard again; where no
    /// socket can be, at an abstract name made of the path.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        let (socket, address) = match bind_path(path) {
            Ok(socket) => (socket, path.to_string_lossy().into_owned()),
            Err(error) => {
                let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
                let name = format!("waypost-{}", hex::encode(&digest[..8]));
                tracing::debug!(path = %path.display(), %error, name, "the notify socket gets an abstract name");
                (StdDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?, format!("@{name}"))
            }
        };
        socket.set_nonblocking(true)?;
        Ok(NotifySocket { socket: UnixDatagram::from_std(socket)?, path: path.to_owned(), address })
    }

    /// The next message.
    pub(super) async fn receive(&self) -> Message {
        let mut buffer = vec![0; 4096];
        loop {
            match self.socket.recv(&mut buffer).await {
                Ok(count) => return Message::parse(&buffer[..count]),
                Err(error) => {
                    tracing::warn!(%error, "cannot read a notification of the proxy");
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            }
        }
    }

    /// The next message that is there already.
    pub(super) fn try_receive(&self) -> Option<Message> {
        let mut buffer = vec![0; 4096];
        let count = self.socket.try_recv(&mut buffer).ok()?;
        Some(Message::parse(&buffer[..count]))
    }

    /// Removes the socket from the file system.
    pub(super) fn remove(self) {
        if fs::symlink_metadata(&self.path).is_ok()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "the notify socket stays behind");
        }
    }
}

fn bind_path(path: &Path) -> io::Result<StdDatagram> {
    if path.as_os_str().len() > PATH_LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path is too long for a socket"));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = StdDatagram::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read() {
        // As HAProxy 2.6.12 and 3.2 send them.
        let ready = Message::parse(b"READY=1\nMAINPID=19877");
        assert_eq!(ready, Message { ready: true, main_pid: Some(19877), ..Message::default() });
        assert!(Message::parse(b"RELOADING=1").reloading);
        assert!(Message::parse(b"READY=1\nSTATUS=Reload failed!\n").tells_failure());
        assert!(!Message::parse(b"READY=1\nMAINPID=7\nSTATUS=Ready.\n").tells_failure());
        assert_eq!(Message::parse(b"\xff=\nWATCHDOG=1\n"), Message::default());
    }

    #[tokio::test]
    async fn a_path_too_long_for_a_socket_gets_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x".repeat(120));
        let socket = NotifySocket::bind(&path).unwrap();
        let name = socket.address.strip_prefix('@').unwrap();
        let sender = StdDatagram::unbound().unwrap();
        sender.send_to_addr(b"READY=1", &SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        assert!(socket.receive().await.ready);
    }

    #[tokio::test]
    async fn a_socket_of_an_earlier_run_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        drop(NotifySocket::bind(&path).unwrap());
        let socket = NotifySocket::bind(&path).unwrap();
        StdDatagram::unbound().unwrap().send_to(b"RELOADING=1", &path).unwrap();
        assert!(socket.receive().await.reloading);
        assert!(socket.try_receive().is_none());
        socket.remove();
        assert!(!path.exists());
    }
}
