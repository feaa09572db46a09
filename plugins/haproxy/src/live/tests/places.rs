//! Who may have a place, and what is done where something is there already.

use waypost_plugin_sdk::{Change, LivePlan, PluginError, Readiness, Service};

use super::{CONNECTIONS, FOUND, HEADER, ROUTE, answer, commands, http, live, new, planned, rows, same, shop, traffic};
use crate::live::{plan, queries, standby};
use crate::tests::{instance, node, service, settings};

/// What is open to server `name` of `section`: in use and idle.
fn open(section: &str, name: &str, used: u32, idle: u32) -> String {
    format!("{CONNECTIONS}{section}/{name} 6/4 10.0.0.5 8080 - 5000 {used} 1 1 1 0 0 {idle} 0 0 0\n")
}

#[test]
fn a_prepared_backend_is_given_away_empty() {
    let one = settings(r#"{"socket": "/s", "standby-backends": 1}"#);
    let standby = standby::candidates(1, "shop").remove(0);
    let change = [new(shop(&[http("a", "10.0.0.1", 8080)]))];
    let [state, conn, stat] =
        ["show servers state ", "show servers conn ", "show stat "].map(|ask| format!("{ask}{standby}"));
    let stat = format!("{stat} 3 -1");
    let is_given = |servers: &[_], open: &str, backend: &str| {
        let (servers, backend) = (rows(&standby, servers), traffic(&[&format!("{standby},BACKEND,{backend}")]));
        planned(&one, &change, &[(&state, &servers), (&conn, open), (&stat, &backend)]) != LivePlan::Reload
    };
    let out = [("old", "10.0.0.5", 1, 1, 6, "-", 8080)];
    assert!(is_given(&[], CONNECTIONS, "0,0,UP,"));
    assert!(is_given(&out, CONNECTIONS, "0,0,UP,"));
    assert!(!is_given(&[], CONNECTIONS, "0,1,UP,"), "a request waits for another try");
    assert!(!is_given(&[], CONNECTIONS, "1,0,UP,"), "a request waits for a server");
    assert!(!is_given(&out, &open(&standby, "old", 1, 0), "0,0,UP,"));
    assert!(!is_given(&out, &open(&standby, "old", 0, 1), "0,0,UP,"));
    assert!(!is_given(&[("old", "10.0.0.5", 0, 1, 6, "-", 8080)], CONNECTIONS, "0,0,UP,"), "it takes requests");
    let unknown = planned(&one, &change, &[(&stat, "No such proxy.\n")]);
    assert_eq!(unknown, LivePlan::Reload, "nobody knows who is in it");
    let claims =
        |others: &str| planned(&one, &change, &[("show map standby.map", &format!("0x1 shop {standby}\n{others}"))]);
    assert!(matches!(claims(""), LivePlan::Commands(_)), "it is its own already");
    assert_eq!(claims(&format!("0x1 news {standby}\n")), LivePlan::Reload, "a stray hand gave it away twice");
}

#[test]
fn nothing_is_adopted() {
    let said = |change: Change, servers: &[_], backend: &str| {
        let name = change.after.as_ref().unwrap().name.replace('/', "_");
        let [state, conn, stat] = ["servers state", "servers conn", "stat"].map(|ask| format!("show {ask} {name}"));
        let (servers, backend) = (rows(&name, servers), traffic(&[&format!("{name},BACKEND,{backend}")]));
        let found = FOUND.replace("\"shop\"", &format!("\"{name}\""));
        let stat = format!("{stat} 3 -1");
        planned(&live(), &[change], &[(&state, &servers), (&conn, CONNECTIONS), (&stat, &backend), (ROUTE, &found)])
    };
    let own = ("a", "10.0.0.1", 0, 1, 6, "-", 8080);
    let foreign = ("b", "10.0.0.9", 0, 1, 6, "-", 8080);
    let left = ("b", "10.0.0.9", 1, 1, 6, "-", 8080);
    let moved = ("a", "10.0.0.9", 0, 1, 6, "-", 8080);
    let wanted = shop(&[http("a", "10.0.0.1", 8080)]);
    assert_eq!(said(new(wanted.clone()), &[own], "0,5,UP,"), commands(&[]), "its own, as it is wanted");
    assert_eq!(said(new(wanted.clone()), &[own, foreign], "0,0,UP,"), LivePlan::Reload);
    assert_eq!(said(new(wanted.clone()), &[moved], "0,0,UP,"), LivePlan::Reload);
    assert_eq!(said(new(wanted.clone()), &[own, left], "0,1,UP,"), commands(&["del server shop/b"]));
    let line = "set server shop/b state maint; del server shop/b";
    assert_eq!(said(same(wanted.clone()), &[own, foreign], "0,1,UP,"), commands(&[line]), "a stale one leaves");
    assert!(
        matches!(said(new(wanted), &[left], "0,1,UP,"), LivePlan::Commands(_)),
        "no other service has this section"
    );

    let team = Service { name: "team/app".to_owned(), ..shop(&[http("a", "10.0.0.1", 8080)]) };
    assert_eq!(said(new(team.clone()), &[left], "0,1,UP,"), LivePlan::Reload, "a request to team_app may be there");
    assert_eq!(said(new(team.clone()), &[own], "0,1,UP,"), commands(&[]));
    assert!(matches!(said(new(team.clone()), &[left], "0,0,UP,"), LivePlan::Commands(_)));
    let twin = Service { name: "team_app".to_owned(), ..team.clone() };
    let both = [Change { before: Some(team), after: None }, new(twin)];
    assert_eq!(planned(&live(), &both, &[]), LivePlan::Reload, "the agent asks about each alone");
}

#[test]
fn a_service_that_lost_its_place_is_asked_about_alone() {
    let lost =
        |name: &str| same(service(name, &[instance("a", "10.0.0.1", 80, &[("protocol", "http"), ("domain", name)])]));
    let names = ["a.example", "b.example", "c.example", "d.example", "e.example"];
    let many: Vec<Change> = names.map(lost).into();
    let queries = queries(&live(), &many).unwrap().concat();
    assert!(!queries.contains("show stat"), "its answers are long: {queries}");
    assert_eq!(planned(&live(), &many, &[]), LivePlan::Reload);
    let LivePlan::Commands(lines) = planned(&live(), &many[..1], &[]) else { panic!("a place is free") };
    assert!(lines[0].starts_with("add map standby.map a.example"), "{lines:?}");
}

#[test]
fn a_slot_in_use_is_no_slot() {
    let two = shop(&[http("a", "10.0.0.1", 8080), http("b", "10.0.0.2", 8081)]);
    let servers =
        rows("shop", &[("a", "10.0.0.1", 0, 1, 6, "-", 8080), ("waypost-slot-1", "10.0.0.9", 1, 1, 6, "-", 80)]);
    let said = |open: &str| {
        let said = [("show version", "2.4.22\n"), ("show servers state shop", &servers), (ROUTE, FOUND)];
        planned(&live(), &[same(two.clone())], &[&said[..], &[("show servers conn shop", open)]].concat())
    };
    assert_eq!(said(&open("shop", "waypost-slot-1", 1, 0)), LivePlan::Reload);
    assert!(matches!(said(&open("shop", "waypost-slot-1", 0, 1)), LivePlan::Commands(_)), "idle ones are closed");
}

#[test]
fn answers_of_two_processes_are_refused() {
    let many: Vec<Change> = (0..100).map(|n| new(service(&format!("s{n}"), &[http("a", "10.0.0.1", 80)]))).collect();
    let queries = queries(&live(), &many).unwrap();
    assert!(queries.len() > 1 && queries.iter().all(|line| line.starts_with("show info; ")), "{queries:?}");
    let reply = |number: usize, line: &String| answer(line, &[("show info", format!("Pid: {number}\n").as_str())]);
    let ask = |answers: Vec<String>| plan(&live(), &node(), &many, &answers);
    assert!(ask(queries.iter().map(|line| reply(7, line)).collect()).is_ok());
    let Err(PluginError::Other(why)) = ask(queries.iter().enumerate().map(|(n, line)| reply(n, line)).collect()) else {
        panic!("the old one knows nothing of the new one")
    };
    assert!(why.contains("two HAProxy processes"), "{why}");
    let nobody = queries.iter().map(|line| answer(line, &[("show info", "x\n")])).collect();
    assert!(matches!(ask(nobody), Err(PluginError::Other(_))));
}

#[test]
fn a_service_that_is_gone_has_its_place_and_no_servers() {
    let mut left = http("a", "10.0.0.1", 8080);
    let here = shop(&[left.clone()]);
    left.readiness = Readiness::Gone;
    let away = shop(&[left]);
    let servers = rows("shop", &[("a", "10.0.0.1", 0, 1, 6, "-", 8080)]);
    let said = [("show servers state shop", servers.as_str()), ("show servers conn shop", CONNECTIONS), (ROUTE, FOUND)];
    let change =
        |before: &Service, after: Option<&Service>| Change { before: Some(before.clone()), after: after.cloned() };
    let line = "set server shop/a state maint; del server shop/a";
    assert_eq!(planned(&live(), &[change(&here, Some(&away))], &said), commands(&[line]));
    let empty = [("show servers state shop", HEADER), ("show servers conn shop", CONNECTIONS), (ROUTE, FOUND)];
    assert_eq!(planned(&live(), &[same(away.clone())], &empty), commands(&[]));
    assert_eq!(planned(&live(), &[change(&away, None)], &empty), commands(&["del map routes.map shop.example/"]));
    let named = |readiness| {
        let instance =
            crate::tests::instance("n", "db.internal", 80, &[("protocol", "http"), ("domain", "shop.example")]);
        shop(&[http("a", "10.0.0.1", 8080), waypost_plugin_sdk::Instance { readiness, ..instance }])
    };
    assert_eq!(planned(&live(), &[change(&here, Some(&named(Readiness::Ready)))], &said), LivePlan::Reload);
    for readiness in [Readiness::Draining, Readiness::Gone] {
        assert_eq!(planned(&live(), &[change(&here, Some(&named(readiness)))], &said), commands(&[]), "{readiness:?}");
    }
}

#[test]
fn a_tcp_service_that_leaves_asks_for_a_reload_while_its_port_is_open() {
    let db = service("db", &[instance("a", "10.0.0.1", 80, &[("listen-port", "8000")])]);
    let leaves = [Change { before: Some(db), after: None }];
    let reaction = |servers: &[_], frontend: &str| {
        let (servers, stat) = (rows("db", servers), traffic(&[frontend]));
        let here = [("show servers state db", &*servers), ("show servers conn db", CONNECTIONS)];
        planned(&live(), &leaves, &[&here[..], &[("show stat db 3 -1", &stat)]].concat())
    };
    let open = |lines: &[&str]| LivePlan::CommandsAndReload(lines.iter().map(|&line| line.to_owned()).collect());
    let (is_open, is_closed) = ("db,FRONTEND,,0,OPEN,", "db,FRONTEND,,0,STOP,");
    let line = "set server db/a state maint; del server db/a";
    assert_eq!(reaction(&[("a", "10.0.0.1", 0, 1, 6, "-", 80)], is_open), open(&[line]));
    assert_eq!(reaction(&[("a", "10.0.0.1", 1, 1, 6, "-", 80)], is_open), open(&[]));
    assert_eq!(reaction(&[("x", "10.0.0.1", 1, 1, 6, "-", 80)], is_open), open(&["del server db/x"]));
    assert_eq!(reaction(&[], is_closed), commands(&[]));
    assert_eq!(planned(&live(), &leaves, &[]), commands(&[]), "there is no such section any more");
}

#[test]
fn a_section_is_published_and_its_servers_have_cookies() {
    let wanted = [same(shop(&[http("a", "10.0.0.1", 8080)]))];
    let servers = rows("shop", &[("a", "10.0.0.1", 0, 1, 6, "-", 8080)]);
    let said = |settings, ask, rows: &[&str]| {
        let here = [("show servers state shop", servers.as_str()), ("show servers conn shop", CONNECTIONS)];
        planned(settings, &wanted, &[&here[..], &[(ROUTE, FOUND), (ask, &traffic(rows))]].concat())
    };
    let (plain, stat) = (live(), "show stat shop 3 -1");
    assert_eq!(said(&plain, stat, &["shop,BACKEND,0,0,UP,"]), commands(&[]));
    assert_eq!(said(&plain, stat, &["shop,BACKEND,0,0,UP (UNPUB),"]), commands(&["publish backend shop"]));
    let json = r#"{"socket": "/s", "defaults-lines": ["cookie S insert dynamic", "dynamic-cookie-key KEY"]}"#;
    let (cookies, stat) = (settings(json), "show stat shop 7 -1");
    assert_eq!(said(&cookies, stat, &["shop,a,0,0,\"L4OK, at last\",1f", "shop,BACKEND,0,0,UP,S"]), commands(&[]));
    let line = "set dynamic-cookie-key backend shop KEY";
    assert_eq!(said(&cookies, stat, &["shop,a,0,0,UP,", "shop,BACKEND,0,0,UP,S"]), commands(&[line]));
    assert_eq!(said(&cookies, stat, &["shop,a,0,0,UP,", "shop,BACKEND,0,0,UP,"]), commands(&[]), "there it has none");
    let odd = settings(&json.replace("KEY\"", "a;b\""));
    assert_eq!(said(&odd, stat, &["shop,a,0,0,UP,", "shop,BACKEND,0,0,UP,S"]), LivePlan::Reload);
}
