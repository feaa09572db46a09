mod odd;
mod places;
mod routes;

use waypost_plugin_sdk::{Change, Instance, LivePlan, Plugin, PluginError, Readiness, Service};

use super::{plan, queries, standby};
use crate::tests::{instance, node, service, settings};
use crate::{Haproxy, Settings};

const HEADER: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight \
    srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state \
    bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr \
    srv_agent_port\n";
const CONNECTIONS: &str = "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb \
    idle_lim idle_cur idle_per_thr[2]\n";

/// What HAProxy says to each command of a line; `said` goes before what an empty process says.
fn answer(line: &str, said: &[(&str, &str)]) -> String {
    let answer = |command: &str| match said.iter().find(|(asked, _)| *asked == command) {
        Some((_, text)) => (*text).to_owned(),
        None if command == "show version" => "3.0.11-1+deb13u3\n".to_owned(),
        None if command.starts_with("get map") => "type=beg, case=sensitive, found=no\n".to_owned(),
        None if command.starts_with("show stat waypost-standby-") => {
            let section = command.split(' ').nth(2).unwrap();
            traffic(&[&format!("{section},BACKEND,0,0,UP,")])
        }
        None if command.starts_with("show stat") => "No such proxy.\n".to_owned(),
        None if command == "show info" => "Name: HAProxy\nPid: 7\n".to_owned(),
        None if command.starts_with("show servers state waypost-standby-") => HEADER.to_owned(),
        None if command.starts_with("show servers conn waypost-standby-") => CONNECTIONS.to_owned(),
        None if command.starts_with("show map") => String::new(),
        None if command == "show info" => "Name: HAProxy\nPid: 7\n".to_owned(),
        None => "Can't find backend.\n".to_owned(),
    };
    line.split("; ").map(|command| answer(command) + "\n").collect()
}

/// Rows of `show stat`, of which these columns count: section, server, queue, sessions, status, cookie.
fn traffic(rows: &[&str]) -> String {
    let header = "# pxname,svname,qcur,scur,status,cookie,mode,\n";
    rows.iter().fold(header.to_owned(), |text, row| text + row + ",http,\n")
}

fn planned(settings: &Settings, changes: &[Change], said: &[(&str, &str)]) -> LivePlan {
    let queries = queries(settings, changes).unwrap();
    let answers: Vec<String> = queries.iter().map(|line| answer(line, said)).collect();
    plan(settings, &node(), changes, &answers).unwrap()
}

fn commands(lines: &[&str]) -> LivePlan {
    LivePlan::Commands(lines.iter().map(|&line| line.to_owned()).collect())
}

/// Servers of a section as HAProxy lists them: name, address, administrative state, weight, state of the check, host, port.
fn rows(section: &str, servers: &[(&str, &str, u32, u16, u32, &str, u16)]) -> String {
    let row = |(name, address, admin, weight, check, host, port): &(&str, &str, u32, u16, u32, &str, u16)| {
        format!("6 {section} 1 {name} {address} 2 {admin} {weight} 1 1 8 2 0 {check} 0 0 0 {host} {port} - 0 0 - - 0\n")
    };
    HEADER.to_owned() + &servers.iter().map(row).collect::<String>()
}

fn live() -> Settings {
    settings(r#"{"socket": "/run/haproxy.sock", "standby-backends": 4}"#)
}

fn shop(instances: &[Instance]) -> Service {
    service("shop", instances)
}

fn http(id: &str, address: &str, port: u16) -> Instance {
    instance(id, address, port, &[("protocol", "http"), ("domain", "shop.example")])
}

fn new(service: Service) -> Change {
    Change { before: None, after: Some(service) }
}

fn same(service: Service) -> Change {
    Change { before: Some(service.clone()), after: Some(service) }
}

#[test]
fn a_new_http_service_moves_into_a_prepared_backend() {
    let change = [new(shop(&[http("a", "10.0.0.1", 8080)]))];
    let standby = &standby::candidates(4, "shop")[0];
    let first = format!(
        "add map standby.map shop {standby}; add server {standby}/a 10.0.0.1:8080 fastinter 200ms downinter 500ms check inter 2s \
         rise 3 fall 2; enable health {standby}/a; enable server {standby}/a; add map routes.map shop.example/ shop"
    );
    assert_eq!(planned(&live(), &change, &[]), commands(&[&first]));
    let taken = "0x1 a waypost-standby-1\n0x1 b waypost-standby-2\n0x1 c waypost-standby-3\n0x1 d waypost-standby-4\n";
    assert_eq!(planned(&live(), &change, &[("show map standby.map", taken)]), LivePlan::Reload);
    let LivePlan::CommandsAndReload(lines) = planned(&live(), &change, &[("show map standby.map", &taken[..72])])
    else {
        panic!("one of four is left")
    };
    assert!(lines[0].starts_with("add map standby.map shop waypost-standby-"), "{lines:?}");
    let unknown = "Unknown map identifier. Please use #<id> or <file>.\n";
    assert_eq!(planned(&live(), &change, &[("show map standby.map", unknown)]), LivePlan::Reload);
    assert_eq!(planned(&live(), &change, &[("get map routes.map shop.example/", unknown)]), LivePlan::Reload);
    assert_eq!(planned(&settings("{}"), &change, &[]), LivePlan::Reload, "without a socket nothing is prepared");
}

#[test]
fn a_name_that_a_listener_has_is_not_used() {
    let rows = traffic(&["shop,FRONTEND,,0,OPEN,", "shop,BACKEND,0,0,UP,"]);
    let listening = [
        ("show servers state shop", HEADER),
        ("show servers conn shop", CONNECTIONS),
        ("show stat shop 3 -1", rows.as_str()),
    ];
    assert_eq!(planned(&live(), &[new(shop(&[http("a", "10.0.0.1", 8080)]))], &listening), LivePlan::Reload);
}

#[test]
fn backends_are_made_from_3_4_on_where_that_is_wanted() {
    let change = [new(shop(&[http("a", "10.0.0.1", 8080)]))];
    let wanted = settings(r#"{"socket": "/s", "check": false}"#);
    let unwanted = settings(r#"{"socket": "/s", "dynamic-backends": false}"#);
    let line = "add backend shop from waypost mode http; publish backend shop; add server shop/a 10.0.0.1:8080 \
        fastinter 200ms downinter 500ms; enable server shop/a; add map routes.map shop.example/ shop";
    let new_enough = [("show version", "3.4.0\n")];
    assert_eq!(planned(&wanted, &change, &new_enough), commands(&[line]));
    for (settings, said) in [(&wanted, &[][..]), (&unwanted, &new_enough[..])] {
        let LivePlan::Commands(lines) = planned(settings, &change, said) else { panic!() };
        assert!(lines[0].starts_with("add map standby.map"), "{lines:?}");
    }
}

#[test]
fn a_process_that_cannot_add_servers_has_slots() {
    let two = shop(&[http("a", "10.0.0.1", 8080), http("b", "10.0.0.2", 8081)]);
    let said = |rows: &str, version: &str| {
        let said =
            [("show version", version), ("show servers state shop", rows), ("show servers conn shop", CONNECTIONS)];
        planned(&live(), &[same(two.clone())], &[&said[..], &[(ROUTE, FOUND)]].concat())
    };
    let unknown = "Unknown command, but maybe one of the following ones is a better match:\n  help\n";
    let mut servers = vec![("a", "10.0.0.1", 0, 1, 6, "-", 8080)];
    assert_eq!(said(&rows("shop", &servers), unknown), LivePlan::Reload);
    servers
        .extend([("waypost-slot-1", "10.0.0.9", 0, 1, 6, "-", 80), ("waypost-slot-2", "127.0.0.1", 5, 1, 6, "-", 1)]);
    let line = "set server shop/waypost-slot-1 state maint; set server shop/waypost-slot-2 state maint; \
        set server shop/waypost-slot-2 addr 10.0.0.2 port 8081; set server shop/waypost-slot-2 state ready";
    assert_eq!(said(&rows("shop", &servers), "2.4.22\n"), commands(&[line]));
    servers[1].2 = 1;
    servers[2] = ("waypost-slot-2", "10.0.0.2", 0, 1, 6, "-", 8081);
    assert_eq!(said(&rows("shop", &servers), "2.5.0\n"), commands(&[]));
}

const ROUTE: &str = "get map routes.map shop.example/";
const FOUND: &str =
    "type=beg, case=sensitive, found=yes, idx=tree, key=\"shop.example/\", value=\"shop\", type=\"str\"\n";

#[test]
fn host_names_are_left_to_the_file() {
    let named = shop(&[http("a", "db.internal", 8080)]);
    let said = |servers: &[_]| {
        let rows = rows("shop", servers);
        let said =
            [("show servers state shop", rows.as_str()), ("show servers conn shop", CONNECTIONS), (ROUTE, FOUND)];
        planned(&live(), &[same(named.clone())], &said)
    };
    assert_eq!(said(&[]), LivePlan::Reload);
    assert_eq!(said(&[("a", "10.0.0.7", 0, 1, 6, "db.internal", 8080)]), commands(&[]));
    assert_eq!(said(&[("a", "-", 32, 1, 6, "db.internal", 8080)]), commands(&[]), "nobody knows it: that is no fault");
    assert_eq!(said(&[("a", "10.0.0.7", 0, 1, 6, "db.internal", 8081)]), LivePlan::Reload);
    assert_eq!(said(&[("a", "10.0.0.7", 0, 1, 6, "other.internal", 8080)]), LivePlan::Reload);
}

#[test]
fn a_server_that_leaves_goes_first_and_leftovers_wait_for_their_connections() {
    let before = shop(&[http("a", "10.0.0.1", 8080), http("old", "10.0.0.3", 8080)]);
    let after = shop(&[http("b", "10.0.0.1", 8080)]);
    let change = [Change { before: Some(before), after: Some(after) }];
    let rows = rows(
        "shop",
        &[
            ("a", "10.0.0.1", 0, 1, 6, "-", 8080),
            ("old", "10.0.0.3", 1, 1, 6, "-", 8080),
            ("idle", "10.0.0.4", 1, 1, 6, "-", 8080),
            ("busy", "10.0.0.5", 1, 1, 6, "-", 8080),
        ],
    );
    let open = format!("{CONNECTIONS}shop/busy 6/4 10.0.0.5 8080 - 5000 1 1 1 0 0 -1 0 0 0\n");
    let said = [("show servers state shop", rows.as_str()), ("show servers conn shop", &open), (ROUTE, FOUND)];
    let line = "set server shop/a state maint; del server shop/a; del server shop/idle; add server shop/b 10.0.0.1:8080 \
        fastinter 200ms downinter 500ms check inter 2s rise 3 fall 2; enable health shop/b; enable server shop/b";
    assert_eq!(planned(&live(), &change, &said), commands(&[line]));
}

#[test]
fn what_needs_a_file_needs_a_reload() {
    let tcp = |port: &str| service("shop", &[instance("a", "10.0.0.1", 80, &[("listen-port", port)])]);
    let web = shop(&[http("a", "10.0.0.1", 80)]);
    for change in [
        new(tcp("8000")),
        Change { before: Some(tcp("8000")), after: Some(tcp("8001")) },
        Change { before: Some(tcp("8000")), after: Some(web.clone()) },
        Change { before: Some(web.clone()), after: Some(tcp("8000")) },
    ] {
        let change = [change];
        assert_eq!(queries(&live(), &change).unwrap(), ["show info; show version"]);
        assert_eq!(planned(&live(), &change, &[]), LivePlan::Reload);
    }
    let acl = settings(r#"{"routing": "acl", "socket": "/s"}"#);
    assert_eq!(planned(&acl, &[new(web.clone())], &[]), LivePlan::Reload);
    let twin = service("twin", &[http("a", "10.0.0.1", 80)]);
    assert_eq!(planned(&live(), &[new(web), new(twin)], &[]), LivePlan::Reload, "both want shop.example");
    let mut leaving = http("a", "10.0.0.1", 80);
    leaving.readiness = Readiness::Draining;
    for lines in
        ["balance source", "hash-type map-based", "default-server source \"10.0.0.1\"", "default-server disabled"]
    {
        let json = serde_json::json!({"socket": "/s", "defaults-lines": [lines]}).to_string();
        assert_eq!(planned(&settings(&json), &[new(shop(&[leaving.clone()]))], &[]), LivePlan::Reload, "{lines}");
    }
}

#[test]
fn servers_that_are_added_have_the_operators_defaults() {
    let own = settings(
        r#"{"socket": "/s", "check": false, "defaults-lines": ["default-server weight 5 maxconn 9", "default-server check ssl verify none"]}"#,
    );
    let mut heavy = http("b", "10.0.0.2", 80);
    heavy.weight = Some(5);
    let rows = rows("shop", &[("b", "10.0.0.2", 0, 5, 6, "-", 80), ("c", "::1", 8, 1, 2, "-", 81)]);
    let said = [("show servers state shop", rows.as_str()), ("show servers conn shop", CONNECTIONS), (ROUTE, FOUND)];
    let wanted = shop(&[http("a", "10.0.0.1", 80), heavy, http("c", "::1", 80)]);
    let line = "add server shop/a 10.0.0.1:80 fastinter 200ms downinter 500ms weight 5 maxconn 9 check ssl verify none; \
        enable health shop/a; enable server shop/a; set server shop/c state maint; set server shop/c addr ::1 port 80; \
        set server shop/c weight 5; enable health shop/c";
    assert_eq!(planned(&own, &[same(wanted.clone())], &said), commands(&[line]), "its address counts a moment later");
    let older = [&said[..], &[("show version", "2.6.12\n")]].concat();
    assert_eq!(planned(&own, &[same(wanted)], &older), commands(&[&format!("{line}; set server shop/c state ready")]));
}

#[test]
fn nothing_to_ask_and_what_is_refused() {
    let udp = instance("a", "10.0.0.1", 53, &[("protocol", "udp")]);
    let udp = shop(&[udp]);
    let none = [new(udp.clone()), Change { before: Some(udp), after: None }];
    assert_eq!(queries(&live(), &none).unwrap(), Vec::<String>::new());
    assert_eq!(planned(&live(), &none, &[]), commands(&[]));
    let refused = [new(service("waypost-standby-7", &[http("a", "10.0.0.1", 80)]))];
    assert!(matches!(queries(&live(), &refused), Err(PluginError::InvalidInput(_))));
    assert!(matches!(plan(&live(), &node(), &refused, &[]), Err(PluginError::InvalidInput(_))));
    assert!(Haproxy::SCHEMA.contains("standby-backends"));
}

#[test]
fn every_service_has_candidates_of_its_own() {
    for standbys in [0, 1, 4, 8, 9, 32, 1000] {
        for name in ["shop", "a", "team_app"] {
            let candidates = standby::candidates(standbys, name);
            assert_eq!(candidates, standby::candidates(standbys, name));
            assert_eq!(candidates.len(), usize::from(standbys.min(8)), "{standbys}");
            let mut unique = candidates.clone();
            unique.sort();
            unique.dedup();
            assert_eq!(unique.len(), candidates.len());
            let number = |name: &String| name.strip_prefix("waypost-standby-").unwrap().parse::<u16>().unwrap();
            assert!(candidates.iter().all(|name| (1..=standbys).contains(&number(name))));
        }
    }
    let counts = (0..3200).flat_map(|number| standby::candidates(32, &format!("s{number}")).into_iter().take(1));
    let mut spread = std::collections::BTreeMap::new();
    counts.for_each(|name| *spread.entry(name).or_insert(0) += 1);
    assert!(spread.len() == 32 && spread.values().all(|count| (50..200).contains(count)), "{spread:?}");
}
