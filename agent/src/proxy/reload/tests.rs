//! Pacing, on paused time, with a proxy that does as it is told.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// What a reload is to end with, in order; the rest succeed. And when each began.
#[derive(Clone, Default)]
struct Fake {
    results: Arc<Mutex<Vec<Result<(), Failure>>>>,
    began: Arc<Mutex<Vec<Instant>>>,
    takes: Duration,
    overlap: Arc<AtomicU64>,
    ends: Arc<Mutex<Option<Ended>>>,
}

#[async_trait::async_trait]
impl Reloader for Fake {
    async fn reload(&mut self) -> Result<(), Failure> {
        assert_eq!(self.overlap.fetch_add(1, Ordering::SeqCst), 0, "two reloads at once");
        self.began.lock().unwrap().push(Instant::now());
        tokio::time::sleep(self.takes).await;
        self.overlap.store(0, Ordering::SeqCst);
        let mut results = self.results.lock().unwrap();
        if results.is_empty() { Ok(()) } else { results.remove(0) }
    }

    async fn ended(&mut self) -> Ended {
        let ended = self.ends.lock().unwrap().take();
        match ended {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }
}

struct Bench {
    wanted: watch::Sender<u64>,
    status: watch::Receiver<ReloadStatus>,
    fake: Fake,
}

impl Bench {
    fn new(fake: Fake, min_interval: Duration) -> Self {
        let (wanted, requests) = watch::channel(0);
        let status = Arc::new(watch::channel(ReloadStatus::default()).0);
        let line = Line {
            name: "test".to_owned(),
            min_interval,
            wanted: requests,
            status: status.clone(),
            shutdown: Shutdown::default(),
            files: Arc::default(),
            start: Arc::default(),
        };
        tokio::spawn(run(fake.clone(), line));
        Bench { wanted, status: status.subscribe(), fake }
    }

    fn request(&self) {
        self.wanted.send_modify(|wanted| *wanted += 1);
    }

    async fn done(&mut self, request: u64) -> ReloadStatus {
        self.status.wait_for(|status| status.done == request).await.unwrap().clone()
    }

    async fn begun(&self, count: usize) -> Vec<Instant> {
        while self.fake.began.lock().unwrap().len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.fake.began.lock().unwrap().clone()
    }
}

fn failure(refused: bool) -> Result<(), Failure> {
    Err(Failure { refused, error: anyhow::anyhow!("told to") })
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn requests_during_a_reload_merge_into_one_more() {
    let mut bench = Bench::new(Fake { takes: SECOND, ..Fake::default() }, Duration::ZERO);
    bench.request();
    bench.begun(1).await;
    for _ in 0..10 {
        bench.request();
    }
    assert_eq!(bench.done(11).await.reloads, 2);
    assert_eq!(bench.begun(2).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_least_interval_defers_and_never_drops() {
    let mut bench = Bench::new(Fake::default(), 2 * SECOND);
    bench.request();
    bench.done(1).await;
    bench.request();
    assert_eq!(bench.done(2).await.reloads, 2);
    let began = bench.begun(2).await;
    assert!(began[1] - began[0] >= 2 * SECOND, "{began:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_reload_is_tried_again_until_it_is_done() {
    let fake = Fake::default();
    fake.results.lock().unwrap().extend((0..12).map(|_| failure(false)));
    let mut bench = Bench::new(fake, Duration::ZERO);
    bench.request();
    bench.status.wait_for(|status| status.last_error.as_deref() == Some("told to")).await.unwrap();
    let status = bench.done(1).await;
    assert_eq!((status.reloads, status.last_error), (1, None));
    let began = bench.begun(13).await;
    assert!(began[1] - began[0] <= Duration::from_millis(250), "{began:?}");
    let last = began[12] - began[11];
    assert!(last >= 15 * SECOND && last <= 31 * SECOND, "{began:?}");
}

#[tokio::test(start_paused = true)]
async fn newer_files_do_not_wait_for_the_pause_after_a_failure() {
    let fake = Fake::default();
    fake.results.lock().unwrap().extend((0..12).map(|_| failure(false)));
    let mut bench = Bench::new(fake, Duration::ZERO);
    bench.request();
    let before = bench.begun(12).await;
    bench.request();
    bench.done(2).await;
    let began = bench.begun(13).await;
    assert!(began[12] - before[11] < SECOND, "{began:?}");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_refused_is_left_alone_for_a_while_also_for_newer_files() {
    let fake = Fake::default();
    fake.results.lock().unwrap().push(failure(true));
    let mut bench = Bench::new(fake, Duration::ZERO);
    bench.request();
    bench.begun(1).await;
    bench.request();
    bench.done(2).await;
    let began = bench.begun(2).await;
    assert!(began[1] - began[0] >= REFUSED_PAUSE && began[1] - began[0] < REFUSED_PAUSE + SECOND, "{began:?}");
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_ended_is_started_again() {
    let mut bench = Bench::new(Fake::default(), Duration::ZERO);
    bench.request();
    bench.done(1).await;
    *bench.fake.ends.lock().unwrap() = Some(Ended { text: "the proxy ended".to_owned(), ran: SECOND });
    // The next request wakes the task, which then finds that the proxy has ended.
    bench.request();
    bench.status.wait_for(|status| status.last_error.is_some()).await.unwrap();
    let status = bench.done(2).await;
    assert_eq!((status.reloads, status.last_error), (2, None));
}
