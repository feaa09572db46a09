//! What a service claims, and what is left of it when another one has some of that.

use waypost_plugin_sdk::{Instance, PluginError, Service};

use super::{gone, instance, node, over_udp, service, settings, with_streams};
use crate::{Settings, render};

const HTTP: &[(&str, &str)] =
    &[("protocol", "http"), ("domain", "Shop.example,*.shop.example"), ("path", "/,/api/"), ("listen-port", "80")];

fn dns() -> Service {
    let by_tcp = instance("a", "10.0.0.1", 53, &[("listen-port", "53")]);
    service("Team/DNS", &[by_tcp.clone(), over_udp(by_tcp)])
}

fn claims(settings: &Settings, service: &Service) -> Vec<String> {
    render(settings, &node(), service).unwrap().claims
}

/// The lines of a service that is denied this, which lead to it.
fn left(service: &Service, denied: &[&str]) -> Result<Vec<String>, String> {
    let denied = denied.iter().map(|claim| (*claim).to_owned()).collect();
    let mut fragments = match render(&with_streams(""), &node(), &Service { denied, ..service.clone() }) {
        Ok(rendering) => rendering.fragments,
        Err(PluginError::InvalidInput(reason)) => return Err(reason),
        Err(other) => panic!("{other:?}"),
    };
    fragments.sort_by(|a, b| a.key.cmp(&b.key));
    let leads = |line: &&str| {
        ["server_name ", "location = ", "location / ", "listen "].iter().any(|word| line.starts_with(word))
    };
    let text: String = fragments.into_iter().map(|fragment| fragment.text).collect();
    Ok(text.lines().map(str::trim).filter(leads).map(str::to_owned).collect())
}

#[test]
fn all_that_only_one_service_can_have() {
    let expected = [
        "upstream shop.waypost in http.conf",
        "domain *.shop.example",
        "domain *.shop.example path /api",
        "domain shop.example",
        "domain shop.example path /api",
    ];
    let shop = instance("a", "10.0.0.1", 80, HTTP);
    assert_eq!(claims(&settings("{}"), &service("shop", std::slice::from_ref(&shop))), expected);
    assert_eq!(
        claims(&settings("{}"), &service("shop", &[gone(shop)])),
        expected,
        "also when the last instance has left"
    );
    let expected = [
        "upstream team_dns.waypost in stream.conf",
        "port 53/tcp",
        "upstream team_dns.waypost-udp in stream.conf",
        "port 53/udp",
    ];
    assert_eq!(claims(&with_streams(""), &dns()), expected);
    assert_eq!(claims(&with_streams(""), &service("none", &[])), Vec::<String>::new());
}

#[test]
fn only_the_route_that_is_denied_is_left_out() {
    let shop = service("shop", &[instance("a", "10.0.0.1", 80, HTTP)]);
    let listen = "listen *:80;".to_owned();
    let wild = r"server_name ~^[^.]+\.shop\.example$;";
    let root = "location / { proxy_pass http://shop.waypost; }";
    let path = "location = /api { proxy_pass http://shop.waypost; }";
    let found = left(&shop, &["domain shop.example", "domain *.shop.example path /api"]).unwrap();
    assert_eq!(found, [&listen, "server_name shop.example;", path, &listen, wild, root]);
    let found = left(&shop, &["domain shop.example", "domain shop.example path /api"]).unwrap();
    assert_eq!(found, [&listen, wild, root, path]);
}

#[test]
fn a_service_that_nothing_leads_to_is_refused() {
    let shop = service("shop", &[instance("a", "10.0.0.1", 80, HTTP)]);
    let all = claims(&settings("{}"), &shop);
    let routes: Vec<&str> = all[1..].iter().map(String::as_str).collect();
    let reason = left(&shop, &routes).unwrap_err();
    assert!(reason.contains("domain *.shop.example, domain *.shop.example path /api, domain shop.example and 1 more belong to other services"), "{reason}");
    assert!(reason.contains("give it another domain or path"), "{reason}");
    let reason = left(&shop, &["upstream shop.waypost in http.conf"]).unwrap_err();
    assert!(
        reason.starts_with("service \"shop\": upstream shop.waypost in http.conf belongs to another service; rename"),
        "{reason}"
    );
}

#[test]
fn a_side_that_is_denied_leaves_the_other() {
    let (tcp, udp) = (vec!["listen *:53;".to_owned()], vec!["listen *:53 udp reuseport;".to_owned()]);
    assert_eq!(left(&dns(), &[]).unwrap(), [tcp.clone(), udp.clone()].concat());
    for (denied, expected) in [
        ("port 53/udp", &tcp),
        ("upstream team_dns.waypost-udp in stream.conf", &tcp),
        ("port 53/tcp", &udp),
        ("upstream team_dns.waypost in stream.conf", &udp),
    ] {
        assert_eq!(&left(&dns(), &[denied]).unwrap(), expected, "{denied}");
    }
    let reason = left(&dns(), &["port 53/udp", "port 53/tcp"]).unwrap_err();
    assert!(
        reason.contains("port 53/tcp belongs to another service; give the service another listen-port"),
        "{reason}"
    );
}

#[test]
fn the_default_service_needs_no_domain() {
    let settings = settings(r#"{"default-service": "team/shop"}"#);
    let of = |instances: &[Instance], denied: &[&str]| {
        let denied = denied.iter().map(|claim| (*claim).to_owned()).collect();
        let shop = Service { denied, ..service("team/shop", instances) };
        render(&settings, &node(), &shop).map(|rendering| {
            rendering
                .fragments
                .into_iter()
                .find(|fragment| fragment.key.starts_with("2 default server"))
                .map(|fragment| fragment.text)
        })
    };
    let leads = Ok(Some("    location / { proxy_pass http://team_shop.waypost; }\n".to_owned()));
    let plain = instance("a", "10.0.0.1", 80, &[("protocol", "http")]);
    assert_eq!(of(std::slice::from_ref(&plain), &[]), leads);
    let named = instance("a", "10.0.0.1", 80, &[("protocol", "http"), ("domain", "x.example")]);
    assert_eq!(of(std::slice::from_ref(&named), &["domain x.example"]), leads, "nor one that it gets");
    assert_eq!(of(&[gone(plain)], &[]), Ok(None));
    assert!(of(&[named], &["upstream team_shop.waypost in http.conf"]).is_err());
}
