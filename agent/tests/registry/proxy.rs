//! A TCP proxy between agent and etcd that can cut its connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards connections until it is dropped.
pub(crate) struct Proxy {
    address: String,
    cut: watch::Sender<u64>,
    shut: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port and forwards to `target`.
    pub(crate) async fn start(target: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let cut = watch::Sender::new(0);
        let cuts = cut.clone();
        let shut = Arc::new(AtomicBool::new(false));
        let refuses = shut.clone();
        let task = tokio::spawn(async move {
            while let Ok((inbound, _)) = listener.accept().await {
                if !refuses.load(Ordering::SeqCst) {
                    tokio::spawn(forward(inbound, target.clone(), cuts.subscribe()));
                }
            }
        });
        Proxy { address, cut, shut, task }
    }

    /// Where it listens.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Closes every open connection; new ones are taken.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Closes every open connection, and new ones at once.
    pub(crate) fn shut(&self) {
        self.shut.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Takes connections again.
    pub(crate) fn open(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(mut inbound: TcpStream, target: String, mut cut: watch::Receiver<u64>) {
    let Ok(mut outbound) = TcpStream::connect(target).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut inbound, &mut outbound) => {}
        _ = cut.changed() => {}
    }
}
