//! One host: namespaces of its own, in which servers run.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::http::Connection;
use crate::leftovers;
use crate::process::{self, Process, find_program, only_child, output};

/// What the first process of a host does: set the host up, then reap what is orphaned.
const INIT: &str = "hostname \"$0\"; ip link set lo up; echo 1 >/proc/sys/net/ipv4/ip_forward; echo ready; \
                    sleep infinity & wait";

/// One host of a [`Network`](crate::Network). Everything that runs on it ends when it is dropped.
pub struct Host {
    name: String,
    address: Ipv4Addr,
    dir: PathBuf,
    unshare: Child,
    init: Pid,
}

impl Host {
    /// Starts a host whose files are in `dir`; the kernel ends it when the test's thread ends.
    pub(crate) fn start(name: &str, address: Ipv4Addr, dir: PathBuf) -> Host {
        assert!(rustix::process::getuid().is_root(), "the scenarios need root for namespaces: use tests/run");
        fs::create_dir_all(&dir).expect("a directory for the host");
        let mut unshare = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "--pid", "--mount", "--uts"])
            .args(["--fork", "--kill-child", "--mount-proc", "bash", "-c", INIT, name])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(dir.join("init.log")).expect("a log file"))
            .spawn()
            .expect("setpriv and unshare, of package util-linux");
        let mut said = String::new();
        BufReader::new(unshare.stdout.take().expect("a pipe")).read_line(&mut said).expect("a line");
        assert_eq!(said, "ready\n", "the host's first process did not start");
        let init = only_child(unshare.id());
        Host { name: name.to_owned(), address, dir, unshare, init }
    }

    /// Its host name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address, at which the other hosts of its lab reach it.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The process id of its first process, as the test sees it.
    pub(crate) fn init(&self) -> i32 {
        self.init.as_raw_nonzero().get()
    }

    /// Its network, for a thread to enter.
    pub(crate) fn network(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.init())).expect("the host's network")
    }

    /// A command that will run on this host.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let program = program.as_ref();
        let found = program.to_str().and_then(|name| find_program(name, &[]));
        let mut command = Command::new("nsenter");
        let target = self.init().to_string();
        command.args(["--target", &target, "--net", "--pid", "--mount", "--uts", "--"]);
        command.arg(found.as_deref().unwrap_or(program));
        command
    }

    /// Runs a command on this host to its end and returns its standard output.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.try_run(program, arguments).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Runs a command on this host; an error when it fails.
    pub fn try_run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command(program);
        command.args(arguments);
        output(command)
    }

    /// Runs `ip` in this host's network, seeing the process ids that the test sees.
    pub(crate) fn ip(&self, arguments: &[&str]) {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init().to_string(), "--net", "--", "ip"]).args(arguments);
        output(command).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Starts a server on this host; its output goes to `<name>.log` in the host's directory.
    pub fn spawn(&self, name: &str, command: Command) -> Process {
        Process::start(name, command, &self.dir)
    }

    /// What the server `name` has written so far.
    pub(crate) fn log(&self, name: &str) -> String {
        process::log(&self.dir, name)
    }

    /// Opens a connection from this host, as a client on it would.
    pub fn connect(&self, port: u16) -> anyhow::Result<Connection> {
        self.connect_to(self.address, port)
    }

    /// Opens a connection from this host to any address.
    pub fn connect_to(&self, address: impl Into<std::net::IpAddr>, port: u16) -> anyhow::Result<Connection> {
        let address = SocketAddr::new(address.into(), port);
        let network = self.network();
        // A thread of its own, because a socket belongs to the network that its thread was in.
        let stream = std::thread::scope(|scope| {
            let thread = scope.spawn(move || -> anyhow::Result<TcpStream> {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
                Ok(TcpStream::connect_timeout(&address, Duration::from_secs(5))?)
            });
            thread.join().expect("the connecting thread")
        })?;
        Connection::new(stream, address)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            leftovers::print_logs(&self.name, &self.dir);
        }
        // With its first process the kernel ends all the others, and the wait returns when they are gone.
        kill_process(self.init, Signal::KILL).ok();
        self.unshare.wait().ok();
        leftovers::remove_control_groups(&leftovers::control_group(&self.dir));
        if !leftovers::kept() {
            fs::remove_dir_all(&self.dir).ok();
        }
    }
}
