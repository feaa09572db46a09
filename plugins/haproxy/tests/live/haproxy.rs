//! A real HAProxy, from files as the agent writes them, and its stats socket.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use tempfile::TempDir;
use waypost_plugin_haproxy::{Settings, base, render};
use waypost_plugin_sdk::{Fragment, Node, Service, settings};
use waypost_test_support::{Program, free_port, haproxy};

/// The catalog, by name.
pub(crate) type Catalog = BTreeMap<String, Service>;

pub(crate) fn node() -> Node {
    waypost_plugin_sdk::sample::node()
}

/// A process, which ends with this value.
pub(crate) struct Haproxy {
    pub(crate) settings: Settings,
    /// Where it listens for http.
    pub(crate) http: String,
    /// What it says of its version; the truth when absent.
    pub(crate) version: Option<&'static str>,
    dir: TempDir,
    program: Option<Program>,
}

impl Haproxy {
    /// Starts from the files of `catalog`, listening on `host`; `more` are settings in JSON, each with a comma behind it.
    pub(crate) fn start(host: &str, more: &str, catalog: &Catalog) -> Haproxy {
        let dir = tempfile::tempdir().unwrap();
        let http = format!("{host}:{}", free_port());
        let socket = dir.path().join("haproxy.sock").display().to_string();
        let json = format!(
            r#"{{{more} "socket": "{socket}", "stats-bind": "off", "http-bind": "{http}", "tcp-bind": "{host}"}}"#
        );
        let settings = settings::parse(&json).unwrap();
        let mut haproxy = Haproxy { settings, http, version: None, dir, program: None };
        haproxy.restart(catalog);
        haproxy
    }

    /// The files, and a new process in place of the old one.
    pub(crate) fn restart(&mut self, catalog: &Catalog) {
        if self.program.take().is_some() {
            drop(fs::remove_file(self.socket()));
        }
        for (name, text) in compose(&self.settings, catalog).0 {
            fs::write(self.dir.path().join(name), text).unwrap();
        }
        let program = self.program.insert(haproxy(&["-db"], self.dir.path()));
        let socket = self.dir.path().join("haproxy.sock");
        program.until("it answers on its socket", || Ok(UnixStream::connect(&socket)?));
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("haproxy.sock")
    }

    /// One line on a connection of its own, as the agent sends it.
    pub(crate) fn ask(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        match self.version {
            // The answer to each command ends in an empty line.
            Some(version) if line.starts_with("show info; show version") => {
                let (info, rest) = answer.split_once("\n\n").unwrap();
                let (_, rest) = rest.split_once('\n').unwrap();
                format!("{info}\n\n{version}\n{rest}")
            }
            _ => answer,
        }
    }

    /// What decides on traffic, by service and server: address, port, weight, administrative state, state of its check.
    pub(crate) fn servers(&self, catalog: &Catalog) -> BTreeMap<(String, String), [String; 5]> {
        let standbys = self.map("standby.map");
        let mut servers = BTreeMap::new();
        for service in catalog.values() {
            let name = service.name.replace('/', "_");
            let section = standbys.get(&name).unwrap_or(&name);
            for row in self.ask(&format!("show servers state {section}")).lines().skip(2) {
                let cells: Vec<&str> = row.split(' ').collect();
                if cells.len() > 20 {
                    // A check that runs at this moment has one bit more.
                    let check = (cells[13].parse::<u32>().unwrap() & 6).to_string();
                    let facts = [cells[4], cells[18], cells[7], cells[6], &check].map(str::to_owned);
                    servers.insert((name.clone(), cells[3].to_owned()), facts);
                }
            }
        }
        servers
    }

    /// A map: key and value.
    pub(crate) fn map(&self, file: &str) -> BTreeMap<String, String> {
        let answer = self.ask(&format!("show map {file}"));
        let entry = |line: &str| {
            let mut words = line.split(' ').skip(1).map(str::to_owned);
            Some((words.next()?, words.next()?))
        };
        answer.lines().filter_map(entry).collect()
    }
}

/// The files, and the services that are in them: one that wants what another has is held back.
pub(crate) fn compose(settings: &Settings, catalog: &Catalog) -> (BTreeMap<String, String>, Catalog) {
    let mut fragments: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut accepted = Catalog::new();
    let keyed = |fragment: Fragment| ((fragment.path, fragment.key), fragment.text);
    fragments.extend(base(settings, &node()).unwrap().into_iter().map(keyed));
    for (name, service) in catalog {
        let Ok(own) = render(settings, &node(), service) else { continue };
        let own: Vec<_> = own.fragments.into_iter().map(keyed).collect();
        if own.iter().all(|(key, text)| fragments.get(key).is_none_or(|taken| taken == text)) {
            fragments.extend(own);
            accepted.insert(name.clone(), service.clone());
        }
    }
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for ((path, _), text) in fragments {
        files.entry(path).or_default().push_str(&text);
    }
    (files, accepted)
}
