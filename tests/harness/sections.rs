//! The parts of a configuration file that scenarios have in common.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use crate::agent::proxy_dir;
use crate::engine::Engine;
use crate::etcd::Etcd;
use crate::host::Host;

/// One table of a configuration file. A scenario sets or takes away single keys of it, and knows nothing of its text.
#[derive(Clone, Debug)]
pub struct Section {
    heading: &'static str,
    keys: BTreeMap<String, Value>,
    /// Those of the plugin.
    settings: BTreeMap<String, Value>,
}

impl Section {
    /// An empty one, with a heading such as `[plugins]` or `[[output]]`.
    #[must_use]
    pub fn new(heading: &'static str) -> Section {
        Section { heading, keys: BTreeMap::new(), settings: BTreeMap::new() }
    }

    /// The table `[agent]` for an agent on `host`.
    #[must_use]
    pub fn agent(host: &Host) -> Section {
        let (address, state) = (host.address().to_string(), host.dir().join("state").display().to_string());
        Section::new("[agent]").with("node", host.name()).with("advertise", address).with("state-dir", state)
    }

    /// An `[[output]]` of the plugin `haproxy`, checked and supervised by the agent.
    #[must_use]
    pub fn haproxy(host: &Host) -> Section {
        Section::new("[[output]]")
            .with("plugin", "haproxy")
            .with("directory", proxy_dir(host).display().to_string())
            .with("check", json!(["haproxy", "-c", "-f", "{dir}/haproxy.cfg"]))
            .with("reload", json!({"supervise": ["haproxy", "-Ws", "-f", "{dir}/haproxy.cfg"], "signal": "USR2"}))
    }

    /// An `[[output]]` of the plugin `nginx`, checked and supervised by the agent, with streams.
    #[must_use]
    pub fn nginx(host: &Host) -> Section {
        let command = |more: &[&str]| {
            let words = ["nginx", "-e", "stderr", "-p", "{dir}", "-c", "{dir}/nginx.conf"];
            json!([&words[..], more].concat())
        };
        Section::new("[[output]]")
            .with("plugin", "nginx")
            .with("directory", proxy_dir(host).display().to_string())
            .with("check", command(&["-t"]))
            .with("reload", json!({"supervise": command(&["-g", "daemon off;"])}))
            .setting("stream", "/usr/lib/nginx/modules/ngx_stream_module.so")
    }

    /// The same with `key` set to `value`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Section {
        self.keys.insert(key.to_owned(), value.into());
        self
    }

    /// The same without `key`.
    #[must_use]
    pub fn without(mut self, key: &str) -> Section {
        self.keys.remove(key);
        self
    }

    /// The same with a setting of the plugin.
    #[must_use]
    pub fn setting(mut self, key: &str, value: impl Into<Value>) -> Section {
        self.settings.insert(key.to_owned(), value.into());
        self
    }
}

impl fmt::Display for Section {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}", self.heading)?;
        self.keys.iter().try_for_each(|(key, value)| writeln!(out, "{key} = {}", toml(value)))?;
        if !self.settings.is_empty() {
            writeln!(out, "[{}.settings]", self.heading.trim_matches(['[', ']']))?;
        }
        self.settings.iter().try_for_each(|(key, value)| writeln!(out, "{key} = {}", toml(value)))
    }
}

/// A value as TOML has it: like JSON, but for tables.
fn toml(value: &Value) -> String {
    match value {
        Value::Object(keys) => {
            let keys: Vec<_> = keys.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", keys.join(", "))
        }
        Value::Array(values) => format!("[{}]", values.iter().map(toml).collect::<Vec<_>>().join(", ")),
        value => value.to_string(),
    }
}

/// The text of [`Section::agent`]; further keys of it may follow.
pub fn agent_section(host: &Host) -> String {
    Section::agent(host).to_string()
}

/// The table `[docker]` for `engine`; further keys of it may follow.
pub fn docker_section(engine: &Engine<'_>) -> String {
    Section::new("[docker]").with("endpoint", engine.endpoint()).to_string()
}

/// The table `[registry]` for `etcd`; further keys of it may follow.
pub fn etcd_section(etcd: &Etcd<'_>, ttl: &str) -> String {
    Section::new("[registry]").with("kind", "etcd").with("endpoints", json!([etcd.url()])).with("ttl", ttl).to_string()
}

/// The text of [`Section::haproxy`]; its settings, or other keys, may follow.
pub fn haproxy_section(host: &Host) -> String {
    Section::haproxy(host).to_string()
}

/// A setting of [`haproxy_section`]: `HAProxy` tells of every request that did not go well, in the agent's log.
pub(crate) const TELLS: &str = "global-lines = [\"log stdout format raw local0\"], \
                                defaults-lines = [\"option httplog\", \"option dontlog-normal\"]";

/// The text of [`Section::nginx`]; further keys of its settings may follow.
pub fn nginx_section(host: &Host) -> String {
    Section::nginx(host).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_written_as_toml() {
        let section = Section::new("[[output]]")
            .with("reload", json!({"supervise": ["sh", "-c", "\"x\""], "signal": "HUP"}))
            .with("check", false)
            .without("check")
            .with("linger", "1s")
            .setting("slots", 2);
        let expected = r#"[[output]]
linger = "1s"
reload = { signal = "HUP", supervise = ["sh", "-c", "\"x\""] }
[output.settings]
slots = 2
"#;
        assert_eq!(section.to_string(), expected);
    }
}
