//! A newcomer takes nothing from the service that has a domain, whatever happens to either, on all hosts alike.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::{Agent, Host, Network};

use super::{Offers, answers, ask, calm, discovering, http, listens, live, restart, told, unavailable};

/// Asks all hosts for the shop while `work` is done; who answered that is not the shop.
fn watched(hosts: &[&Host], work: impl FnOnce()) -> Vec<String> {
    let (done, wrong) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for host in hosts {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let Ok(reply) = ask(host, "shop.example", "/") else { continue };
                    if reply.status == 200 && !reply.body.starts_with("shop/") {
                        wrong.lock().unwrap().push(format!("{}: {reply:?}", host.name()));
                    }
                }
            });
        }
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        work.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    wrong.into_inner().unwrap()
}

#[test]
fn who_waited_has_the_domain_when_nobody_has_come_back() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    offers.http("shop", "shop.example");
    let text = discovering(&host, &etcd, &live(&host).with("linger", "4s"));
    let mut agent = Agent::start(&host, "agent", &text);
    answers(&host, "shop.example", "/", "shop/one");
    offers.http("dup", "shop.example,dup.example");
    answers(&host, "dup.example", "/", "dup/one");
    told(&agent, "dup", &["domain shop.example", "service shop"]);
    calm(&agent);
    offers.leave("shop/one");
    unavailable(&host, "shop.example", "/");
    restart(&mut agent);
    answers(&host, "shop.example", "/", "dup/one");
    offers.http("shop", "shop.example");
    told(&agent, "shop", &["domain shop.example", "service dup"]);
    answers(&host, "shop.example", "/", "dup/one");
}

#[test]
fn a_newcomer_takes_nothing_over_rollouts_and_restarts() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let (web, edge) = (lab.host("web"), lab.host("edge"));
    let hosts = [&web, &edge];
    let mut offers = Offers::on(&web, &etcd);
    let shop = http("shop.example", "/");
    offers.join("shop/1", &shop);
    let mut agents = hosts.map(|host| Agent::start(host, "agent", &discovering(host, &etcd, &live(host))));
    hosts.iter().for_each(|host| answers(host, "shop.example", "/", "shop/1"));
    let wrong = watched(&hosts, || {
        // By name and by id it would come before the shop.
        offers.join("dup/0", &http("shop.example,dup.example", "/"));
        hosts.iter().for_each(|host| answers(host, "dup.example", "/", "dup/0"));
        for agent in &agents {
            told(agent, "dup", &["domain shop.example", "service shop", "since 20"]);
        }
        for round in 2..5_u16 {
            let (old, new) = (format!("shop/{}", round - 1), format!("shop/{round}"));
            offers.join(&new, &shop);
            offers.leave(&old);
            hosts.iter().for_each(|host| answers(host, "shop.example", "/", &new));
            agents.iter_mut().for_each(restart);
            agents.iter().for_each(|agent| _ = calm(agent));
            offers.tcp(&format!("t{round}"), 7000 + round);
            hosts.iter().for_each(|host| listens(host, 7000 + round, &format!("t{round}/one")));
            hosts.iter().for_each(|host| answers(host, "dup.example", "/", "dup/0"));
        }
        // Nobody of the shop is there for a moment, in which agents are started again.
        offers.leave("shop/4");
        hosts.iter().for_each(|host| unavailable(host, "shop.example", "/"));
        agents.iter_mut().for_each(restart);
        agents.iter().for_each(|agent| _ = calm(agent));
        offers.join("shop/5", &shop);
        hosts.iter().for_each(|host| answers(host, "shop.example", "/", "shop/5"));
        for agent in &agents {
            told(agent, "dup", &["domain shop.example", "service shop", "since 20"]);
        }
    });
    assert!(wrong.is_empty(), "{} answers, the first: {:?}", wrong.len(), wrong.first());
}
