//! An `HAProxy` that runs beside the agent, as a service manager would run it.

use std::path::PathBuf;

use anyhow::ensure;

use crate::START;
use crate::host::Host;
use crate::process::{Process, find_program};
use crate::wait::eventually;

/// `HAProxy` in master-worker mode on a host.
pub struct Haproxy {
    pid_file: PathBuf,
    process: Process,
}

impl Haproxy {
    /// Starts it with the file `configuration` and waits until it has written its pid file.
    pub fn start(host: &Host, configuration: &str) -> Haproxy {
        assert!(find_program("haproxy", &[]).is_some(), "haproxy is missing: tests/run installs it");
        let pid_file = host.dir().join("haproxy.pid");
        let mut command = host.command("haproxy");
        command.args(["-W", "-f", configuration, "-p"]).arg(&pid_file);
        let haproxy = Haproxy { process: host.spawn("haproxy", command), pid_file };
        eventually(START, "HAProxy writes its pid file", || {
            let text = std::fs::read_to_string(&haproxy.pid_file)?;
            ensure!(!text.trim().is_empty(), "the pid file is empty");
            Ok(())
        });
        haproxy
    }

    /// The file with the process id of the master, as processes of its host see it.
    pub fn pid_file(&self) -> &std::path::Path {
        &self.pid_file
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
