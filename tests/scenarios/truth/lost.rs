//! A reload that reports success and reaches nobody, as `systemctl reload` does on a bad day.

use std::time::Duration;

use anyhow::ensure;
use harness::{Agent, Haproxy, Host, Network, eventually};
use serde_json::json;

use super::{Offers, answers, clean, command, configure, discovering, live};

/// A lost reload is seen after 5 s, and the pauses between reloads that repair grow.
const REPAIR: Duration = Duration::from_mins(2);

/// Waits until the process that answers has this `maxconn`.
#[track_caller]
fn has_maxconn(host: &Host, maxconn: u32) {
    eventually(REPAIR, &format!("HAProxy runs with maxconn {maxconn}"), || {
        let info = command(host, "show info")?;
        ensure!(info.contains(&format!("Maxconn: {maxconn}\n")), "{info}");
        Ok(())
    });
}

#[test]
fn a_reload_that_reached_nobody_is_a_problem_and_is_tried_again() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    offers.http("shop", "shop.example");
    let (script, lost) = (host.dir().join("reload"), host.dir().join("lost"));
    let pid_file = host.dir().join("haproxy.pid");
    let text = format!("[ -e {} ] || kill -USR2 $(cat {})\nexit 0\n", lost.display(), pid_file.display());
    std::fs::write(&script, text).unwrap();
    let text = |maxconn: u32| {
        let output = live(&host).with("reload", json!({"command": ["sh", script]}));
        discovering(&host, &etcd, &output.setting("global-lines", json!([format!("maxconn {maxconn}")])))
    };
    let mut agent = Agent::start(&host, "agent", &text(777));
    let path = host.dir().join("proxy/haproxy.cfg");
    eventually(REPAIR, "there are files", || {
        ensure!(path.exists(), "there are none");
        Ok(())
    });
    let _haproxy = Haproxy::start(&host, path.to_str().unwrap());
    answers(&host, "shop.example", "/", "shop/one");
    has_maxconn(&host, 777);
    clean(&agent);

    std::fs::write(&lost, "").unwrap();
    agent.kill();
    configure(&host, &text(888));
    agent.start_again();
    eventually(REPAIR, "the lost reload is a problem", || {
        let problems = agent.report()?["problems"].to_string();
        ensure!(problems.contains("the old process still answers"), "{problems}");
        Ok(())
    });
    has_maxconn(&host, 777);

    // Nothing changes any more; it is tried again, and then all is well.
    std::fs::remove_file(&lost).unwrap();
    has_maxconn(&host, 888);
    clean(&agent);
    answers(&host, "shop.example", "/", "shop/one");
}
