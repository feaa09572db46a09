//! What only one service can have, what becomes of one that is denied something, and what stays of one that is gone.

use waypost_plugin_sdk::{Fragment, Readiness, Rendering, Service};

use super::{compose, instance, node, refusal, service, settings, text};
use crate::render;

const BOTH: [&str; 2] = ["{}", r#"{"routing": "acl"}"#];

fn http(name: &str, domains: &str, paths: &str) -> Service {
    let facts = [("domain", domains), ("path", paths), ("protocol", "http")];
    service(name, &[instance("a", "10.0.0.1", 80, &facts)])
}

fn tcp(name: &str, port: &str) -> Service {
    service(name, &[instance("a", "10.0.0.1", 80, &[("listen-port", port)])])
}

fn denied(service: &Service, claims: &[&str]) -> Service {
    Service { denied: claims.iter().map(|&claim| claim.to_owned()).collect(), ..service.clone() }
}

fn gone(service: &Service) -> Service {
    let mut gone = service.clone();
    gone.instances.iter_mut().for_each(|instance| instance.readiness = Readiness::Gone);
    gone
}

fn claims(service: &Service) -> Vec<String> {
    render(&settings("{}"), &node(), service).unwrap().claims
}

/// Keys and text of the map.
fn routes(service: &Service) -> String {
    text(&settings("{}"), service, "routes.map")
}

#[test]
fn every_claim_has_its_words() {
    let shop = http("team/shop", "Shop.example,*.b.example", "/,/api/");
    let expected = [
        "domain *.b.example",
        "domain *.b.example path /api",
        "domain shop.example",
        "domain shop.example path /api",
        "section team_shop",
    ];
    assert_eq!(claims(&shop), expected);
    assert_eq!(claims(&tcp("team/db", "5432")), ["port 5432", "section team_db"]);
    for json in BOTH {
        assert_eq!(render(&settings(json), &node(), &shop).unwrap().claims, expected, "{json}");
    }
    let chosen = settings(r#"{"default-service": "team/shop"}"#);
    assert_eq!(render(&chosen, &node(), &shop).unwrap().claims, expected, "the settings say who is the default");
    assert_eq!(render(&settings("{}"), &node(), &service("none", &[])), Ok(Rendering::default()));
}

#[test]
fn a_denied_route_is_left_out_and_the_rest_stays() {
    let shop = http("shop", "shop.example,b.example", "/,/api");
    let less = denied(&shop, &["domain shop.example", "domain b.example path /api", "domain other.example", "port 1"]);
    assert_eq!(claims(&less), claims(&shop));
    assert_eq!(routes(&less), "b.example/ shop\nshop.example// .\nshop.example/api/ shop\n");
    let rules = text(&settings(r#"{"routing": "acl"}"#), &less, "haproxy.cfg");
    let rules: Vec<&str> = rules.lines().filter(|line| line.contains("use_backend")).collect();
    assert_eq!(
        rules,
        [
            "    use_backend shop if shop.example { var(txn.path) -m beg /api/ }",
            "    use_backend %[str(.)] if shop.example",
            "    use_backend shop if b.example"
        ]
    );
    let section = |service: &Service| -> Vec<Fragment> {
        let fragments = render(&settings("{}"), &node(), service).unwrap().fragments;
        fragments.into_iter().filter(|fragment| fragment.path == "haproxy.cfg").collect()
    };
    assert_eq!(section(&less), section(&shop));
}

#[test]
fn a_service_that_is_denied_all_it_needs_is_refused() {
    for json in BOTH {
        let settings = settings(json);
        let shop = http("shop", "shop.example", "/,/api");
        let all = denied(&shop, &["domain shop.example", "domain shop.example path /api"]);
        let expected = "service \"shop\": other services have all that leads to it: domain shop.example (and 1 more); \
            give it a domain or path of its own";
        assert_eq!(refusal(&settings, &all), expected);
        let section = refusal(&settings, &denied(&http("a/b", "x.example", ""), &["section a_b"]));
        assert!(section.starts_with("service \"a/b\": another service has the section a_b; "), "{section}");
        let port = refusal(&settings, &denied(&tcp("db", "5432"), &["port 5432"]));
        assert_eq!(port, "service \"db\": another service has the port 5432; give it another listen-port");
    }
    let home = settings(r#"{"default-service": "home"}"#);
    let less = denied(&http("home", "home.test", ""), &["domain home.test"]);
    assert_eq!(text(&home, &less, "routes.map"), "*/ home\n", "it is still the default");
}

#[test]
fn a_domain_without_its_root_path_is_marked() {
    assert_eq!(routes(&http("a", "x.example", "/api,/b")), "x.example// .\nx.example/api/ a\nx.example/b/ a\n");
    assert_eq!(routes(&http("a", "*.x.example", "/api")), "*.x.example// .\n*.x.example/api/ a\n");
    assert_eq!(routes(&http("a", "x.example", "/,/api")), "x.example/ a\nx.example/api/ a\n");
    let services = [http("a", "x.example", "/a"), http("b", "x.example", "/b"), http("c", "x.example", "/")];
    for count in 0..=3 {
        let (files, without) = compose(&settings("{}"), &services[..count]);
        let expected = ["", "x.example/ c\n"][usize::from(count > 2)].to_owned()
            + ["", "x.example// .\n"][usize::from(count > 0)]
            + ["", "x.example/a/ a\n"][usize::from(count > 0)]
            + ["", "x.example/b/ b\n"][usize::from(count > 1)];
        assert_eq!(files["routes.map"].split_once('\n').unwrap().1, expected);
        assert_eq!(without, Vec::<String>::new());
    }
}

#[test]
fn two_services_with_the_same_domain() {
    let services = [http("a", "x.example", ""), http("b", "x.example,y.example", ""), http("c", "y.example", "")];
    let (files, without) = compose(&settings("{}"), &services);
    assert_eq!(without, ["b", "c"]);
    assert!(files["routes.map"].ends_with("\nx.example/ a\ny.example/ b\n"), "{}", files["routes.map"]);
    assert!(files["haproxy.cfg"].contains("\nbackend b\n") && !files["haproxy.cfg"].contains("\nbackend c\n"));
}

#[test]
fn a_service_that_is_gone_keeps_what_leads_to_it() {
    for json in BOTH {
        let settings = settings(json);
        for service in [http("shop", "shop.example", "/api"), tcp("db", "5432")] {
            let here = render(&settings, &node(), &service).unwrap();
            let left = render(&settings, &node(), &gone(&service)).unwrap();
            assert_eq!(left.claims, here.claims);
            let without = |fragments: Vec<Fragment>| -> Vec<Fragment> {
                let server = |line: &&str| !line.starts_with("    server ");
                let text = |fragment: &Fragment| fragment.text.split_inclusive('\n').filter(server).collect();
                fragments.into_iter().map(|fragment| Fragment { text: text(&fragment), ..fragment }).collect()
            };
            assert_ne!(left.fragments, here.fragments);
            assert_eq!(left.fragments, without(here.fragments));
        }
    }
}

#[test]
fn those_that_are_gone_count_for_nothing_beside_others() {
    let mut shop = service(
        "shop",
        &[
            instance("a", "10.0.0.1", 80, &[("listen-port", "8000")]),
            instance("b", "10.0.0.2", 80, &[("domain", "b.example"), ("protocol", "http")]),
            instance("c", "10.0.0.3", 80, &[("domain", "c.example"), ("protocol", "http")]),
        ],
    );
    shop.instances[0].readiness = Readiness::Gone;
    shop.instances[1].readiness = Readiness::Gone;
    let alone = service("shop", &shop.instances[2..]);
    assert_eq!(render(&settings("{}"), &node(), &shop), render(&settings("{}"), &node(), &alone));
    shop.instances[2].readiness = Readiness::Draining;
    assert_eq!(claims(&shop), ["domain c.example", "section shop"]);
}
