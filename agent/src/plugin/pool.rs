//! Warm instances of one plugin and the calls they serve.
//!
//! An instance that trapped, overran or was abandoned is poisoned: it is dropped, and a fresh one serves the next call.

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use wasmtime::component::InstancePre;
use wasmtime::{Engine, Store, Trap};

use super::bindings::exports::waypost::plugin::{grouping, layout, lifecycle, live, output};
use super::bindings::waypost::plugin::types::PluginError;
use super::bucket::Bucket;
use super::limits::{self, Clock, Limits, State};
use super::log::GuestLog;
use super::{CallError, convert};

/// Crashes that a plugin may have on its account before it rests: a few bad units must not stop the others, a plugin that
/// is broken for all of them must not burn the host.
const PATIENCE: f64 = 20.0;
/// Crashes that are forgotten in a second.
pub(super) const FORGOTTEN: f64 = 2.0;
/// Most text of a refusal or a crash that is passed on, in bytes.
const TEXT_LIMIT: usize = 1500;

/// Where the functions of each exported interface are.
pub(super) struct Indices {
    pub(super) lifecycle: lifecycle::GuestIndices,
    pub(super) grouping: Option<grouping::GuestIndices>,
    pub(super) layout: Option<layout::GuestIndices>,
    pub(super) output: Option<output::GuestIndices>,
    pub(super) live: Option<live::GuestIndices>,
}

/// The functions of one instance.
pub(super) struct Exports {
    pub(super) lifecycle: lifecycle::Guest,
    pub(super) grouping: Option<grouping::Guest>,
    pub(super) layout: Option<layout::Guest>,
    pub(super) output: Option<output::Guest>,
    pub(super) live: Option<live::Guest>,
}

/// An instance that is configured and waits for a call.
pub(super) struct Warm {
    pub(super) store: Store<State>,
    pub(super) exports: Exports,
}

/// What a guest function gave back: a value or its own refusal.
pub(super) type Outcome<R> = wasmtime::Result<Result<R, PluginError>>;

pub(super) struct Pool {
    pub(super) engine: Engine,
    pub(super) clock: Clock,
    pub(super) limits: Limits,
    pub(super) log: GuestLog,
    pub(super) pre: InstancePre<State>,
    pub(super) indices: Indices,
    pub(super) settings: String,
    pub(super) idle: Mutex<Vec<Warm>>,
    pub(super) permits: Semaphore,
    /// Crashes of late.
    pub(super) crashes: Mutex<Bucket>,
}

impl Pool {
    /// Serves one call on a warm instance, or on a new one when all are busy.
    pub(super) async fn call<R: Send>(
        &self,
        work: impl for<'a> FnOnce(&'a mut Warm) -> BoxFuture<'a, Outcome<R>> + Send,
    ) -> Result<R, CallError> {
        let _permit = self.permits.acquire().await.map_err(|_| CallError::Crashed("the plugin is unloaded".into()))?;
        self.awake()?;
        let idle = self.idle.lock().pop();
        let mut warm = match idle {
            Some(warm) => warm,
            None => match self.instantiate().await {
                Ok(warm) => warm,
                Err(CallError::Crashed(text)) => return Err(self.crashed(text)),
                Err(refused) => return Err(refused),
            },
        };
        let outcome = self.bounded(&mut warm, work).await;
        match outcome {
            Ok(result) => {
                self.idle.lock().push(warm);
                result.map_err(|error| CallError::Refused(cut(convert::refusal(error))))
            }
            Err(text) => Err(self.crashed(text)),
        }
    }

    /// A configured instance.
    pub(super) async fn instantiate(&self) -> Result<Warm, CallError> {
        let mut warm = self.bare().await?;
        let settings = self.settings.clone();
        let configured = self
            .bounded(&mut warm, move |warm| {
                Box::pin(async move { warm.exports.lifecycle.call_configure(&mut warm.store, &settings).await })
            })
            .await;
        match configured {
            Ok(Ok(())) => Ok(warm),
            Ok(Err(error)) => Err(CallError::Refused(cut(convert::refusal(error)))),
            Err(text) => Err(CallError::Crashed(text)),
        }
    }

    /// An instance that was not configured yet: it may only be asked to describe itself.
    pub(super) async fn bare(&self) -> Result<Warm, CallError> {
        let mut store = limits::store(&self.engine, self.limits, self.log.clone());
        limits::wind(&mut store, self.limits);
        let _running = self.clock.run();
        let instance = match tokio::time::timeout(self.limits.timeout, self.pre.instantiate_async(&mut store)).await {
            Ok(Ok(instance)) => instance,
            Ok(Err(error)) => return Err(CallError::Crashed(explain(&error, store.data()))),
            Err(_) => return Err(CallError::Crashed("it did not start in time".to_owned())),
        };
        let exports = self.exports(&mut store, &instance).map_err(|error| CallError::Crashed(format!("{error:#}")))?;
        Ok(Warm { store, exports })
    }

    fn exports(&self, store: &mut Store<State>, instance: &wasmtime::component::Instance) -> wasmtime::Result<Exports> {
        let Indices { lifecycle, grouping, layout, output, live } = &self.indices;
        Ok(Exports {
            lifecycle: lifecycle.load(&mut *store, instance)?,
            grouping: grouping.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?,
            layout: layout.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?,
            output: output.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?,
            live: live.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?,
        })
    }

    /// Runs `work` within the time of one call; an error is the text of the crash.
    pub(super) async fn bounded<R: Send>(
        &self,
        warm: &mut Warm,
        work: impl for<'a> FnOnce(&'a mut Warm) -> BoxFuture<'a, Outcome<R>> + Send,
    ) -> Result<Result<R, PluginError>, String> {
        limits::wind(&mut warm.store, self.limits);
        let _running = self.clock.run();
        match tokio::time::timeout(self.limits.timeout, work(warm)).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(explain(&error, warm.store.data())),
            Err(_) => Err(format!("it did not answer within {:?}", self.limits.timeout)),
        }
    }

    /// Gives the memory of all but one instance back, after a cold start used more.
    pub(super) fn trim(&self) {
        self.idle.lock().truncate(1);
    }

    fn awake(&self) -> Result<(), CallError> {
        if self.crashes.lock().level() >= PATIENCE { Err(CallError::Suspended) } else { Ok(()) }
    }

    fn crashed(&self, text: String) -> CallError {
        self.crashes.lock().add();
        CallError::Crashed(text)
    }
}

/// Why a call ended without an answer, in words: the limit it hit, the trap, and what the guest said last.
fn explain(error: &wasmtime::Error, state: &State) -> String {
    let said = state.stderr.text();
    let cause = if let Some(limit) = &state.hit {
        limit.clone()
    } else if let Some(trap) = error.downcast_ref::<Trap>() {
        match trap {
            Trap::StackOverflow => "it overflowed its stack".to_owned(),
            Trap::UnreachableCodeReached => "it trapped (a panic or an abort)".to_owned(),
            other => format!("it trapped: {other}"),
        }
    } else if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
        format!("it called exit({})", exit.0)
    } else {
        format!("it trapped: {:#}", error.root_cause())
    };
    if said.is_empty() { cut(cause) } else { cut(format!("{cause}; it said: {said}")) }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_LIMIT {
        text.truncate(text.floor_char_boundary(TEXT_LIMIT));
        text.push('…');
    }
    text.replace(|c: char| c.is_control(), " ")
}
