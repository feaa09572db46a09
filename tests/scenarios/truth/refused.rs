//! What the operator's own check refuses does not stay in the running proxy.

use std::time::Duration;

use anyhow::ensure;
use harness::{Agent, CHANGE_TIMEOUT, Etcd, Host, Network, Server, always, eventually};
use serde_json::json;

use super::{Offers, answers, ask, clean, command, discovering, http, live, told};

/// `sh CHECK DIR` refuses the weight 13, naming its line.
const CHECK: &str = r#"line=$(grep -n 'weight 13$' "$1/haproxy.cfg" | head -n 1 | cut -d: -f1)
[ -z "$line" ] && exec haproxy -c -f "$1/haproxy.cfg"
echo "[ALERT] (1) : config : parsing [$1/haproxy.cfg:$line] : an unlucky weight" >&2
exit 1
"#;

/// An agent whose output has the check above.
fn checked(host: &Host, etcd: &Etcd<'_>) -> String {
    let check = host.dir().join("check");
    std::fs::write(&check, CHECK).unwrap();
    discovering(host, etcd, &live(host).with("check", json!(["sh", check, "{dir}"])).setting("check", false))
}

#[test]
fn an_instance_that_the_check_refuses_is_taken_out_of_the_running_proxy() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    let agent = Agent::start(&host, "agent", &checked(&host, &etcd));
    offers.join("shop/one", &http("shop.example", "/"));
    answers(&host, "shop.example", "/", "shop/one");
    clean(&agent);
    let two = Server::start(&offers.inside, host.address(), "shop/two");
    let attributes = http("shop.example", "/");
    let value = json!({"address": host.address(), "port": two.port(), "weight": 13, "attributes": attributes});
    offers.put("shop/two", &value);
    told(&agent, "shop", &["it stays as it was", "an unlucky weight"]);
    eventually(CHANGE_TIMEOUT, "the running proxy has the good one alone", || {
        let servers = command(&host, "show servers state")?;
        let found: Vec<_> = servers.lines().filter(|line| line.contains(&format!(" {} ", two.port()))).collect();
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    });
    always(Duration::from_secs(1), "the good one answers", || {
        let seen = ask(&host, "shop.example", "/")?.good()?;
        ensure!(seen == "shop/one", "{seen}");
        Ok(())
    });
    offers.etcd.delete("/waypost/services/shop/two");
    clean(&agent);
}

#[test]
fn an_instance_that_is_refused_takes_nobody_along_who_is_not_in_the_files_yet() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    let agent = Agent::start(&host, "agent", &checked(&host, &etcd));
    clean(&agent);
    for service in (0..5).map(|number| format!("s{number}")) {
        let domain = format!("{service}.example");
        offers.join(&format!("{service}/one"), &http(&domain, "/"));
        answers(&host, &domain, "/", &format!("{service}/one"));
        let value = json!({"address": host.address(), "port": 9, "weight": 13, "attributes": http(&domain, "/")});
        offers.put(&format!("{service}/two"), &value);
    }
    for service in (0..5).map(|number| format!("s{number}")) {
        told(&agent, &service, &["an unlucky weight"]);
        answers(&host, &format!("{service}.example"), "/", &format!("{service}/one"));
        offers.etcd.delete(&format!("/waypost/services/{service}/two"));
    }
    clean(&agent);
}
