//! An `HAProxy` that runs beside the agent, as a service manager would run it.

use std::path::{Path, PathBuf};

use anyhow::ensure;
use rustix::process::Signal;
use waypost_test_support::eventually;

use crate::host::Host;
use crate::process::{Process, find_program};
use crate::{CHANGE_TIMEOUT, START_TIMEOUT};

/// `HAProxy` in master-worker mode on a host.
pub struct Haproxy<'a> {
    host: &'a Host,
    configuration: String,
    pid_file: PathBuf,
    process: Process,
}

impl<'a> Haproxy<'a> {
    /// Starts it with the file `configuration` and waits until it has written its pid file.
    pub fn start(host: &'a Host, configuration: &str) -> Haproxy<'a> {
        assert!(find_program("haproxy", &[]).is_some(), "haproxy is missing: tests/run installs it");
        let pid_file = host.dir().join("haproxy.pid");
        let process = launch(host, configuration, &pid_file);
        Haproxy { host, configuration: configuration.to_owned(), pid_file, process }
    }

    /// Ends it and starts it again, which is not how a proxy that serves is to take changes up.
    pub fn restart(&mut self) {
        self.process.signal(Signal::TERM);
        self.process.wait(CHANGE_TIMEOUT);
        std::fs::remove_file(&self.pid_file).expect("its pid file");
        self.process = launch(self.host, &self.configuration, &self.pid_file);
    }

    /// The file with the process id of the master, as processes of its host see it.
    pub fn pid_file(&self) -> &Path {
        &self.pid_file
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn launch(host: &Host, configuration: &str, pid_file: &Path) -> Process {
    let mut command = host.command("haproxy");
    command.args(["-W", "-f", configuration, "-p"]).arg(pid_file);
    let process = host.spawn("haproxy", command);
    eventually(START_TIMEOUT, "HAProxy writes its pid file", || {
        let text = std::fs::read_to_string(pid_file)?;
        ensure!(!text.trim().is_empty(), "the pid file is empty");
        Ok(())
    });
    process
}
