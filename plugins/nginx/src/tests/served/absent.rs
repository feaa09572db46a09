//! Services whose instances have left, and the one for domains that nobody has.

use waypost_plugin_sdk::Service;
use waypost_test_support::free_port;

use super::super::nginx::Running;
use super::super::{compose, draining, gone, instance, over_udp, service, settings};
use super::peers::{self, Client, datagrams, greeter, web};
use super::{front, http, who};
use crate::Settings;

/// The service without its instances.
fn left(service: Service) -> Service {
    let instances = service.instances.into_iter().map(gone).collect();
    Service { instances, ..service }
}

#[test]
fn nobody_else_answers_for_a_service_that_has_left() {
    let port = free_port();
    let default = Settings { default_service: Some("default".to_owned()), ..front(port) };
    let api = http("api", web("api"), "shop.example", "/api");
    let named = http("named", web("named"), "named.example", "/");
    let wild = http("wild", web("wild"), "*.example.com", "/");
    let mut services = vec![
        http("shop", web("shop"), "shop.example,*.example", "/"),
        http("default", web("default"), "default.test", "/"),
        api.clone(),
        named.clone(),
        wild.clone(),
    ];
    let nginx = Running::start(&compose(&default, &services).0);
    let asked = [("shop.example", "/api/x"), ("named.example", "/"), ("a.example.com", "/"), ("nobody.test", "/")];
    let answers = || asked.map(|(host, path)| who(port, host, path));
    assert_eq!(answers(), ["api", "named", "wild", "default"]);
    services.truncate(2);
    services.extend([left(api.clone()), left(named.clone()), left(wild)]);
    nginx.reload(&compose(&default, &services).0);
    assert_eq!(answers(), ["503", "503", "503", "default"]);
    services.truncate(2);
    services.extend([api, service("named", &[draining(named.instances[0].clone())])]);
    nginx.reload(&compose(&default, &services).0);
    assert_eq!(answers(), ["api", "503", "default", "default"], "one is back, the last is forgotten");
    services.remove(1);
    nginx.reload(&compose(&default, &services).0);
    assert_eq!(answers(), ["api", "503", "503", "503"], "nobody answers for the default service");
}

#[test]
fn ports_of_those_that_have_left_are_kept_and_closed() {
    let (tcp, udp) = (free_port(), free_port());
    let by_tcp = instance("a", "127.0.0.1", greeter("db"), &[("listen-port", &tcp.to_string())]);
    let by_udp = over_udp(instance("a", "127.0.0.1", datagrams("dns"), &[("listen-port", &udp.to_string())]));
    let services = [service("db", &[by_tcp]), service("dns", &[by_udp])];
    let nginx = Running::start(&compose(&front(free_port()), &services.clone().map(left)).0);
    assert_eq!(Client::new(tcp).line(), "", "the connection is closed");
    assert!(std::net::UdpSocket::bind(("127.0.0.1", udp)).is_err(), "the port is given away");
    nginx.reload(&compose(&front(free_port()), &services).0);
    assert_eq!(Client::new(tcp).line(), "db");
    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(peers::PATIENCE)).unwrap();
    client.send_to(b"one", ("127.0.0.1", udp)).unwrap();
    let mut buffer = [0; 64];
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"dns one");
}

#[test]
fn a_bad_request_is_nobodys() {
    let port = free_port();
    let shop = http("shop", web("shop"), "shop.example", "/");
    let leaving = http("leaving", web("leaving"), "leaving.example", "/");
    let services = [shop, left(leaving)];
    for default in [None, Some("shop".to_owned())] {
        let nginx = Running::start(&compose(&Settings { default_service: default, ..front(port) }, &services).0);
        for host in ["shop.example", "leaving.example", "nobody.test"] {
            for path in ["/x/../y", "/%2e", "/%00"] {
                assert_eq!(who(port, host, path), "400", "{host}{path}: {}", nginx.log());
            }
            for more in [",x", "/x", "%20", "@x", " x"] {
                assert_eq!(who(port, &format!("{host}{more}"), "/"), "400", "{host}{more}: {}", nginx.log());
            }
        }
    }
    let quiet = settings(&format!(r#"{{"http-bind": "127.0.0.1:{port}", "default-server": false}}"#));
    let _nginx = Running::start(&compose(&quiet, &services).0);
    assert_eq!(who(port, "shop.example", "/.."), "400");
}
