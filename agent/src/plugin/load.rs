//! From a name or a file to a plugin that answered: what is wrong with it is said in words.

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use wasmtime::component::{Component, InstancePre, Linker, types::ComponentItem};
use wasmtime::{Config, Engine};

use super::bindings::exports::waypost::plugin::{grouping, layout, lifecycle, live, output};
use super::bindings::waypost::plugin::logging;
use super::bucket::Bucket;
use super::limits::{Clock, Limits, State};
use super::log::GuestLog;
use super::pool::{FORGOTTEN, Indices, Pool};
use super::{CallError, Description, Kind, LoadError};
use crate::atomic;

mod shipped {
    include!(concat!(env!("OUT_DIR"), "/shipped.rs"));
}

/// Names and bytes of the plugins that are built into the agent.
pub(super) fn shipped() -> &'static [(&'static str, &'static [u8])] {
    shipped::SHIPPED
}

/// The whole chain of wasmtime's own error type, which is not a standard error.
#[expect(clippy::needless_pass_by_value, reason = "it is for map_err")]
fn words(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

/// What all plugins share: the compiler, what they may import, where compiled code is kept.
pub(super) struct Loader {
    engine: Engine,
    linker: Linker<State>,
    clock: Clock,
    limits: Limits,
    cache: Option<PathBuf>,
    parallel: usize,
    /// One for each processor: compiling takes much memory.
    compiling: Semaphore,
    /// Plugins that were compiled here and are compiled for the next start.
    compiled: AtomicUsize,
}

/// A plugin that answered.
pub(super) struct Loaded {
    pub(super) pool: Pool,
    pub(super) description: Description,
}

impl Loader {
    /// `cache` is a directory of the agent's user alone, and goes unused when it is not: what lies there is run as
    /// native code.
    pub(super) fn new(limits: Limits, cache: Option<PathBuf>, parallel: usize) -> Result<Self> {
        let mut config = Config::new();
        config.epoch_interruption(true).wasm_backtrace_max_frames(None);
        let engine = Engine::new(&config).map_err(words).context("the WebAssembly engine did not start")?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(words).context("WASI could not be linked")?;
        logging::add_to_linker::<State, wasmtime::component::HasSelf<State>>(&mut linker, |state| state)
            .map_err(words)
            .context("the logging interface could not be linked")?;
        let clock = Clock::start(&engine).context("the epoch thread did not start")?;
        let cache = cache.filter(|path| match private_directory(path) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error = %format_args!("{error:#}"), "cannot cache compiled plugins; starts are slower");
                false
            }
        });
        Ok(Loader {
            engine,
            linker,
            clock,
            limits,
            cache,
            parallel,
            compiling: Semaphore::new(parallel),
            compiled: AtomicUsize::new(0),
        })
    }

    /// Compiles (or finds compiled), links, describes and configures a plugin.
    pub(super) async fn load(&self, name: &str, bytes: &[u8], settings: &serde_json::Value) -> Result<Loaded> {
        let digest = digest(bytes);
        let turn = self.compiling.acquire().await.context("no more plugins are loaded")?;
        // A thread that compiles must not keep the answer of another plugin waiting, whose time is running.
        let component = tokio::task::block_in_place(|| self.compile(bytes, &digest))?;
        drop(turn);
        let exported = exported(&component, &self.engine);
        let pre = self.link(&component)?;
        let indices = indices(&pre, &exported)?;
        let pool = Pool {
            engine: self.engine.clone(),
            clock: self.clock.clone(),
            limits: self.limits,
            log: GuestLog::new(name),
            pre,
            indices,
            settings: settings.to_string(),
            idle: Mutex::new(Vec::new()),
            permits: Semaphore::new(self.parallel),
            crashes: Mutex::new(Bucket::new(FORGOTTEN)),
        };
        let description = describe(&pool, digest, &exported).await?;
        match pool.instantiate().await {
            Ok(warm) => pool.idle.lock().push(warm),
            Err(CallError::Refused(words)) => bail!(LoadError::Settings { settings: settings.clone(), words }),
            Err(error) => bail!(LoadError::Crash(error)),
        }
        Ok(Loaded { pool, description })
    }

    fn compile(&self, bytes: &[u8], digest: &str) -> Result<Component> {
        check_is_component(bytes)?;
        let cached = self.cache.as_ref().map(|cache| cache.join(format!("{digest}-{}.cwasm", self.compatibility())));
        if let Some(path) = cached.as_deref().filter(|path| path.exists())
            && let Some(component) = self.cached(path)
        {
            return Ok(component);
        }
        let component = Component::new(&self.engine, bytes)
            .map_err(|error| anyhow::anyhow!("it is not a valid WebAssembly component: {error:#}"))?;
        if let Some(path) = cached {
            match component.serialize().map_err(words).and_then(|code| Ok(atomic::replace(&path, &code)?)) {
                Ok(()) => _ = self.compiled.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    tracing::warn!(error = %format_args!("{error:#}"), "cannot cache compiled plugin; the next start is slower");
                }
            }
        }
        Ok(component)
    }

    pub(super) fn compiled(&self) -> usize {
        self.compiled.load(Ordering::Relaxed)
    }

    #[allow(unsafe_code)] // the one place: code compiled earlier by this very build of the engine
    fn cached(&self, path: &Path) -> Option<Component> {
        // SAFETY: the directory is of mode 0700 and ours (`private_directory`), and files enter it only by `keep`.
        match unsafe { Component::deserialize_file(&self.engine, path) } {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %format_args!("{error:#}"), "cached plugin is unusable; compiling it again");
                None
            }
        }
    }

    /// Names what compiled code depends on besides the plugin: engine version and settings, processor features.
    fn compatibility(&self) -> String {
        let mut hasher = Sha256Hasher(Sha256::new());
        self.engine.precompile_compatibility_hash().hash(&mut hasher);
        hex::encode(&hasher.0.finalize()[..8])
    }

    fn link(&self, component: &Component) -> Result<InstancePre<State>> {
        for (name, _) in component.component_type().imports(&self.engine) {
            let known = ["waypost:plugin/", "wasi:"].iter().any(|prefix| name.starts_with(prefix));
            ensure!(
                known,
                "it imports {name}, which plugins are not given; they may import waypost:plugin/logging and WASI 0.2"
            );
        }
        self.linker
            .instantiate_pre(component)
            .map_err(|error| anyhow::anyhow!("it imports what this version of Waypost does not have: {error:#}"))
    }
}

/// `Hash` into SHA-256: stable across processes, which the standard hasher is not bound to be.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

/// SHA-256 in hexadecimal digits.
pub(super) fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

fn check_is_component(bytes: &[u8]) -> Result<()> {
    match bytes.get(..8) {
        Some(b"\0asm\x0d\0\x01\0") => Ok(()),
        Some(b"\0asm\x01\0\0\0") => bail!(
            "it is a core WebAssembly module, expected a component; build it for wasm32-wasip2, or run `wasm-tools component new` on it"
        ),
        _ => bail!("it is not WebAssembly: expected a component, found {} bytes of something else", bytes.len()),
    }
}

/// Names of the interfaces of ours that a component exports.
fn exported(component: &Component, engine: &Engine) -> Vec<String> {
    let exports = component.component_type();
    let interfaces = exports.exports(engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentInstance(_)));
    interfaces.map(|(name, _)| name.to_owned()).collect()
}

/// Whether `exported` has `waypost:plugin/NAME` in some version.
fn has(exported: &[String], name: &str) -> bool {
    exported.iter().any(|export| {
        export
            .strip_prefix("waypost:plugin/")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('@'))
    })
}

fn indices(pre: &InstancePre<State>, exported: &[String]) -> Result<Indices> {
    let listed = if exported.is_empty() { "nothing".to_owned() } else { exported.join(", ") };
    let kinds = ["grouping", "layout", "output"].iter().filter(|name| has(exported, name)).count();
    ensure!(
        kinds == 1,
        "missing export: expected one of waypost:plugin/grouping, layout or output (0.1.0), it exports {listed}"
    );
    ensure!(has(exported, "lifecycle"), "missing export: waypost:plugin/lifecycle@0.1.0, it exports {listed}");
    let mismatch = |error: wasmtime::Error| anyhow::anyhow!("missing export: {error:#}");
    let optional = |name: &str| has(exported, name).then_some(());
    Ok(Indices {
        lifecycle: lifecycle::GuestIndices::new(pre).map_err(mismatch)?,
        grouping: optional("grouping").map(|()| grouping::GuestIndices::new(pre)).transpose().map_err(mismatch)?,
        layout: optional("layout").map(|()| layout::GuestIndices::new(pre)).transpose().map_err(mismatch)?,
        output: optional("output").map(|()| output::GuestIndices::new(pre)).transpose().map_err(mismatch)?,
        live: optional("live").map(|()| live::GuestIndices::new(pre)).transpose().map_err(mismatch)?,
    })
}

async fn describe(pool: &Pool, digest: String, exported: &[String]) -> Result<Description> {
    let mut warm = pool.bare().await.map_err(|error| match error {
        CallError::Crashed(text) if text.contains("type mismatch") || text.contains("expected") => {
            anyhow::anyhow!("type mismatch: its functions are not those of waypost:plugin@0.1.0: {text}")
        }
        other => anyhow::anyhow!("it does not start: {other}"),
    })?;
    let said = pool
        .bounded(&mut warm, |warm| {
            Box::pin(async move { warm.exports.lifecycle.call_describe(&mut warm.store).await.map(Ok) })
        })
        .await
        .map_err(|text| anyhow::anyhow!("it crashed while it described itself: {text}"))?
        .map_err(|error| anyhow::anyhow!(super::convert::refusal(error)))?;
    let kind = if has(exported, "grouping") {
        Kind::Grouping
    } else if has(exported, "layout") {
        Kind::Layout
    } else {
        Kind::Output
    };
    Ok(Description {
        name: said.name,
        version: said.version,
        summary: said.summary,
        settings_schema: said.settings_schema,
        environment: said.environment,
        kind,
        live: has(exported, "live"),
        sha256: digest,
    })
}

/// Creates `path` for this user alone, or makes sure that it is.
fn private_directory(path: &Path) -> Result<()> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};
    let at = || format!("plugin cache {}", path.display());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(at)?;
    let found = std::fs::symlink_metadata(path).with_context(at)?;
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    ensure!(
        ours && found.is_dir() && found.mode() & 0o022 == 0,
        "{}: expected a directory that only this user can write, found owner {} mode {:o}; remove it",
        at(),
        found.uid(),
        found.mode() & 0o7777
    );
    Ok(())
}
