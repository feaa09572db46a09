//! Stands between the agent and a stats socket, and loses what passes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// Numbers that look random and are the same in every run.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Numbers(seed.max(1))
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Lines that were passed on, cut off and refused.
#[derive(Default)]
pub struct Counts {
    pub passed: AtomicU64,
    pub cut: AtomicU64,
    pub refused: AtomicU64,
    /// Of a thousand lines, how many are cut off and how many commands are refused.
    pub losses: AtomicU64,
}

/// Listens at `front` and passes lines on to `back`.
pub fn relay(front: PathBuf, back: PathBuf, losses: u64) -> Arc<Counts> {
    let listener = UnixListener::bind(front).unwrap();
    let counts = Arc::new(Counts { losses: losses.into(), ..Counts::default() });
    let shared = Arc::clone(&counts);
    tokio::spawn(async move {
        let mut numbers = Numbers::new(7);
        while let Ok((stream, _)) = listener.accept().await {
            let (chance, losses) = (numbers.below(1000), shared.losses.load(Ordering::Relaxed));
            tokio::spawn(pass(stream, back.clone(), chance, losses, Arc::clone(&shared)));
        }
    });
    counts
}

async fn pass(
    mut front: UnixStream,
    back: PathBuf,
    chance: u64,
    losses: u64,
    counts: Arc<Counts>,
) -> std::io::Result<()> {
    let mut line = String::new();
    front.read_to_string(&mut line).await?;
    let asks = line.starts_with("show") || line.starts_with("get");
    if chance < losses {
        counts.cut.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    if chance < losses * 2 && !asks {
        counts.refused.fetch_add(1, Ordering::Relaxed);
        return front.write_all(b"Permission denied\n").await;
    }
    counts.passed.fetch_add(1, Ordering::Relaxed);
    let mut behind = UnixStream::connect(back).await?;
    behind.write_all(line.as_bytes()).await?;
    behind.shutdown().await?;
    tokio::io::copy(&mut behind, &mut front).await.map(drop)
}
