//! Programs that end with their test.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context as _;
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tempfile::NamedTempFile;

use crate::wait::{DEADLINE, attempt, eventually};

/// A program that a test started; it ends with this value. When the test fails, what it has written is printed.
pub struct Program {
    name: String,
    child: Child,
    output: NamedTempFile,
    end: Signal,
}

impl Program {
    /// Starts it; `install` says what to do when it is not there.
    #[track_caller]
    pub fn start(mut command: Command, install: &str) -> Program {
        let name = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let output = NamedTempFile::new().expect("a file for its output");
        // Both ends append, so that neither writes over what the other has written.
        let append = || File::options().append(true).open(output.path());
        let (out, errors) = (append().expect("its output"), append().expect("its output"));
        let started = command.stdin(Stdio::null()).stdout(out).stderr(errors).spawn();
        let child = started.unwrap_or_else(|error| panic!("cannot start {name}: {error}; {install}"));
        Program { name, child, output, end: Signal::KILL }
    }

    /// The signal that ends it, instead of `KILL`: a program that has children of its own ends them first.
    #[must_use]
    pub fn ended_by(mut self, end: Signal) -> Program {
        self.end = end;
        self
    }

    /// Waits until `probe` succeeds; panics when the program has ended before.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, mut probe: impl FnMut() -> anyhow::Result<T>) -> T {
        eventually(DEADLINE, what, || {
            let seen = probe();
            let ended = self.child.try_wait()?;
            assert!(ended.is_none(), "{} has ended ({ended:?}) before {what}", self.name);
            seen
        })
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// Waits until it has ended and says how.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        eventually(DEADLINE, &format!("{} ends", self.name), || self.child.try_wait()?.context("it runs"))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.output.path()).unwrap_or_default()).into_owned()
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        if let Some(ended) = self.child.try_wait()? {
            return Ok(ended);
        }
        if self.end != Signal::KILL && kill_process(Pid::from_child(&self.child), self.end).is_ok() {
            attempt(DEADLINE, || self.child.try_wait()?.context("it runs")).ok();
        }
        self.child.kill()?;
        self.child.wait()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let before = self.child.try_wait();
        self.end().ok();
        if std::thread::panicking() {
            eprintln!("---- {}: {before:?}\n{}", self.name, self.output());
        }
    }
}

/// Starts `HAProxy` with more arguments on the file `haproxy.cfg` of a directory.
#[track_caller]
pub fn haproxy(arguments: &[&str], dir: &Path) -> Program {
    let mut command = Command::new("haproxy");
    command.args(arguments).arg("-f").arg(dir.join("haproxy.cfg"));
    Program::start(command, "install HAProxy 2.6 or later (apt-get install haproxy)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holds;

    fn shell(text: &str) -> Program {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        Program::start(command, "install a shell")
    }

    fn lives(pid: u32) -> bool {
        Path::new("/proc").join(pid.to_string()).exists()
    }

    #[test]
    fn it_ends_with_its_value_and_its_output_is_kept() {
        let mut program = shell("echo out; echo err >&2; exec tail -f /dev/null");
        let output = program.output.path().to_owned();
        program.until("it writes", || {
            let text = std::fs::read_to_string(&output)?;
            holds(text == "out\nerr\n", text)
        });
        assert_eq!(program.output(), "out\nerr\n");
        let id = program.id();
        drop(program);
        assert!(!lives(id) && !output.exists());
    }

    #[test]
    fn it_ends_in_the_way_it_wants() {
        let said = tempfile::tempdir().unwrap().keep();
        let (ready, done) = (said.join("ready"), said.join("done"));
        let text =
            format!("trap 'touch {}; exit 3' TERM; touch {}; while :; do :; done", done.display(), ready.display());
        let mut program = shell(&text).ended_by(Signal::TERM);
        program.until("it runs", || holds(ready.exists(), &ready));
        drop(program);
        assert!(done.exists());
        std::fs::remove_dir_all(said).unwrap();
    }

    #[test]
    fn a_program_that_ends_too_early_is_told() {
        let failed = std::panic::catch_unwind(|| shell("exit 3").until("it listens", || holds(false, "nothing")));
        let said = failed.unwrap_err().downcast_ref::<String>().unwrap().clone();
        assert!(said.contains("sh has ended") && said.contains("before it listens"), "{said}");
        assert_eq!(shell("exit 3").wait().code(), Some(3));
    }
}
