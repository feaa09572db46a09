//! What a guest may use: memory over all its memories, processor time, time, what it returns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tracing::Level;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Result, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

use super::bindings::waypost::plugin::logging;
use super::log::{GuestLog, StderrTail};

/// Length of an epoch, the grain in which processor time is measured and shared.
const TICK: Duration = Duration::from_millis(10);
/// Most elements of all tables together; a table is a host allocation that memory limits do not see.
const TABLE_ELEMENTS: usize = 1_000_000;

/// What any plugin may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes over all memories of one instance.
    pub memory: usize,
    /// Processor time of one call.
    pub deadline: Duration,
    /// Time of one call, asleep or not.
    pub timeout: Duration,
    /// Bytes one call may hand over.
    pub result: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { memory: 64 << 20, deadline: Duration::from_secs(1), timeout: Duration::from_secs(5), result: 8 << 20 }
    }
}

/// What a store of a guest carries.
pub(super) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    pub(super) log: GuestLog,
    pub(super) stderr: StderrTail,
    ticks_left: u64,
    memory_used: usize,
    table_used: usize,
    memory_limit: usize,
    /// The limit that was hit, for the message.
    pub(super) hit: Option<String>,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl wasmtime::ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let total = self.memory_used.saturating_sub(current).saturating_add(desired);
        if total > self.memory_limit {
            self.hit =
                Some(format!("it asked for {} MiB of memory, {} are allowed", total >> 20, self.memory_limit >> 20));
            return Ok(false);
        }
        self.memory_used = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        let total = self.table_used.saturating_sub(current).saturating_add(desired);
        if total > TABLE_ELEMENTS {
            self.hit = Some(format!("it asked for {total} table elements, {TABLE_ELEMENTS} are allowed"));
            return Ok(false);
        }
        self.table_used = total;
        Ok(true)
    }
}

impl logging::Host for State {
    fn log(&mut self, level: logging::Level, message: String) {
        let level = match level {
            logging::Level::Trace => Level::TRACE,
            logging::Level::Debug => Level::DEBUG,
            logging::Level::Info => Level::INFO,
            logging::Level::Warn => Level::WARN,
            logging::Level::Error => Level::ERROR,
        };
        self.log.write(level, &message);
    }
}

/// A store with nothing in reach: no files, no network, no environment, a bounded everything.
pub(super) fn store(engine: &Engine, limits: Limits, log: GuestLog) -> Store<State> {
    let stderr = StderrTail::default();
    let mut wasi = WasiCtxBuilder::new();
    wasi.stdout(log.stream("stdout", StderrTail::default()));
    wasi.stderr(log.stream("stderr", stderr.clone()));
    wasi.max_random_size(64 << 10);
    let state = State {
        wasi: wasi.build(),
        table: ResourceTable::new(),
        log,
        stderr,
        ticks_left: 0,
        memory_used: 0,
        table_used: 0,
        memory_limit: limits.memory,
        hit: None,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| state);
    store.set_hostcall_fuel(limits.result);
    store.epoch_deadline_callback(|mut context| {
        let state = context.data_mut();
        if state.ticks_left == 0 {
            state.hit = Some("it used up its processor time".to_owned());
            return Ok(UpdateDeadline::Interrupt);
        }
        state.ticks_left -= 1;
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store
}

/// Gives a store the time of one call.
pub(super) fn wind(store: &mut Store<State>, limits: Limits) {
    store.data_mut().ticks_left = u64::try_from(limits.deadline.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX);
    store.data_mut().hit = None;
    store.set_epoch_deadline(1);
}

/// Counts calls under way, so that the clock stands still in an idle agent.
#[derive(Clone, Default)]
pub(super) struct Clock {
    calls: Arc<AtomicUsize>,
    /// The thread waits until it is woken.
    resting: Arc<AtomicBool>,
    thread: Arc<std::sync::OnceLock<std::thread::Thread>>,
}

/// Keeps the clock running while it lives.
pub(super) struct Running(Arc<AtomicUsize>);

impl Clock {
    /// Starts the thread that moves the epoch on; it ends with the engine.
    pub(super) fn start(engine: &Engine) -> std::io::Result<Self> {
        let clock = Clock::default();
        let (own, weak) = (clock.clone(), engine.weak());
        let handle = std::thread::Builder::new().name("epoch".to_owned()).spawn(move || {
            loop {
                own.rest();
                #[expect(clippy::disallowed_methods, reason = "this thread is the clock of the guests")]
                std::thread::sleep(TICK);
                let Some(engine) = weak.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
        clock.thread.get_or_init(|| handle.thread().clone());
        Ok(clock)
    }

    /// Waits for a call to be under way; in between it looks whether the engine is still there.
    fn rest(&self) {
        self.resting.store(true, Ordering::SeqCst);
        if self.calls.load(Ordering::SeqCst) == 0 {
            std::thread::park_timeout(Duration::from_mins(1));
        }
        self.resting.store(false, Ordering::SeqCst);
    }

    /// Marks a call as under way until the value is dropped. Most calls are over before the next tick, and only the
    /// first after a rest has to wake the thread.
    pub(super) fn run(&self) -> Running {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.resting.load(Ordering::SeqCst)
            && self.resting.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
        Running(Arc::clone(&self.calls))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
