//! What the operator's own check refuses does not stay in the running proxy.

use std::time::Duration;

use anyhow::ensure;
use harness::{Agent, Lab, SOON, Server, always, eventually};
use serde_json::json;

use super::{Offers, answers, ask, clean, command, discovering, http, live, told};

/// `sh CHECK DIR` refuses the weight 13, naming its line.
const CHECK: &str = r#"line=$(grep -n 'weight 13$' "$1/haproxy.cfg" | head -n 1 | cut -d: -f1)
[ -z "$line" ] && exec haproxy -c -f "$1/haproxy.cfg"
echo "[ALERT] (1) : config : parsing [$1/haproxy.cfg:$line] : an unlucky weight" >&2
exit 1
"#;

#[test]
fn an_instance_that_the_check_refuses_is_taken_out_of_the_running_proxy() {
    let lab = Lab::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let check = host.dir().join("check");
    std::fs::write(&check, CHECK).unwrap();
    let ours = format!("check = [\"sh\", \"{}\", \"{{dir}}\"]", check.display());
    let output = live(&host, "", "check = false\n");
    let output = output.replace("check = [\"haproxy\", \"-c\", \"-f\", \"{dir}/haproxy.cfg\"]", &ours);
    let mut offers = Offers::on(&host, &etcd);
    let mut agent = Agent::start(&host, "agent", &discovering(&host, &etcd, &output));
    offers.join("shop/one", &http("shop.example", "/"));
    answers(&host, "shop.example", "/", "shop/one");
    clean(&agent);
    let two = Server::start(&offers.inside, host.address(), "shop/two");
    let attributes = http("shop.example", "/");
    let value = json!({"address": host.address(), "port": two.port(), "weight": 13, "attributes": attributes});
    offers.put("shop/two", &value);
    told(&agent, "shop", &["it stays as it was", "an unlucky weight"]);
    eventually(SOON, "the running proxy has the good one alone", || {
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
    agent.lives();
}
