//! A real etcd, read and written with `etcdctl` and not with our own code.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use etcd_client::{Client, Txn, TxnOp};
use rustix::process::Signal;
use serde_json::Value;
use waypost_test_support::eventually;

use crate::host::Host;
use crate::netns_runtime::NetnsRuntime;
use crate::process::{Process, find_program};
use crate::watch::Watch;
use crate::{CHANGE_TIMEOUT, START_TIMEOUT};

/// An etcd of one member on port 2379 of a host.
pub struct Etcd<'a> {
    host: &'a Host,
    server: Process,
}

impl<'a> Etcd<'a> {
    /// Starts etcd on `host` and waits until it answers.
    pub fn start(host: &'a Host) -> Etcd<'a> {
        let etcd = Etcd { host, server: launch(host) };
        etcd.answers();
        etcd
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}:2379", self.host.address())
    }

    /// Starts it again on the same data.
    pub fn start_again(&mut self) {
        self.server = launch(self.host);
        self.answers();
    }

    /// Kills it; [`Etcd::start_again`] brings it back.
    pub fn stop(&mut self) {
        self.server.signal(Signal::KILL);
        self.server.wait(CHANGE_TIMEOUT);
    }

    /// Kills it and starts it again without any data.
    pub fn lose_data(&mut self) {
        self.stop();
        std::fs::remove_dir_all(self.host.dir().join("etcd")).expect("its data");
        self.start_again();
    }

    /// The keys below `prefix` and their values.
    #[track_caller]
    pub fn entries(&self, prefix: &str) -> BTreeMap<String, String> {
        self.try_entries(prefix).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// The keys below `prefix` and their values; an error when etcd does not answer.
    pub fn try_entries(&self, prefix: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let text = self.control(&["get", "--prefix", prefix, "-w", "json"], None)?;
        let answer: Value = serde_json::from_str(&text)?;
        let listed = answer["kvs"].as_array().cloned().unwrap_or_default();
        listed.iter().map(|entry| Ok((decoded(&entry["key"])?, decoded(&entry["value"])?))).collect()
    }

    /// The keys below `prefix`.
    #[track_caller]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.entries(prefix).into_keys().collect()
    }

    /// Writes a key without a lease.
    #[track_caller]
    pub fn put(&self, key: &str, value: &str) {
        // Nothing on standard input is no value to `etcdctl`.
        let arguments = if value.is_empty() { vec!["put", key, ""] } else { vec!["put", key] };
        self.control(&arguments, Some(value)).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Writes many keys without a lease, a hundred in one transaction.
    pub fn put_all(&self, entries: &BTreeMap<String, String>) {
        let entries: Vec<_> = entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let url = self.url();
        NetnsRuntime::of(self.host).run(async move {
            let mut client = Client::connect([url], None).await.expect("etcd answers");
            for some in entries.chunks(100) {
                let puts: Vec<_> =
                    some.iter().map(|(key, value)| TxnOp::put(key.as_str(), value.as_str(), None)).collect();
                client.txn(Txn::new().and_then(puts)).await.expect("etcd takes it");
            }
        });
    }

    /// Deletes a key.
    #[track_caller]
    pub fn delete(&self, key: &str) {
        self.control(&["del", key], None).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Records what happens below `prefix` from now on.
    pub fn watch(&self, prefix: &str) -> Watch<'_> {
        Watch::start(self, self.host, prefix, self.revision() + 1)
    }

    /// The revision of the last change.
    fn revision(&self) -> i64 {
        let text = self.control(&["get", "/", "-w", "json"], None).expect("etcd answers");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        answer["header"]["revision"].as_i64().expect("a revision")
    }

    /// Runs `etcdctl` on its host.
    fn control(&self, arguments: &[&str], input: Option<&str>) -> anyhow::Result<String> {
        let mut command = self.host.command("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--dial-timeout", "5s", "--endpoints", &self.url()]).args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("a pipe")?;
        stdin.write_all(input.unwrap_or_default().as_bytes())?;
        drop(stdin);
        let done = child.wait_with_output()?;
        ensure!(done.status.success(), "etcdctl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr).trim());
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    fn answers(&self) {
        eventually(START_TIMEOUT, "etcd answers", || self.control(&["endpoint", "health"], None));
    }
}

fn launch(host: &Host) -> Process {
    assert!(find_program("etcd", &[]).is_some(), "etcd is missing: tests/run installs it (Debian: etcd-server)");
    let url = format!("http://{}:2379", host.address());
    let mut command = host.command("etcd");
    command.arg("--data-dir").arg(host.dir().join("etcd"));
    command.args(["--listen-client-urls", "http://0.0.0.0:2379", "--advertise-client-urls", &url]);
    command.args(["--listen-peer-urls", "http://127.0.0.1:2380", "--log-level", "warn"]);
    host.spawn("etcd", command)
}

fn decoded(field: &Value) -> anyhow::Result<String> {
    let bytes = BASE64_STANDARD.decode(field.as_str().unwrap_or_default())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
