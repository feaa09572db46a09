//! What a running `HAProxy` has, in a form that can be compared.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use waypost_test_support::{Program, haproxy};

use super::test_proxy::TestProxy;

/// Servers by service and name: address, port and weight, also of those that live in a standby backend; what is in
/// maintenance is left out.
pub type Servers = BTreeMap<String, BTreeMap<String, (String, String, String)>>;
/// Backends by route.
pub type Routes = BTreeMap<String, String>;

/// The answer to one line.
pub fn say(socket: &Path, line: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Everything at once; none when nobody answers.
pub fn state(socket: &Path) -> Option<(Servers, Routes)> {
    let (routes, standbys) = (map(socket, "routes.map")?, map(socket, "standby.map")?);
    let mut servers = Servers::new();
    for line in say(socket, "show servers state").ok()?.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        // be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight ... srv_port (18)
        if fields.len() < 20 || fields[0].parse::<u32>().is_err() {
            continue;
        }
        let is_in_maintenance = fields[6].parse::<u32>().unwrap() & 0x23 != 0;
        if !is_in_maintenance {
            let server = (fields[4].to_owned(), fields[18].to_owned(), fields[7].to_owned());
            let lives_here =
                standbys.iter().find(|(_, standby)| *standby == fields[1]).map(|(service, _)| service.as_str());
            let service = lives_here.unwrap_or(fields[1]).to_owned();
            servers.entry(service).or_default().insert(fields[3].to_owned(), server);
        }
    }
    Some((servers, routes))
}

fn map(socket: &Path, name: &str) -> Option<BTreeMap<String, String>> {
    let mut entries = BTreeMap::new();
    for line in say(socket, &format!("show map {name}")).ok()?.lines() {
        if let [_, key, value] = line.split(' ').collect::<Vec<_>>()[..] {
            entries.insert(key.to_owned(), value.to_owned());
        }
    }
    Some(entries)
}

/// A `HAProxy` of its own, started from the files of a site.
pub struct Fresh {
    files: BTreeMap<String, String>,
    dir: tempfile::TempDir,
    _program: Program,
}

/// Text by name.
fn files(site: &TestProxy) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(site.path("out")).unwrap().map(|entry| entry.unwrap());
    let names = entries.map(|entry| entry.file_name().into_string().unwrap()).filter(|name| !name.starts_with('.'));
    names.map(|name| (name.clone(), std::fs::read_to_string(site.path("out").join(name)).unwrap_or_default())).collect()
}

impl Fresh {
    pub fn start(site: &TestProxy) -> Self {
        let (dir, files) = (tempfile::tempdir().unwrap(), files(site));
        let socket = dir.path().join("haproxy.sock");
        for (name, text) in &files {
            let text = text.replace(site.path("haproxy.sock").to_str().unwrap(), socket.to_str().unwrap());
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let program = haproxy(&["-db"], dir.path());
        Fresh { files, dir, _program: program }
    }

    /// Whether the site's files are still those it was started from.
    pub fn is_of(&self, site: &TestProxy) -> bool {
        self.files == files(site)
    }

    /// What it has; none before it answers.
    pub fn state(&self) -> Option<(Servers, Routes)> {
        state(&self.dir.path().join("haproxy.sock"))
    }
}
