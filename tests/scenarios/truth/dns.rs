//! A name server that does not answer holds up the service that asks for it, and no other.

use std::time::Duration;

use anyhow::{Context, ensure};
use harness::{Agent, CHANGE_TIMEOUT, Host, NetnsRuntime, Network, eventually};
use serde_json::json;
use tokio::time::Instant;

use super::{Offers, answers, clean, discovering, http, listens, live, output};

/// How long until it is known whose name is not answered for, and the others are written: some checks of ten seconds.
const BOUND: Duration = Duration::from_secs(100);

/// Makes the hub the name server of `host`, which takes queries and never answers.
fn silent_name_server(lab: &Network, host: &Host) -> NetnsRuntime {
    let address = (lab.hub().address(), 53);
    let inside = NetnsRuntime::of(lab.hub());
    let server = inside.run(async move { tokio::net::UdpSocket::bind(address).await.unwrap() });
    inside.spawn(async move {
        let _server = server;
        std::future::pending::<()>().await;
    });
    let file = host.dir().join("resolv.conf");
    std::fs::write(&file, format!("nameserver {}\n", address.0)).unwrap();
    host.run("mount", &["--bind", file.to_str().unwrap(), "/etc/resolv.conf"]);
    inside
}

#[test]
fn a_name_that_nobody_answers_for_holds_up_its_service_alone() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let _server = silent_name_server(&lab, &host);
    let mut offers = Offers::on(&host, &etcd);
    offers.http("shop", "shop.example");
    let agent = Agent::start(&host, "agent", &discovering(&host, &etcd, &live(&host)));
    answers(&host, "shop.example", "/", "shop/one");
    let before = clean(&agent);

    let attributes = http("slow.example", "/");
    offers.put("slow/one", &json!({"address": "slow.test", "port": 80, "attributes": attributes}));
    eventually(CHANGE_TIMEOUT, "the service is known", || {
        let report = agent.report()?;
        ensure!(report["services"].as_array().context("services")?.iter().any(|one| one["name"] == "slow"));
        Ok(())
    });
    offers.http("next", "next.example");
    answers(&host, "next.example", "/", "next/one");
    let began = Instant::now();
    offers.tcp("db", 7000);
    eventually(BOUND, "the guilty one is named", || {
        let report = agent.report()?;
        let problems = report["problems"].as_array().cloned().unwrap_or_default();
        ensure!(problems.iter().any(|problem| problem["subject"] == "slow"), "{problems:?}");
        Ok(())
    });
    println!("who asks for the silent name server is named after {:?}", began.elapsed());
    eventually(BOUND, "the others are written and loaded", || {
        let seen = host.connect(7000)?.get("/")?.good()?;
        ensure!(seen == "db/one", "{seen}");
        let file = agent.proxy_file("haproxy.cfg");
        ensure!(file.contains("backend next") && file.contains("listen db"));
        // The new process answers before the end of its reload is known.
        ensure!(output(&agent)?["reloads"].as_u64().context("a number")? > before);
        Ok(())
    });
    offers.leave("shop/one");
    offers.http("shop", "shop.example");
    answers(&host, "shop.example", "/", "shop/one");
    offers.tcp("cache", 7001);
    eventually(BOUND, "what comes later is loaded", || {
        let seen = host.connect(7001)?.get("/")?.good()?;
        ensure!(seen == "cache/one", "{seen}");
        Ok(())
    });
    offers.leave("slow/one");
    eventually(BOUND, "all is well when it has left", || {
        ensure!(output(&agent)?["settled"] == true, "{}", output(&agent)?);
        Ok(())
    });
    listens(&host, 7000, "db/one");
}
