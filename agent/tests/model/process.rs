//! A simulated `HAProxy`: what it makes of files, and what it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

/// Files by path.
pub(crate) type FileSet = BTreeMap<String, Arc<str>>;

/// A server as it runs.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) address: String,
    pub(crate) port: u16,
    /// 1 is maintenance.
    pub(crate) admin: u32,
    pub(crate) weight: u16,
    /// 2 is a check that is configured, 4 one that is enabled.
    pub(crate) check: u32,
    /// A connection is open until then.
    pub(crate) busy: Option<Instant>,
}

impl Server {
    /// A server of the file, or one that is added: in maintenance.
    pub(crate) fn new(address: &str, words: &[&str], is_added: bool) -> Option<(Self, bool)> {
        let (host, port) = address.rsplit_once(':')?;
        let at = words.iter().position(|word| *word == "weight");
        let weight = at.and_then(|at| words.get(at + 1)?.parse().ok()).unwrap_or(1);
        let is_checked = words.contains(&"check");
        let check = match (is_checked, is_added) {
            (true, true) => 2,
            (true, false) => 6,
            (false, _) => 0,
        };
        let port = port.parse().ok()?;
        let server = Server { address: host.to_owned(), port, admin: u32::from(is_added), weight, check, busy: None };
        Some((server, is_checked))
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.is_some_and(|until| until > Instant::now())
    }
}

/// A `listen`, `frontend` or `backend`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    pub(crate) kind: String,
    pub(crate) binds: Vec<u16>,
    pub(crate) servers: BTreeMap<String, Server>,
    /// Its other lines.
    pub(crate) body: String,
    /// A request is in it until then, without a server.
    pub(crate) open: Option<Instant>,
}

impl Section {
    /// Whether somebody is in it.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some_and(|until| until > Instant::now()) || self.servers.values().any(Server::is_busy)
    }
}

/// A process with what it loaded and was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// `global` and `defaults`.
    pub(crate) base: String,
    pub(crate) sections: BTreeMap<String, Section>,
    /// The first of equal keys counts.
    pub(crate) routes: Vec<(String, String)>,
    pub(crate) standbys: Option<Vec<(String, String)>>,
}

/// Names of sections that no service has.
const OWN: [&str; 2] = ["http-in", "waypost-stats"];

impl Process {
    /// What a process makes of files; the error is the line that it does not take, and why.
    pub(crate) fn load(files: &FileSet) -> Result<Self, (usize, String)> {
        let mut process = Process::default();
        let mut name = String::new();
        let mut ports = BTreeSet::new();
        let text = files.get("haproxy.cfg").ok_or((0, "there is no haproxy.cfg".to_owned()))?;
        for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !line.starts_with(' ') {
                let words: Vec<&str> = line.split(' ').collect();
                words.get(1).copied().unwrap_or(words[0]).clone_into(&mut name);
                if matches!(words[0], "global" | "defaults") {
                    name.clear();
                    process.base += &format!("{line}\n");
                    continue;
                }
                let section = Section { kind: words[0].to_owned(), ..Section::default() };
                if process.sections.insert(name.clone(), section).is_some() {
                    return Err((number, format!("two sections are named {name}")));
                }
                continue;
            }
            let Some(section) = process.sections.get_mut(&name) else {
                process.base.push_str(line);
                process.base.push('\n');
                continue;
            };
            let words = line.trim_start();
            if !words.starts_with("bind ") && !words.starts_with("server ") {
                section.body.push_str(line);
                section.body.push('\n');
                continue;
            }
            let words: Vec<&str> = words.split(' ').collect();
            match words[..] {
                ["bind", addresses, ..] => {
                    for port in addresses.split(',').filter_map(|one| one.rsplit_once(':')?.1.parse::<u16>().ok()) {
                        if !ports.insert(port) {
                            return Err((number, format!("port {port} is bound twice")));
                        }
                        section.binds.push(port);
                    }
                }
                ["server", id, address, ref words @ ..] => {
                    let server = Server::new(address, words, false).ok_or((number, line.to_owned()))?.0;
                    section.servers.insert(id.to_owned(), server);
                }
                _ => return Err((number, line.to_owned())),
            }
        }
        let map = |path: &str| {
            let text = files.get(path)?;
            let pair = |line: &str| line.split_once(' ').map(|(key, value)| (key.to_owned(), value.to_owned()));
            Some(text.lines().filter(|line| !line.starts_with('#')).filter_map(pair).collect::<Vec<_>>())
        };
        process.routes = map("routes.map").unwrap_or_default();
        process.standbys = map("standby.map");
        Ok(process)
    }

    /// The ports that it listens on.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        self.sections.values().flat_map(|section| section.binds.iter().copied()).collect()
    }

    /// The section that a service's name leads to.
    pub(crate) fn home<'a>(&'a self, name: &'a str) -> &'a str {
        let standbys = self.standbys.iter().flatten();
        standbys.into_iter().find(|(service, _)| service == name).map_or(name, |(_, standby)| standby)
    }

    /// What it does for clients.
    pub(crate) fn view(&self) -> View {
        let mut view = View::default();
        for (key, name) in &self.routes {
            let servers = self.live(self.home(name));
            view.routes.entry(key.clone()).or_insert_with(|| (name.clone(), servers));
        }
        for (name, section) in self.sections.iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
            let live = self.live(name);
            for port in &section.binds {
                view.ports.insert(*port, (name.clone(), live.clone()));
            }
            let owner = self.standbys.iter().flatten().find(|(_, standby)| standby == name);
            if !live.is_empty() {
                view.live.insert(owner.map_or(name, |(service, _)| service).clone(), live);
            }
        }
        view
    }

    fn live(&self, section: &str) -> BTreeSet<String> {
        let servers = self.sections.get(section).into_iter().flat_map(|section| &section.servers);
        let live = servers.filter(|(_, server)| server.admin == 0);
        live.map(|(id, server)| format!("{id} {}:{} weight {}", server.address, server.port, server.weight)).collect()
    }

    /// What only a reload can change: what no service wrote, and who listens where.
    pub(crate) fn structure(&self) -> String {
        let mut text = self.base.clone();
        for (name, section) in &self.sections {
            if OWN.contains(&name.as_str()) || !section.binds.is_empty() || name.starts_with("waypost-standby-") {
                text += &format!("{} {name} {:?}\n{}", section.kind, section.binds, section.body);
            }
        }
        text
    }
}

/// What a process does for clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// Key of the map to the name that it leads to, and the servers there.
    pub(crate) routes: BTreeMap<String, (String, BTreeSet<String>)>,
    /// Port to the section that listens there, and its servers.
    pub(crate) ports: BTreeMap<u16, (String, BTreeSet<String>)>,
    /// All servers that may be sent requests, by the section that they stand for.
    pub(crate) live: BTreeMap<String, BTreeSet<String>>,
}

impl View {
    /// Without what is known not to be brought over the socket: keys that say of a domain that it is known.
    pub(crate) fn without_markers(mut self) -> Self {
        self.routes.retain(|_, (name, _)| name != ".");
        self
    }
}
