//! A record of what happens in etcd.

use std::cell::Cell;

use anyhow::ensure;
use waypost_test_support::eventually;

use crate::CHANGE_TIMEOUT;
use crate::etcd::Etcd;
use crate::host::Host;
use crate::process::Process;

/// Records the changes below a prefix with `etcdctl watch`.
pub struct Watch<'a> {
    etcd: &'a Etcd<'a>,
    prefix: String,
    marks: Cell<u32>,
    process: Process,
}

impl<'a> Watch<'a> {
    pub(crate) fn start(etcd: &'a Etcd<'a>, host: &Host, prefix: &str, revision: i64) -> Watch<'a> {
        let mut command = host.command("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &etcd.url(), "watch", "--prefix", prefix]);
        command.args(["--rev", &revision.to_string()]);
        let name = format!("watch-{revision}");
        Watch { etcd, prefix: prefix.to_owned(), marks: Cell::new(0), process: host.spawn(&name, command) }
    }

    /// The keys that were deleted or expired up to now.
    #[track_caller]
    pub fn deleted(&self) -> Vec<String> {
        self.keys_after("DELETE")
    }

    /// The keys that were written up to now, once for each time.
    #[track_caller]
    pub fn written(&self) -> Vec<String> {
        self.keys_after("PUT")
    }

    /// `etcdctl` writes the kind of change, then the key, then the value, each on a line.
    fn keys_after(&self, kind: &str) -> Vec<String> {
        self.catch_up();
        let log = self.process.log();
        let lines: Vec<_> = log.lines().collect();
        let keys = lines.windows(2).filter(|pair| pair[0] == kind).map(|pair| pair[1].to_owned());
        keys.filter(|key| !key.contains("watch-mark-")).collect()
    }

    /// Waits until a mark that is written now has arrived, and all that came before it with it.
    fn catch_up(&self) {
        self.marks.set(self.marks.get() + 1);
        let mark = format!("{}watch-mark-{}", self.prefix, self.marks.get());
        self.etcd.put(&mark, "mark");
        eventually(CHANGE_TIMEOUT, "the watch has caught up", || {
            ensure!(self.process.log().contains(&mark), "{mark} has not arrived");
            Ok(())
        });
        self.etcd.delete(&mark);
    }
}
