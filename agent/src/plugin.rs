//! WebAssembly plugins: the only module that knows wasmtime.
//!
//! A plugin is a guest. It gets values and returns values; it has no files, no network and no environment, and
//! nothing it does can crash, stall or fill the agent. What it returns is checked by the stage that asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tokio::runtime::Handle;

use crate::model::{Change, Container, Entry, Fragment, Instance, LivePlan, Node, Rendering, Role, Service};

mod bindings;
mod bucket;
mod convert;
mod description;
mod error;
mod limits;
mod load;
mod log;
mod pool;
mod renderer;
#[cfg(test)]
mod tests;

pub use description::{Description, Kind};
pub use error::{CallError, LoadError};
pub use limits::Limits;
pub use renderer::Renderer;

/// Where a plugin comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// Built into the agent.
    Shipped(&'a str),
    /// A file, and the digest it must have.
    File(&'a Path, Option<&'a str>),
}

/// Loads plugins and runs them, on threads of their own so that a busy guest delays nothing else.
pub struct Host {
    loader: Arc<load::Loader>,
    runtime: Handle,
    _threads: Threads,
}

/// Ends the plugin threads without waiting for a guest.
struct Threads(Option<tokio::runtime::Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Host {
    /// A host whose guests are bounded by `limits`; compiled code is kept in `cache`.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn new(limits: Limits, cache: Option<PathBuf>) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores)
            .thread_name("plugin")
            .enable_time()
            .build()
            .context("plugin threads did not start")?;
        let handle = runtime.handle().clone();
        let threads = Threads(Some(runtime));
        let loader = Arc::new(load::Loader::new(limits, cache, cores)?);
        Ok(Host { loader, runtime: handle, _threads: threads })
    }

    /// Names of the shipped plugins.
    pub fn shipped() -> Vec<&'static str> {
        load::shipped().iter().map(|(name, _)| *name).collect()
    }

    /// How many plugins had to be compiled and need not be at the next start; the compiler's memory stays taken.
    pub fn compiled(&self) -> usize {
        self.loader.compiled()
    }

    /// Loads a plugin and has it take its settings.
    ///
    /// # Errors
    /// Says in words what is wrong: no such plugin, not a component, a missing import or export, a type mismatch. A
    /// wrong digest and settings that were refused are a [`LoadError`].
    pub async fn load(&self, source: Source<'_>, settings: &serde_json::Value) -> Result<Plugin> {
        let (name, bytes) = read(source)?;
        let (loader, settings, name): (_, _, Arc<str>) = (Arc::clone(&self.loader), settings.clone(), name.into());
        let (context, log_name) = (format!("plugin {name}"), Arc::clone(&name));
        // The guest must never run on the agent's own threads, not even while it is loaded.
        let loading = self.runtime.spawn(async move { loader.load(&log_name, &bytes, &settings).await });
        let loaded = loading.await.context("loading was cut short")?.with_context(|| context)?;
        Ok(Plugin { name, inner: Arc::new(loaded), runtime: self.runtime.clone() })
    }
}

fn read(source: Source<'_>) -> Result<(String, std::borrow::Cow<'static, [u8]>)> {
    match source {
        Source::Shipped(name) => {
            let found = load::shipped().iter().find(|(shipped, _)| *shipped == name);
            let (_, bytes) = found.with_context(|| {
                let known = Host::shipped().join(", ");
                format!("there is no shipped plugin {name:?}, expected one of {known}, or a path")
            })?;
            Ok((name.to_owned(), (*bytes).into()))
        }
        Source::File(path, digest) => {
            let bytes = std::fs::read(path).with_context(|| format!("plugin {} cannot be read", path.display()))?;
            if let Some(expected) = digest {
                let found = load::digest(&bytes);
                let (path, expected) = (path.to_owned(), expected.to_owned());
                ensure!(found == expected, LoadError::Digest { path, found, expected });
            }
            let name = path.file_stem().map_or_else(|| "plugin".into(), |stem| stem.to_string_lossy().into_owned());
            Ok((name, bytes.into()))
        }
    }
}

/// A loaded plugin; a clone is the same plugin.
#[derive(Clone)]
pub struct Plugin {
    name: Arc<str>,
    inner: Arc<load::Loaded>,
    runtime: Handle,
}

/// One guest function on a warm instance: what it borrows is built there from values that moved there.
macro_rules! guest {
    ($inner:ident, $interface:ident, |$warm:ident, $guest:ident| $body:expr) => {
        $inner
            .pool
            .call(move |$warm| {
                Box::pin(async move {
                    let Some($guest) = &$warm.exports.$interface else {
                        return Err(wasmtime::format_err!("it does not export {}", stringify!($interface)));
                    };
                    $body
                })
            })
            .await
    };
}

/// One guest function on the plugin threads.
macro_rules! call {
    ($self:ident, $interface:ident, |$warm:ident, $guest:ident| $body:expr) => {{
        let inner = Arc::clone(&$self.inner);
        let called = $self.runtime.spawn(async move { guest!(inner, $interface, |$warm, $guest| $body) });
        called.await.unwrap_or_else(|error| Err(lost(&error)))
    }};
}

fn lost(error: &tokio::task::JoinError) -> CallError {
    CallError::Crashed(format!("the call was lost: {error}"))
}

impl Plugin {
    /// The name it is configured by: a shipped name or a file's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it says of itself.
    pub fn description(&self) -> &Description {
        &self.inner.description
    }

    /// Gives memory back that a burst of calls needed.
    pub fn trim(&self) {
        self.inner.pool.trim();
    }

    /// What a container offers and wants.
    ///
    /// # Errors
    /// As every call: refused, crashed or resting.
    pub async fn group(&self, node: &Arc<Node>, container: &Arc<Container>) -> Result<Role, CallError> {
        let (node, container) = (Arc::clone(node), Arc::clone(container));
        let inner = Arc::clone(&self.inner);
        let role = call!(self, grouping, |warm, guest| {
            let node_pairs = convert::pairs(&node.attributes);
            let fragments = convert::container_parts(&container, &inner.description.environment);
            let attachments = fragments.attachments(&container);
            let record = fragments.record(&container, &attachments);
            guest.call_group(&mut warm.store, convert::node(&node, &node_pairs), record).await
        })?;
        Ok(convert::role_back(role))
    }

    /// Key prefixes of a layout.
    ///
    /// # Errors
    /// As every call.
    pub async fn prefixes(&self) -> Result<Vec<String>, CallError> {
        call!(self, layout, |warm, guest| guest.call_prefixes(&mut warm.store).await.map(Ok))
    }

    /// The entries that stand for an instance.
    ///
    /// # Errors
    /// As every call.
    pub async fn encode(&self, node: &Arc<Node>, instance: &Arc<Instance>) -> Result<Vec<Entry>, CallError> {
        let (node, instance) = (Arc::clone(node), Arc::clone(instance));
        let entries = call!(self, layout, |warm, guest| {
            let (node_pairs, pairs) = (convert::pairs(&node.attributes), convert::pairs(&instance.attributes));
            let record = convert::instance(&instance, &pairs);
            guest.call_encode(&mut warm.store, convert::node(&node, &node_pairs), record).await
        })?;
        Ok(entries.into_iter().map(convert::registration_back).collect())
    }

    /// The instances that each directory of entries stands for, one directory after the other.
    ///
    /// Each is a call of its own, with errors as every call; together they change threads once.
    pub async fn decode(&self, directories: Vec<Vec<(Arc<str>, Arc<str>)>>) -> Vec<Result<Vec<Instance>, CallError>> {
        let (count, inner) = (directories.len(), Arc::clone(&self.inner));
        let called = self.runtime.spawn(async move {
            let mut answers = Vec::with_capacity(count);
            for entries in directories {
                let answer = guest!(inner, layout, |warm, guest| {
                    let entries: Vec<_> = entries.iter().map(|(key, value)| convert::entry(key, value)).collect();
                    guest.call_decode(&mut warm.store, &entries).await
                });
                answers.push(answer.map(|instances| instances.into_iter().map(convert::instance_back).collect()));
            }
            answers
        });
        called.await.unwrap_or_else(|error| vec![Err(lost(&error)); count])
    }

    /// The fragments that are there whatever the services.
    ///
    /// # Errors
    /// As every call.
    pub async fn base(&self, node: &Arc<Node>) -> Result<Vec<Fragment>, CallError> {
        let node = Arc::clone(node);
        let fragments = call!(self, output, |warm, guest| {
            let node_pairs = convert::pairs(&node.attributes);
            guest.call_base(&mut warm.store, convert::node(&node, &node_pairs)).await
        })?;
        Ok(fragments.into_iter().map(convert::fragment_back).collect())
    }

    /// Each service as files have it, one service after the other.
    ///
    /// Each is a call of its own, with errors as every call; together they change threads once.
    pub async fn render(&self, node: &Arc<Node>, services: Vec<Arc<Service>>) -> Vec<Result<Rendering, CallError>> {
        let (count, inner, node) = (services.len(), Arc::clone(&self.inner), Arc::clone(node));
        let called = self.runtime.spawn(async move {
            let mut answers = Vec::with_capacity(count);
            for service in services {
                let node = Arc::clone(&node);
                let answer = guest!(inner, output, |warm, guest| {
                    let (node_pairs, pairs) = (convert::pairs(&node.attributes), convert::service_pairs(&service));
                    let instances = convert::instances(&service.instances, &pairs);
                    let denied = convert::denied(&service);
                    let record = convert::service(&service, &instances, &denied);
                    guest.call_render(&mut warm.store, convert::node(&node, &node_pairs), record).await
                });
                answers.push(answer.map(convert::rendering_back));
            }
            answers
        });
        called.await.unwrap_or_else(|error| vec![Err(lost(&error)); count])
    }
}

/// What a plugin makes of the answers of a running proxy.
#[derive(Debug)]
pub struct Planned {
    /// The process that gave them; none when they do not say.
    pub process: Option<String>,
    /// What to tell it.
    pub plan: Result<LivePlan, CallError>,
}

/// How a running proxy is brought to the wanted state, for outputs that export it.
impl Plugin {
    /// What to ask the proxy about these changes, one line each.
    ///
    /// # Errors
    /// As every call.
    pub async fn queries(&self, changes: &Arc<[Change]>) -> Result<Vec<String>, CallError> {
        let changes = Arc::clone(changes);
        call!(self, live, |warm, guest| {
            let (sides, denied) = (convert::sides(&changes), convert::denied_sides(&changes));
            let records = convert::changes(&changes, &sides);
            let records = convert::borrowed(&changes, &records, &denied);
            guest.call_queries(&mut warm.store, &records).await
        })
    }

    /// Which process gave these answers; none when they do not say.
    ///
    /// # Errors
    /// As every call.
    pub async fn process(&self, answers: &Arc<[String]>) -> Result<Option<String>, CallError> {
        let answers = Arc::clone(answers);
        call!(self, live, |warm, guest| {
            let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
            guest.call_process(&mut warm.store, &answers).await.map(Ok)
        })
    }

    /// Which process gave one answer for each query, and what to tell it. Two calls, which change threads once.
    pub async fn plan(&self, node: &Arc<Node>, changes: &Arc<[Change]>, answers: &Arc<[String]>) -> Planned {
        let (node, changes, answers) = (Arc::clone(node), Arc::clone(changes), Arc::clone(answers));
        let inner = Arc::clone(&self.inner);
        let called = self.runtime.spawn(async move {
            let asked = Arc::clone(&answers);
            let process = guest!(inner, live, |warm, guest| {
                let answers: Vec<&str> = asked.iter().map(String::as_str).collect();
                guest.call_process(&mut warm.store, &answers).await.map(Ok)
            });
            let plan = guest!(inner, live, |warm, guest| {
                let node_pairs = convert::pairs(&node.attributes);
                let (sides, denied) = (convert::sides(&changes), convert::denied_sides(&changes));
                let records = convert::changes(&changes, &sides);
                let records = convert::borrowed(&changes, &records, &denied);
                let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
                guest.call_plan(&mut warm.store, convert::node(&node, &node_pairs), &records, &answers).await
            });
            Planned { process: process.ok().flatten(), plan: plan.map(convert::live_plan_back) }
        });
        called.await.unwrap_or_else(|error| Planned { process: None, plan: Err(lost(&error)) })
    }
}

/// Most units that are given to a plugin at once. More would not make handing over cheaper, and a slow guest
/// holds up no more than this.
const BATCH_LIMIT: usize = 32;

/// Splits the work of a cold start into batches of which each of `parallel` gets several; a few changes stay single.
pub fn batches<T>(work: Vec<T>, parallel: usize) -> impl Iterator<Item = Vec<T>> {
    let size = (work.len() / (parallel * 4)).clamp(1, BATCH_LIMIT);
    let mut work = work.into_iter();
    std::iter::from_fn(move || Some(work.by_ref().take(size).collect::<Vec<T>>()).filter(|batch| !batch.is_empty()))
}
