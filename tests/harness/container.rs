//! A container that a scenario started.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context;

use crate::engine::Engine;

/// A container of an [`Engine`]; it stays until its host is dropped.
pub struct Container<'a> {
    engine: &'a Engine<'a>,
    id: String,
    /// The published port of each container port, remembered because a stopped container has none.
    ports: Mutex<Vec<(String, u16)>>,
}

impl<'a> Container<'a> {
    pub(crate) fn new(engine: &'a Engine<'a>, id: String) -> Container<'a> {
        Container { engine, id, ports: Mutex::default() }
    }

    /// Its full id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The first twelve digits of its id, which are its host name and the end of its keys.
    pub fn short_id(&self) -> &str {
        &self.id[..12]
    }

    /// What `whoami` in it answers.
    pub fn greeting(&self) -> String {
        format!("I'm {}", self.short_id())
    }

    /// The host's IPv4 port that a container port such as `8000` or `53/udp` is published on.
    #[track_caller]
    pub fn published(&self, port: &str) -> u16 {
        if let Some((_, known)) = self.known().iter().find(|(name, _)| name == port) {
            return *known;
        }
        let listed = self.engine.docker(&["port", &self.id, port]);
        let line =
            listed.lines().find(|line| !line.starts_with('[')).context("no IPv4 port").expect("a published port");
        let found = line.rsplit(':').next().and_then(|text| text.parse().ok()).expect("a port number");
        self.known().push((port.to_owned(), found));
        found
    }

    /// `<host's address>:<published port>`, as the registry has it.
    #[track_caller]
    pub fn published_address(&self, port: &str) -> String {
        format!("{}:{}", self.engine.host().address(), self.published(port))
    }

    /// Runs `docker <action> <id>`, for instance `stop`, `kill`, `restart`, `pause`, `unpause`, `start`.
    #[track_caller]
    pub fn act(&self, action: &str) {
        self.engine.docker(&[action, &self.id]);
        self.known().clear();
    }

    fn known(&self) -> MutexGuard<'_, Vec<(String, u16)>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills it without any notice to the processes in it.
    #[track_caller]
    pub fn kill(&self) {
        self.act("kill");
    }
}
