//! Entries of the map that others have or share.

use waypost_plugin_sdk::{Change, Instance, LivePlan, Service};

use super::{CONNECTIONS, FOUND, HEADER, ROUTE, commands, http, live, new, planned, same, shop};
use crate::tests::{instance, service};

const HERE: [(&str, &str); 4] = [
    ("show servers state shop", HEADER),
    ("show servers conn shop", CONNECTIONS),
    ("show servers state blog", HEADER),
    ("show servers conn blog", CONNECTIONS),
];

fn said(changes: &[Change], maps: &[(&str, &str)]) -> LivePlan {
    let out = |service: &mut Option<Service>| {
        // No servers, so that only routes are spoken of.
        for instance in service.iter_mut().flat_map(|service| &mut service.instances) {
            instance.readiness = waypost_plugin_sdk::Readiness::Gone;
        }
    };
    let mut changes = changes.to_vec();
    changes.iter_mut().for_each(|change| {
        out(&mut change.before);
        out(&mut change.after);
    });
    planned(&live(), &changes, &[&HERE[..], maps].concat())
}

fn found(key: &str, value: &str) -> String {
    format!("type=beg, case=sensitive, found=yes, idx=tree, key=\"{key}\", value=\"{value}\", type=\"str\"\n")
}

#[test]
fn who_is_entitled_takes_the_route_and_who_is_not_leaves_it() {
    let web = shop(&[http("a", "10.0.0.1", 80)]);
    let elsewhere = found("shop.example/", "blog");
    let take = commands(&["set map routes.map shop.example/ shop"]);
    assert_eq!(said(&[same(web.clone())], &[(ROUTE, &elsewhere)]), take);
    let blog = service("blog", &[http("b", "10.0.0.2", 80)]);
    let loses = Change { before: Some(blog), after: None };
    assert_eq!(said(&[loses.clone(), same(web.clone())], &[(ROUTE, &elsewhere)]), take, "in one call");
    assert_eq!(said(std::slice::from_ref(&loses), &[(ROUTE, FOUND)]), commands(&[]), "later: it is shop's by now");
    assert_eq!(said(&[loses], &[(ROUTE, &elsewhere)]), commands(&["del map routes.map shop.example/"]));
    let both = [new(web), new(service("twin", &[http("b", "10.0.0.2", 80)]))];
    assert_eq!(said(&both, &[]), LivePlan::Reload, "two cannot have it");
}

#[test]
fn an_answer_has_a_line_for_each_way_to_look() {
    let web = [same(shop(&[http("a", "10.0.0.1", 80)]))];
    let beg = found("shop.example", "other");
    let twice = format!("{beg}{}", found("shop.example/", "shop").replace("=beg", "=str"));
    assert_eq!(said(&web, &[(ROUTE, &twice)]), commands(&[]));
    let none = format!("{beg}type=str, case=sensitive, found=no\n");
    assert_eq!(said(&web, &[(ROUTE, &none)]), commands(&["add map routes.map shop.example/ shop"]));
}

fn api(id: &str, path: &str) -> Instance {
    instance(id, "10.0.0.1", 80, &[("protocol", "http"), ("domain", "shop.example"), ("path", path)])
}

#[test]
fn a_domain_without_its_root_is_marked() {
    let (shop, blog) = (shop(&[api("a", "/api")]), service("blog", &[api("b", "/blog")]));
    let marked = found("shop.example//", ".");
    let marker = ("get map routes.map shop.example//", marked.as_str());
    let line = "add map routes.map shop.example/blog/ blog; add map routes.map shop.example// .; \
        add map routes.map shop.example/api/ shop";
    assert_eq!(said(&[same(blog.clone()), same(shop.clone())], &[]), commands(&[line]), "one for both");
    let line = "add map routes.map shop.example/api/ shop";
    assert_eq!(said(&[same(shop.clone())], &[marker]), commands(&[line]));
    let other = found("shop.example//", "stray");
    let line = "add map routes.map shop.example/api/ shop; set map routes.map shop.example// .";
    assert_eq!(said(&[same(shop.clone())], &[(marker.0, &other)]), commands(&[line]));

    let own = found("shop.example/api/", "shop");
    let here = [("get map routes.map shop.example/api/", own.as_str()), marker];
    let gone = [Change { before: Some(shop.clone()), after: None }];
    let line = "del map routes.map shop.example/api/".to_owned();
    assert_eq!(said(&gone, &here), LivePlan::CommandsAndReload(vec![line]), "blog may need the marker");
    assert_eq!(said(&gone, &[marker]), commands(&[]), "asked for once");
    let whole = service("shop", &[api("a", "/api"), api("b", "/")]);
    let line = "add map routes.map shop.example/ shop";
    let grows = [Change { before: Some(shop), after: Some(whole) }];
    assert_eq!(said(&grows, &here), commands(&[line]), "with the root nobody looks for the marker");
}
