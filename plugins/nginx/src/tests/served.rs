//! Requests through a real nginx, to servers of this test.

mod absent;
mod operators;
mod peers;

use waypost_plugin_sdk::{Instance, Service};
use waypost_test_support::{DEADLINE, eventually, free_port, holds};

use super::nginx::Running;
use super::{compose, draining, instance, over_udp, service, settings};
use crate::Settings;
use peers::{Client, ask, closed_port, datagrams, greeter, web};

/// Settings for a frontend on this port, with one worker so that turns can be counted.
fn front(port: u16) -> Settings {
    settings(&format!(
        r#"{{"stream": "{}", "http-bind": "127.0.0.1:{port}", "tcp-bind": "127.0.0.1", "main-lines": ["worker_processes 1;"]}}"#,
        super::MODULE
    ))
}

fn http(name: &str, port: u16, domain: &str, path: &str) -> Service {
    service(name, &[member("a", port, domain, path)])
}

fn member(id: &str, port: u16, domain: &str, path: &str) -> Instance {
    instance(id, "127.0.0.1", port, &[("protocol", "http"), ("domain", domain), ("path", path)])
}

/// Who answers, of whom only the first line of the body counts.
fn who(port: u16, host: &str, path: &str) -> String {
    let (status, body) = ask(port, "GET", host, path);
    if status == 200 { body.lines().next().unwrap_or_default().to_owned() } else { status.to_string() }
}

#[test]
fn domains_and_paths() {
    let port = free_port();
    let services = [
        http("root", web("root"), "shop.example,*.shop.example", "/"),
        http("api", web("api"), "shop.example", "/api"),
        http("v2", web("v2"), "shop.example", "/api/v2,/static"),
        http("deep", web("deep"), "a.b.shop.example", "/"),
        http("fragment", web("fragment"), "fragment.example", "/only"),
        http("long", web("long"), &format!("{}.example", "x".repeat(60)), "/"),
        http("wild", web("wild"), "*.example,*.shop.example.com", "/"),
        http("named", web("named"), "feature-626-time-management-for-support.shop.example.com", "/api"),
    ];
    let nginx = Running::start(&compose(&front(port), &services).0);
    let long = format!("{}.example", "X".repeat(60));
    for (host, path, expected) in [
        ("shop.example", "/", "root"),
        ("SHOP.example:8080", "/x?api", "root"),
        ("shop.example", "/api", "api"),
        ("shop.example", "/api/", "api"),
        ("shop.example", "/api?x=/", "api"),
        ("shop.example", "/api/x", "api"),
        ("shop.example", "/apix", "root"),
        ("shop.example", "/api/v2", "v2"),
        ("shop.example", "/api/v2/x", "v2"),
        ("shop.example", "/api/v20", "api"),
        ("shop.example", "/static/x.css", "v2"),
        ("www.shop.example", "/api", "root"),
        ("a.b.shop.example", "/", "deep"),
        ("c.b.shop.example", "/", "503"),
        ("xshop.example", "/", "wild"),
        ("xshop.example.com", "/", "503"),
        ("fragment.example", "/only", "fragment"),
        ("fragment.example", "/", "503"),
        ("fragment.example", "/only.txt", "503"),
        ("nobody.test", "/", "503"),
        (&long, "/", "long"),
        (&format!("{long}.:80"), "/", "long"),
        (&format!("x{long}"), "/", "wild"),
        ("feature-626-time-management-for-support.shop.example.com", "/api/x", "named"),
        ("feature-626-time-management-for-support.shop.example.com", "/", "503"),
        ("feature-627-time-management-for-support.shop.example.com", "/", "wild"),
    ] {
        assert_eq!(who(port, host, path), expected, "{host}{path}: {}", nginx.log());
    }
    let (_, body) = ask(port, "GET", "shop.example:8080", "/a%20b?c=d");
    for header in ["GET /a%20b?c=d HTTP/1.1", "Host: shop.example:8080", "X-Real-IP: 127.0.0.1"] {
        assert!(body.contains(header), "no {header} in {body}");
    }
    for header in ["X-Forwarded-For: 9.9.9.9, 127.0.0.1", "X-Forwarded-Proto: http\n"] {
        assert!(body.contains(header), "no {header} in {body}");
    }
    assert!(!body.contains("Connection:") && !body.contains("Upgrade:"), "{body}");
}

#[test]
fn a_websocket_goes_through_and_outlives_a_reload() {
    let port = free_port();
    let web = http("chat", web("chat"), "chat.example", "/");
    let nginx = Running::start(&compose(&front(port), std::slice::from_ref(&web)).0);
    let mut client = Client::new(port);
    client.say(
        "GET /socket HTTP/1.1\r\nHost: chat.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.line(), "HTTP/1.1 101 Switching Protocols");
    let headers: Vec<String> = std::iter::from_fn(|| Some(client.line()).filter(|line| !line.is_empty())).collect();
    assert!(headers.iter().any(|line| line == "Upgrade: websocket"), "{headers:?}");
    client.say("one\n");
    assert_eq!(client.line(), "one");
    let leaving = service("chat", &[draining(web.instances[0].clone())]);
    nginx.reload(&compose(&front(port), &[leaving]).0);
    assert_eq!(who(port, "chat.example", "/"), "503", "nothing new arrives at an instance that drains");
    client.say("two\n");
    assert_eq!(client.line(), "two", "what is open goes on");
}

#[test]
fn weights_are_kept_and_dead_instances_skipped() {
    let port = free_port();
    let mut heavy = member("heavy", web("heavy"), "shop.example", "/");
    heavy.weight = Some(3);
    let light = member("light", web("light"), "shop.example", "/");
    let leaving = draining(member("leaving", web("leaving"), "shop.example", "/"));
    let shop = [heavy.clone(), leaving, light.clone()];
    let nginx = Running::start(&compose(&front(port), &[service("shop", &shop)]).0);
    let answers = |method: &str| -> Vec<String> {
        (0..40).map(|_| ask(port, method, "shop.example", "/").1.lines().next().unwrap_or_default().into()).collect()
    };
    let seen = answers("GET");
    let count = |name: &str| seen.iter().filter(|answer| *answer == name).count();
    assert_eq!((count("heavy"), count("light")), (30, 10), "{seen:?}");

    let dead = member("dead", closed_port(), "shop.example", "/");
    nginx.reload(&compose(&front(port), &[service("shop", &[dead.clone(), heavy, light])]).0);
    for method in ["GET", "POST"] {
        let seen = answers(method);
        assert!(seen.iter().all(|answer| ["heavy", "light"].contains(&answer.as_str())), "{method}: {seen:?}");
    }
    nginx.reload(&compose(&front(port), &[service("shop", &[dead])]).0);
    assert_eq!(who(port, "shop.example", "/"), "502");
    nginx.reload(&compose(&front(port), &[]).0);
    assert_eq!(who(port, "shop.example", "/"), "503");
}

#[test]
fn streams() {
    let (http_port, tcp, udp) = (free_port(), free_port(), free_port());
    let number = tcp.to_string();
    let on = |id: &str, port| instance(id, "127.0.0.1", port, &[("listen-port", &number)]);
    let (first, second) = (on("a", greeter("first")), on("b", greeter("second")));
    let dns = over_udp(instance("a", "127.0.0.1", datagrams("dns"), &[("listen-port", &udp.to_string())]));
    let services = [service("db", &[first.clone(), second.clone()]), service("dns", &[dns])];
    let nginx = Running::start(&compose(&front(http_port), &services).0);
    let mut open: Vec<Client> = (0..4).map(|_| Client::new(tcp)).collect();
    let seen: Vec<String> = open.iter_mut().map(Client::line).collect();
    assert_eq!(seen, ["first", "second", "first", "second"]);

    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(peers::PATIENCE)).unwrap();
    let mut buffer = [0; 64];
    for query in ["one", "two"] {
        client.send_to(query.as_bytes(), ("127.0.0.1", udp)).unwrap();
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(std::str::from_utf8(&buffer[..length]).unwrap(), format!("dns {query}"));
    }

    nginx.reload(&compose(&front(http_port), &[service("db", &[draining(first), second])]).0);
    let seen: Vec<String> = (0..4).map(|_| Client::new(tcp).line()).collect();
    assert_eq!(seen, ["second"; 4]);
    open[0].say("still here\n");
    assert_eq!(open[0].line(), "still here");
    nginx.reload(&compose(&front(http_port), &[]).0);
    eventually(DEADLINE, "the port is given back", || {
        holds(std::net::TcpStream::connect(("127.0.0.1", tcp)).is_err(), "a connection")
    });
}
