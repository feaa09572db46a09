//! What an output serves, on disk, so that the next agent goes on from there: each service as it is in the files, and who
//! has which claim.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;
use tracing::warn;

use super::claims::Holders;
use super::linger::Linger;
use super::{Accepted, Output, Served};

mod record;
mod store;

use record::{Changes, Known};
use store::Store;

/// A thread that writes, and whether something could not be written.
#[derive(Debug)]
struct Saver {
    changes: Sender<Changes>,
    has_failed: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// A database of one output in the state directory.
#[derive(Debug)]
pub struct SavedState {
    path: PathBuf,
    /// None before [`SavedState::load`], and while the database cannot be opened.
    saver: Option<Saver>,
    /// What was given to the saver.
    services: Accepted,
    claims: Holders,
}

impl SavedState {
    /// The saved state of the output `name`.
    pub fn new(state_dir: &Path, name: &str) -> Self {
        let path = state_dir.join(format!("served-{}.redb", name.replace('/', "-")));
        SavedState { path, saver: None, services: Accepted::new(), claims: Holders::new() }
    }

    /// Gives the output what an earlier agent served; without it, the age of entries decides who has what.
    pub fn load(&mut self, output: &mut Output, linger: &mut Linger, now: u64) {
        let (store, record) = match Store::open(&self.path) {
            Ok(opened) => opened,
            Err(error) => {
                let error = format_args!("{error:#}");
                warn!(path = %self.path.display(), %error, "cannot use the saved state; a restart would forget claims");
                return;
            }
        };
        for known in record.services.values() {
            linger.restore(&known.served.service, known.departed, now);
        }
        self.services = record.services.into_iter().map(|(name, known)| (name, known.served)).collect();
        self.claims.clone_from(&record.claims);
        output.restore(record.claims, &self.services);
        self.saver = Some(Saver::start(store));
    }

    /// Has written down what is in the files now, and who has which claim.
    pub fn save(&mut self, written: &Accepted, output: &Output, linger: &Linger) {
        let is_all = match &self.saver {
            Some(saver) => saver.has_failed.swap(false, Ordering::AcqRel),
            None => {
                let Ok((store, _)) = Store::open(&self.path) else { return };
                self.saver = Some(Saver::start(store));
                true
            }
        };
        let mut changes = Changes { is_all, ..Changes::default() };
        if is_all {
            (self.services, self.claims) = (Accepted::new(), Holders::new());
        }
        let known =
            |name: &str, served: &Arc<Served>| Known { served: Arc::clone(served), departed: linger.departed(name) };
        changes.services = differing(&self.services, written, known);
        changes.claims = differing(&self.claims, output.claims(), |_, held| held.clone());
        (self.services, self.claims) = (written.clone(), output.claims().clone());
        let is_something = is_all || !changes.services.is_empty() || !changes.claims.is_empty();
        if let Some(saver) = self.saver.as_ref().filter(|_| is_something) {
            // The thread ends only after this sender.
            drop(saver.changes.send(changes));
        }
    }

    /// Waits until everything is on disk; blocks.
    pub fn close(mut self) {
        if let Some(Saver { changes, thread, .. }) = self.saver.take() {
            drop(changes);
            drop(thread.join());
        }
    }
}

/// What differs between two maps: the new value of each key, or none where the key is gone.
fn differing<T: PartialEq, U>(
    old: &OrdMap<Arc<str>, T>,
    new: &OrdMap<Arc<str>, T>,
    value: impl Fn(&str, &T) -> U,
) -> Vec<(Arc<str>, Option<U>)> {
    let one = |change: DiffItem<'_, '_, Arc<str>, T>| match change {
        DiffItem::Add(key, new) | DiffItem::Update { new: (key, new), .. } => (Arc::clone(key), Some(value(key, new))),
        DiffItem::Remove(key, _) => (Arc::clone(key), None),
    };
    old.diff(new).map(one).collect()
}

impl Saver {
    fn start(store: Store) -> Self {
        let (changes, received) = channel();
        let has_failed = Arc::new(AtomicBool::new(false));
        let failed = Arc::clone(&has_failed);
        let thread = std::thread::spawn(move || write(&store, &received, &failed));
        Saver { changes, has_failed, thread }
    }
}

/// Writes changes until there are no more.
fn write(store: &Store, received: &Receiver<Changes>, has_failed: &AtomicBool) {
    for changes in received {
        if let Err(error) = store.save(&changes) {
            has_failed.store(true, Ordering::Release);
            let error = format_args!("{error:#}");
            warn!(path = %store.path().display(), %error, "cannot save the state; a restart would forget claims");
        }
    }
}
