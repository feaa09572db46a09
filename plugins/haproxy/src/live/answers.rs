//! Parses HAProxy's answers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use waypost_plugin_sdk::show;

use super::ask::{self, Ask};
use super::traffic::Traffic;

/// The state of the running process, as far as its answers tell.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// Major and minor version; 0.0 for one that does not know the query.
    pub(super) version: (u32, u32),
    /// Service's section to standby backend; none without such a map.
    pub(super) assigned: Option<BTreeMap<String, String>>,
    sections: BTreeMap<String, Servers>,
    traffic: BTreeMap<String, Traffic>,
    routes: BTreeMap<String, String>,
    /// Whether the process has the map of routes.
    pub(super) has_routes: bool,
}

/// Servers of a section, by name.
pub(super) type Servers = BTreeMap<String, ServerState>;

/// The state of a server in the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerState {
    /// None while a host name is not known.
    pub(super) address: Option<IpAddr>,
    /// The host name it was configured with.
    pub(super) host: Option<String>,
    pub(super) port: u16,
    /// Administrative states, `SRV_ADMF_*` of HAProxy.
    pub(super) admin: u32,
    pub(super) weight: u16,
    /// States of its check, `CHK_ST_*` of HAProxy.
    pub(super) check: u32,
    /// Whether connections to it are in use.
    pub(super) is_used: bool,
    /// Whether connections are open to it, in use or idle.
    pub(super) busy: bool,
}

impl ServerState {
    /// Returns whether the server is in maintenance: it has no new connections and no checks.
    pub(super) fn is_out(&self) -> bool {
        self.admin & FORCED_MAINTENANCE != 0
    }

    /// Returns whether somebody put the server into maintenance or drain mode.
    pub(super) fn is_forced(&self) -> bool {
        self.admin & (FORCED_MAINTENANCE | FORCED_DRAIN) != 0
    }

    pub(super) fn has_check(&self) -> bool {
        self.check & CHECK_CONFIGURED != 0
    }

    pub(super) fn is_checked(&self) -> bool {
        self.check & CHECK_ENABLED != 0
    }
}

const FORCED_MAINTENANCE: u32 = 0x01;
const FORCED_DRAIN: u32 = 0x08;
const CHECK_CONFIGURED: u32 = 0x02;
const CHECK_ENABLED: u32 = 0x04;

/// Identifies the process that gave these answers by its id and, where HAProxy says so, its start: a container's processes
/// have the same ids after each restart.
pub(super) fn process(answers: &[String]) -> Option<String> {
    let info = split(answers.first()?).into_iter().next()?;
    let number = process_number(info).ok()?;
    let started = info.lines().find_map(|line| line.strip_prefix("Start_time_sec: "));
    Some(started.map_or_else(|| number.to_string(), |started| format!("{number} started {}", started.trim())))
}

impl Process {
    /// Parses the answers to `asks`, one for each line.
    ///
    /// # Errors
    /// Shows the text that is no answer of HAProxy's.
    pub(super) fn read(asks: &[Ask], answers: &[String]) -> Result<Self, String> {
        let lines = ask::lines(asks);
        if lines.len() != answers.len() {
            return Err(format!("{} answers to {} queries", answers.len(), lines.len()));
        }
        let mut process = Process { has_routes: true, ..Process::default() };
        let mut number = None;
        for (asks, answer) in lines.into_iter().zip(answers) {
            let mut texts = split(answer);
            if !texts.is_empty() {
                let found = process_number(texts.remove(0))?;
                if *number.get_or_insert(found) != found {
                    return Err("two HAProxy processes answered, as while one takes over: ask again".to_owned());
                }
            }
            if texts.len() != asks.len() {
                let (found, expected) = (texts.len(), asks.len());
                return Err(format!("HAProxy answered {found} of {expected} queries, at last {}", show(last(answer))));
            }
            for (ask, text) in asks.iter().zip(texts) {
                process.take(ask, text).map_err(|found| format!("HAProxy answered {} to {ask:?}", show(&found)))?;
            }
        }
        Ok(process)
    }

    /// Parses one answer. The error is the text found.
    fn take(&mut self, ask: &Ask, text: &str) -> Result<(), String> {
        match ask {
            Ask::Version => self.version = version(text),
            Ask::Standbys => self.assigned = if is_unknown_map(text) { None } else { Some(standbys(text)?) },
            Ask::Servers(section) => {
                if !is_missing(text) {
                    self.sections.insert(section.clone(), servers(section, text)?);
                }
            }
            Ask::Connections(section) => {
                if let Some(servers) = self.sections.get_mut(section) {
                    connections(servers, text)?;
                }
            }
            Ask::Traffic(section, _) => {
                if let Some(traffic) = Traffic::read(section, text)? {
                    self.traffic.insert(section.clone(), traffic);
                }
            }
            Ask::Route(_) if is_unknown_map(text) => self.has_routes = false,
            Ask::Route(key) => {
                if let Some(value) = route(key, text)? {
                    self.routes.insert(key.clone(), value);
                }
            }
        }
        Ok(())
    }

    /// Returns the servers of a section; `None` when there is no such section.
    pub(super) fn section(&self, name: &str) -> Option<&Servers> {
        self.sections.get(name)
    }

    /// Returns the traffic of a section; `None` when there is no such section, or when no query asked for it.
    pub(super) fn traffic(&self, name: &str) -> Option<&Traffic> {
        self.traffic.get(name)
    }

    /// Returns whether a section certainly has no request, so that no request to one service meets the servers of the next.
    pub(super) fn is_empty(&self, name: &str) -> bool {
        self.traffic(name).is_some_and(|traffic| traffic.sessions == 0)
            && self.section(name).is_some_and(|servers| servers.values().all(|server| server.is_out() && !server.busy))
    }

    /// Returns the value of a key of the map.
    pub(super) fn route(&self, key: &str) -> Option<&str> {
        self.routes.get(key).map(String::as_str)
    }

    /// Returns the standby backend of a service.
    pub(super) fn assigned_standby(&self, name: &str) -> Option<&str> {
        self.assigned.as_ref()?.get(name).map(String::as_str)
    }
}

/// Splits an answer into the answers to each query, which end in an empty line.
fn split(answer: &str) -> Vec<&str> {
    let mut texts = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in answer.split_inclusive('\n') {
        if line == "\n" {
            texts.push(&answer[start..at]);
            start = at + line.len();
        }
        at += line.len();
    }
    texts
}

fn last(answer: &str) -> &str {
    answer.lines().rfind(|line| !line.is_empty()).unwrap_or_default()
}

fn is_missing(text: &str) -> bool {
    text.starts_with("Can't find backend")
}

fn is_unknown_map(text: &str) -> bool {
    text.starts_with("Unknown map")
}

/// Parses `Pid: 1234`.
fn process_number(text: &str) -> Result<u32, String> {
    let number = text.lines().find_map(|line| line.strip_prefix("Pid: ")?.trim().parse().ok());
    number.ok_or_else(|| format!("HAProxy answered {} to {}", show(last(text)), ask::PROCESS))
}

fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    }
}

/// Parses lines such as `0x55bde7575480 shop waypost-standby-1`; the first of equal keys counts.
fn standbys(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut assigned = BTreeMap::new();
    for line in text.lines() {
        let [_, service, standby] = line.split(' ').collect::<Vec<_>>()[..] else { return Err(line.to_owned()) };
        assigned.entry(service.to_owned()).or_insert_with(|| standby.to_owned());
    }
    Ok(assigned)
}

/// Parses `type=beg, …, found=yes, idx=tree, key="shop.example/", value="shop", …`: one line for each match type that the
/// configuration uses for the map. With `beg`, HAProxy shows the longest key that is a prefix of the one asked for.
fn route(key: &str, text: &str) -> Result<Option<String>, String> {
    let mut value = Err(text.to_owned());
    for line in text.lines() {
        let field = |name: &str| line.split_once(name)?.1.split_once('"').map(|(value, _)| value);
        match (field("key=\""), field("value=\"")) {
            (Some(found), Some(there)) if found == key => return Ok(Some(there.to_owned())),
            (Some(_), Some(_)) => value = Ok(None),
            (None, None) if line.contains("found=no") => value = Ok(None),
            _ => return Err(line.to_owned()),
        }
    }
    value
}

/// Parses the table of `show servers state`.
fn servers(section: &str, text: &str) -> Result<Servers, String> {
    let (columns, rows) = table(text, ["be_name", "srv_name", "srv_addr", "srv_port", "srv_fqdn"])?;
    let (more, _) = table(text, ["srv_admin_state", "srv_uweight", "srv_check_state", "srv_name", "be_name"])?;
    let mut servers = Servers::new();
    for row in rows {
        let cells: Vec<&str> = row.split(' ').collect();
        let odd = || row.to_owned();
        let cell = |column: usize| cells.get(column).copied().ok_or_else(odd);
        let number = |column| cell(column)?.parse::<u32>().map_err(|_| odd());
        let narrow = |column| u16::try_from(number(column)?).map_err(|_| odd());
        let [backend, name, address, port, host] = columns;
        if cell(backend)? != section {
            return Err(odd());
        }
        let running = ServerState {
            address: cell(address)?.parse().ok(),
            host: Some(cell(host)?).filter(|host| *host != "-").map(str::to_owned),
            port: narrow(port)?,
            admin: number(more[0])?,
            weight: narrow(more[1])?,
            check: number(more[2])?,
            is_used: false,
            busy: false,
        };
        servers.insert(cell(name)?.to_owned(), running);
    }
    Ok(servers)
}

fn connections(servers: &mut Servers, text: &str) -> Result<(), String> {
    let ([name, used, idle], rows) = table(text, ["bkname/svname", "used_cur", "idle_cur"])?;
    for row in rows {
        let cells: Vec<&str> = row.split(' ').collect();
        let (Some(name), Some(used), Some(idle)) = (cells.get(name), cells.get(used), cells.get(idle)) else {
            return Err(row.to_owned());
        };
        let server = name.split_once('/').and_then(|(_, server)| servers.get_mut(server));
        if let Some(server) = server {
            server.is_used = *used != "0";
            server.busy = server.is_used || *idle != "0";
        }
    }
    Ok(())
}

/// Returns the positions of the named columns, and the rows below the header, which begins with `# `.
fn table<'a, const N: usize>(
    text: &'a str,
    names: [&str; N],
) -> Result<([usize; N], impl Iterator<Item = &'a str> + use<'a, N>), String> {
    let mut lines = text.lines();
    let header = lines.find_map(|line| line.strip_prefix("# ")).ok_or_else(|| text.to_owned())?;
    let mut places = [0; N];
    for (place, name) in places.iter_mut().zip(names) {
        *place = header.split(' ').position(|column| column == name).ok_or_else(|| header.to_owned())?;
    }
    Ok((places, lines))
}
