//! Two services whose sections would have one name: who has it keeps it.

use harness::{Agent, Network};

use super::{Offers, answers, calm, discovering, listens, live, restart, told};

#[test]
fn a_service_with_the_section_of_another_one_takes_nothing_from_it() {
    let lab = Network::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut offers = Offers::on(&host, &etcd);
    offers.http("team/app", "team.example");
    let mut agent = Agent::start(&host, "agent", &discovering(&host, &etcd, &live(&host)));
    answers(&host, "team.example", "/", "team/app/one");
    calm(&agent);
    offers.http("team_app", "app.example");
    for round in 0..3_u16 {
        told(&agent, "team_app", &["section team_app", "team/app", "since"]);
        answers(&host, "team.example", "/", "team/app/one");
        offers.tcp(&format!("t{round}"), 7000 + round);
        listens(&host, 7000 + round, &format!("t{round}/one"));
        calm(&agent);
        answers(&host, "team.example", "/", "team/app/one");
        restart(&mut agent);
        calm(&agent);
        answers(&host, "team.example", "/", "team/app/one");
    }
}
