//! Which process is ours: a file that lets an agent find the proxy that an earlier one started.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::process::Process;

/// A supervised process and what tells it from any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// In the first line by itself, for people and scripts.
    #[serde(skip)]
    pub(super) pid: u32,
    /// Clock ticks from the start of the host.
    started: u64,
    /// Which start of the host that was.
    boot: String,
    /// The command as it was run.
    pub(super) command: Vec<String>,
}

impl Record {
    pub(super) fn of(process: Process, command: &[String]) -> Self {
        Record { pid: process.pid, started: process.started, boot: boot(), command: command.to_owned() }
    }

    /// The process, when it still lives.
    pub(super) fn process(&self) -> Option<Process> {
        Process::find(self.pid).filter(|process| process.started == self.started && self.boot == boot())
    }

    /// Whether what runs in the process group of this number can only be what the process left behind.
    pub(super) fn has_left(&self) -> bool {
        // The number is not given away while the group has members, so without its leader they are the old ones.
        self.boot == boot() && Process::find(self.pid).is_none()
    }

    /// Writes it, readable for the agent's user alone.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let draft = path.with_extension("pid.new");
        remove(&draft)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        writeln!(file, "{}\n{}", self.pid, serde_json::to_string(self)?)?;
        fs::rename(draft, path)
    }

    /// Reads it; none when there is none, or none that can be understood.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, rest) = text.split_once('\n')?;
        let record: Record = serde_json::from_str(rest).ok()?;
        Some(Record { pid: pid.trim().parse().ok()?, ..record })
    }
}

/// Removes the file of a record; there may be none.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_record_finds_its_process_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".waypost-proxy.pid");
        let own = Process::find(std::process::id()).unwrap();
        let record = Record::of(own, &["haproxy".to_owned(), "-Ws".to_owned()]);
        record.write(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().next().unwrap(), own.pid.to_string());
        let read = Record::read(&path).unwrap();
        assert_eq!((&read, read.process()), (&record, Some(own)));
        assert_eq!(Record { started: own.started + 1, ..record.clone() }.process(), None);
        assert_eq!(Record { boot: "another".to_owned(), ..record }.process(), None);
        fs::write(&path, "12\nnonsense").unwrap();
        assert_eq!(Record::read(&path), None);
    }
}
