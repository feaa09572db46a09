//! What the agent itself costs: its memory, and the time from its start to its first file.

use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use harness::{
    Agent, CHANGE_TIMEOUT, Engine, Etcd, agent_section, docker_section, etcd_section, eventually, haproxy_section,
};

/// After this long without work nothing of a burst is left to be given back.
const IDLE: Duration = Duration::from_secs(3);

/// Resident memory of an agent that does nothing, and what it is made of.
pub(crate) fn memory(agent: &Agent<'_>) -> Result<String> {
    std::thread::sleep(IDLE);
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id()))?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|rest| rest.split_whitespace().next()).with_context(|| name.to_owned())?;
        Ok(number.parse()?)
    };
    let mib = |name: &str| field(name).map(|kib| kib / 1024.0);
    Ok(format!(
        "{:.1} MiB resident ({:.1} its own, {:.1} of files, {:.1} at most), {} threads",
        mib("VmRSS")?,
        mib("RssAnon")?,
        mib("RssFile")?,
        mib("VmHWM")?,
        field("Threads")?
    ))
}

/// Times of starts with compiled plugins on disk, from the process's start to checked files in place.
pub(crate) fn starts(engine: &Engine<'_>, etcd: &Etcd<'_>, count: usize) -> Result<String> {
    let host = engine.host();
    let output = haproxy_section(host);
    let text = [&agent_section(host), &docker_section(engine), &etcd_section(etcd, "15s"), LISTS, &output].concat();
    let files = [host.dir().join("proxy/haproxy.cfg"), host.dir().join("proxy/routes.map")];
    let mut times = Vec::new();
    // The first one compiles.
    for number in 0..=count {
        for file in &files {
            fs::remove_file(file).ok();
        }
        let name = format!("start-{number}");
        let begun = SystemTime::now();
        let mut agent = Agent::start(host, &name, &text);
        let line = agent.logs(&["written", "haproxy.cfg"]);
        let written = line.split_whitespace().next().context("a line with a time")?;
        let written = humantime::parse_rfc3339(written).with_context(|| line.clone())?;
        times.push(written.duration_since(begun)?);
        eventually(CHANGE_TIMEOUT, "HAProxy runs", || {
            ensure!(!agent.log_lines(&["proxy reloaded"]).is_empty());
            Ok(())
        });
        agent.stop();
    }
    let first = times.remove(0);
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    Ok(format!(
        "start to the first files in place (labels, announce, image, json, haproxy): {median:.0?} median, {worst:.0?} at \
         most of {count} starts; {first:.0?} when plugins had to be compiled"
    ))
}

const LISTS: &str = "[[grouping]]\nplugin = \"labels\"\n[[grouping]]\nplugin = \"announce\"\n[[grouping]]\nplugin = \"image\"\n\
                     [[layout]]\nplugin = \"json\"\n";
