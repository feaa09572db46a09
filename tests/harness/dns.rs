//! A real `CoreDNS` on the registry, asked with `dig`.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use waypost_test_support::eventually;

use crate::START_TIMEOUT;
use crate::etcd::Etcd;
use crate::host::Host;
use crate::process::{Process, find_program};

/// `CoreDNS` on port 53 of a host; it answers a zone from the records below `/skydns` in etcd.
pub struct CoreDns<'a> {
    host: &'a Host,
    _server: Process,
}

impl<'a> CoreDns<'a> {
    /// Starts it for `zone`, without a cache, and waits until it answers.
    pub fn start(host: &'a Host, etcd: &Etcd<'_>, zone: &str) -> CoreDns<'a> {
        let program = find_program("coredns", &places()).expect("CoreDNS is missing: tests/run builds it");
        let corefile = host.dir().join("Corefile");
        let text =
            format!("{zone}:53 {{\n  errors\n  etcd {{\n    path /skydns\n    endpoint {}\n  }}\n}}\n", etcd.url());
        std::fs::write(&corefile, text).expect("a Corefile");
        let mut command = host.command(program);
        command.arg("-conf").arg(corefile);
        let dns = CoreDns { host, _server: host.spawn("coredns", command) };
        eventually(START_TIMEOUT, "CoreDNS answers", || {
            let answer = dns.dig(&["nobody.here.", "A"])?;
            ensure!(answer.contains("status: "), "{answer}");
            Ok(())
        });
        dns
    }

    /// The addresses of `name`, sorted.
    pub fn addresses(&self, name: &str) -> anyhow::Result<Vec<String>> {
        self.short(name, "A")
    }

    /// The SRV records of `name` as `priority weight port target`, sorted.
    pub fn services(&self, name: &str) -> anyhow::Result<Vec<String>> {
        self.short(name, "SRV")
    }

    /// The whole answer of `dig` to a query.
    pub fn dig(&self, query: &[&str]) -> anyhow::Result<String> {
        let fixed = ["@127.0.0.1", "+time=2", "+tries=1"];
        self.host.try_run("dig", &[&fixed[..], query].concat()).context("asking CoreDNS")
    }

    fn short(&self, name: &str, kind: &str) -> anyhow::Result<Vec<String>> {
        let answer = self.dig(&["+short", name, kind])?;
        let mut lines: Vec<_> = answer.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }
}

/// Where tests/run and `go install` put it.
fn places() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    vec![cache.join("waypost"), home.join("go/bin")]
}
