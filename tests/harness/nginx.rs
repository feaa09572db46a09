//! An nginx that runs beside the agent, as a service manager would run it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::ensure;
use rustix::process::Signal;

use crate::fleet::Fleet;
use crate::host::Host;
use crate::process::{Process, find_program};
use crate::wait::eventually;
use crate::{SOON, START};

/// nginx with its master process on a host.
pub struct Nginx {
    file: PathBuf,
    process: Process,
}

impl Nginx {
    /// Starts it with a hand-written file that serves `fleet` on port 81, and waits until it has workers.
    pub fn start(host: &Host, fleet: &Fleet) -> Nginx {
        assert!(find_program("nginx", &[]).is_some(), "nginx is missing: tests/run installs it (Debian: nginx-light)");
        let file = host.dir().join("nginx.conf");
        std::fs::write(&file, written(host, fleet)).expect("a file for nginx");
        let mut command = host.command("nginx");
        command.args(["-g", "daemon off;", "-c"]).arg(&file);
        let nginx = Nginx { file, process: host.spawn("nginx", command) };
        eventually(START, "nginx has workers", || {
            ensure!(!nginx.workers()?.is_empty());
            Ok(())
        });
        nginx
    }

    /// Writes what `fleet` has now, tells nginx, and waits for its new workers.
    pub fn reload(&self, host: &Host, fleet: &Fleet) {
        std::fs::write(&self.file, written(host, fleet)).expect("a file for nginx");
        let before = self.workers().expect("its workers");
        self.process.signal(Signal::HUP);
        eventually(SOON, "nginx has new workers", || {
            let now = self.workers()?;
            ensure!(!now.is_subset(&before), "{now:?}; {}", self.process.log());
            Ok(())
        });
    }

    /// What its file says.
    pub fn file(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap_or_default()
    }

    /// The process ids of its workers, old ones included.
    fn workers(&self) -> anyhow::Result<BTreeSet<u32>> {
        let id = self.process.id();
        let listed = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        Ok(listed.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
    }
}

fn written(host: &Host, fleet: &Fleet) -> String {
    let dir = host.dir().display();
    let mut text = format!("user root;\nworker_processes 2;\npid {dir}/nginx.pid;\nerror_log stderr;\n");
    text.push_str("events {}\nhttp {\n  access_log off;\n");
    for place in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        _ = writeln!(text, "  {place}_temp_path {dir}/nginx-{place};");
    }
    for (service, addresses) in fleet.addresses() {
        _ = writeln!(text, "  upstream {service} {{ server {}; }}", addresses.join("; server "));
        _ = writeln!(
            text,
            "  server {{ listen 81; server_name {service}.example; location / {{ proxy_pass http://{service}; }} }}"
        );
    }
    text + "}\n"
}
