//! A real Docker engine on a host.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use waypost_test_support::eventually;

use crate::bundle;
use crate::container::Container;
use crate::host::Host;
use crate::leftovers::control_group;
use crate::process::{Process, find_program, output};
use crate::{CHANGE_TIMEOUT, START_TIMEOUT, whoami};

/// A Docker engine with its own socket, data and networks.
pub struct Engine<'a> {
    host: &'a Host,
    server: Process,
    socket: PathBuf,
}

impl<'a> Engine<'a> {
    /// Starts an engine on `host`, with `whoami` as its only image.
    pub fn start(host: &'a Host) -> Engine<'a> {
        let engine = Engine { host, server: launch(host), socket: host.dir().join("docker.sock") };
        engine.answers();
        engine.image("whoami", &["CMD [\"/whoami\"]", "EXPOSE 8000"]);
        engine
    }

    /// What `docker.endpoint` in the agent's configuration has to be.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// The host it runs on.
    pub fn host(&self) -> &'a Host {
        self.host
    }

    /// Makes an image of the `whoami` program with Dockerfile instructions such as `EXPOSE 8000`.
    #[track_caller]
    pub fn image(&self, name: &str, instructions: &[&str]) {
        self.import(name, whoami::archive(), instructions);
    }

    /// Makes an image of a program of this machine, such as `haproxy`, and its libraries.
    #[track_caller]
    pub fn image_of(&self, name: &str, program: &str) {
        self.import(name, &bundle::archive(program, self.host.dir()), &[]);
    }

    #[track_caller]
    fn import(&self, name: &str, archive: &Path, instructions: &[&str]) {
        let mut arguments = vec!["import"];
        for instruction in instructions {
            arguments.extend(["--change", instruction]);
        }
        arguments.extend([archive.to_str().expect("a path in UTF-8"), name]);
        self.docker(&arguments);
    }

    /// Runs the `docker` command and returns what it printed, without the last line break.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        self.try_docker(arguments).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs the `docker` command; an error when it fails.
    pub fn try_docker(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("docker");
        command.arg("--host").arg(self.endpoint()).args(arguments).stdin(Stdio::null());
        Ok(output(command)?.trim_end().to_owned())
    }

    /// Starts a container: `arguments` are those of `docker run --detach`, from the options to the image.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Container<'_> {
        let id = self.docker(&[&["run", "--detach"], arguments].concat());
        Container::new(self, id)
    }

    /// Starts `count` containers of the image `whoami`, with their port published.
    #[track_caller]
    pub fn whoami(&self, count: usize) -> Vec<Container<'_>> {
        (0..count).map(|_| self.run(&["--publish", "8000", "whoami"])).collect()
    }

    /// Starts a stopped engine again; its containers ended with it.
    pub fn start_again(&mut self) {
        self.server = launch(self.host);
        self.answers();
    }

    /// Stops the engine as a service manager would; [`Engine::start_again`] brings it back.
    pub fn stop(&mut self) {
        self.server.signal(Signal::TERM);
        self.server.wait(START_TIMEOUT);
    }

    /// Freezes the engine, so that it takes connections and never answers.
    pub fn freeze(&self) {
        self.server.signal(Signal::STOP);
    }

    /// Lets a frozen engine go on.
    pub fn thaw(&self) {
        self.server.signal(Signal::CONT);
        eventually(CHANGE_TIMEOUT, "the engine goes on", || self.try_docker(&["version"]));
    }

    fn answers(&self) {
        eventually(START_TIMEOUT, "the engine answers", || self.try_docker(&["version"]));
    }
}

fn launch(host: &Host) -> Process {
    assert!(find_program("dockerd", &[]).is_some(), "dockerd is missing: tests/run installs it (Debian: docker.io)");
    let dir = host.dir();
    let mut command = host.command("dockerd");
    command.arg("--data-root").arg(dir.join("docker")).arg("--exec-root").arg(dir.join("exec"));
    command.arg("--pidfile").arg(dir.join("docker.pid"));
    command.arg("--host").arg(format!("unix://{}", dir.join("docker.sock").display()));
    command.args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", &control_group(dir)]);
    host.spawn("dockerd", command)
}
