//! Who has what when two services want the same, and what stands where.

use waypost_plugin_sdk::Service;

use super::{compose, draining, instance, over_udp, service, settings, with_streams};

fn http(name: &str, facts: &[(&str, &str)]) -> Service {
    let facts: Vec<(&str, &str)> = facts.iter().copied().chain([("protocol", "http")]).collect();
    service(name, &[instance("a", "10.0.0.1", 80, &facts)])
}

fn tcp(name: &str, port: &str) -> Service {
    service(name, &[instance("a", "10.0.0.1", 80, &[("listen-port", port)])])
}

fn udp(name: &str, port: &str) -> Service {
    service(name, &[over_udp(instance("a", "10.0.0.1", 80, &[("listen-port", port)]))])
}

#[test]
fn one_port_one_service() {
    let services = [tcp("a", "8000"), tcp("b", "8000"), udp("c", "8000"), udp("d", "8000"), tcp("e", "1")];
    assert_eq!(compose(&with_streams(""), &services).1, ["b", "d"]);
}

#[test]
fn one_name_one_service() {
    let domain = [("domain", "x.example")];
    let services =
        [http("A", &domain), http("a", &domain), http("a/b", &domain), http("a:b", &domain), http("a_b", &domain)];
    assert_eq!(compose(&settings("{}"), &services).1, ["a", "a/b", "a:b", "a_b"]);
    let others = [("domain", "y.example")];
    assert_eq!(compose(&settings("{}"), &[http("A", &domain), http("a", &others)]).1, ["a"]);
    assert_eq!(compose(&with_streams(""), &[http("a", &domain), tcp("A", "1"), udp("a:b", "1")]).1.len(), 0);
}

#[test]
fn one_domain_and_path_one_service() {
    let services = [
        http("a", &[("domain", "x.example,*.y.example")]),
        http("b", &[("domain", "X.example"), ("path", "/")]),
        http("c", &[("domain", "x.example"), ("path", "/api")]),
        http("d", &[("domain", "x.example"), ("path", "/api/,/other")]),
        http("e", &[("domain", "*.y.example")]),
        http("f", &[("domain", "y.example")]),
    ];
    let (files, held_back) = compose(&settings("{}"), &services);
    assert_eq!(held_back, ["b", "e"], "d has a path of its own");
    let wanted = |line: &&str| line.contains("server_name") || line.contains("location") || *line == "}";
    let lines: Vec<&str> = files["http.conf"].lines().filter(wanted).collect();
    let (_, servers) = lines.split_at(lines.iter().position(|line| line.contains("server_name")).unwrap());
    let expected = [
        "    server_name x.example;",
        "    location / { proxy_pass http://a.waypost; }",
        "    location = /api { proxy_pass http://c.waypost; }",
        "    location /api/ { proxy_pass http://c.waypost; }",
        "    location = /other { proxy_pass http://d.waypost; }",
        "    location /other/ { proxy_pass http://d.waypost; }",
        "}",
        "    server_name y.example;",
        "    location / { proxy_pass http://f.waypost; }",
        "}",
        r"    server_name ~^[^.]+\.y\.example$;",
        "    location / { proxy_pass http://a.waypost; }",
        "}",
    ];
    assert_eq!(servers, expected);
}

#[test]
fn a_service_without_a_ready_instance_keeps_what_is_its() {
    let facts = [("protocol", "http"), ("domain", "x.example")];
    let leaving = |name| service(name, &[draining(instance("a", "10.0.0.1", 80, &facts))]);
    assert_eq!(compose(&settings("{}"), &[leaving("a"), leaving("b"), http("c", &facts[1..])]).1, ["b", "c"]);
}

#[test]
fn services_that_share_a_domain_share_its_server() {
    let mut services: Vec<Service> = ["0", "a", "a-b", "a.b", "a_b", "ab", "~"]
        .iter()
        .map(|path| http(&format!("s{path}").replace('~', "t"), &[("domain", "x.y"), ("path", &format!("/{path}"))]))
        .collect();
    services.push(http("x.y-z", &[]));
    services.push(http("x.y.z", &[]));
    services.push(http("root", &[("domain", "x.y")]));
    let (files, held_back) = compose(&settings("{}"), &services);
    assert!(held_back.is_empty());
    let text = &files["http.conf"];
    assert_eq!(text.matches("    server_name x.y;\n").count(), 1, "{text}");
    let server = text.split("    server_name x.y;\n").nth(1).unwrap().split("\n}\n").next().unwrap();
    assert_eq!(server.matches("location = /").count(), 7, "{text}");
    assert_eq!(text.matches("location ").count(), 18, "{text}");
}
