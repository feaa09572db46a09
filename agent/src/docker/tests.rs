use std::sync::Arc;

use bollard::models::{ContainerInspectResponse, EventMessage};

use super::convert::container;
use super::session::{Hint, hint};
use crate::model::{Health, Transport};

fn event(text: &str) -> Option<Hint> {
    hint(&serde_json::from_str::<EventMessage>(text).unwrap())
}

fn id(text: &str) -> Arc<str> {
    text.into()
}

#[test]
fn events_become_hints() {
    let with = |action: &str, attributes: &str| {
        event(&format!(
            r#"{{"Type":"container","Action":{action:?},"Actor":{{"ID":"abc","Attributes":{attributes}}}}}"#
        ))
    };
    assert_eq!(with("start", "{}"), Some(Hint::Inspect(id("abc"))));
    assert_eq!(with("health_status: unhealthy", "{}"), Some(Hint::Inspect(id("abc"))));
    assert_eq!(with("die", r#"{"exitCode":"137"}"#), Some(Hint::Gone(id("abc"))));
    assert_eq!(with("kill", r#"{"signal":"15"}"#), Some(Hint::Signalled(id("abc"), 15)));
    // Labels share the attributes: one named `signal` hides the real one and must not matter more than that.
    assert_eq!(with("kill", r#"{"signal":"bogus\n"}"#), None);
    assert_eq!(with("exec_create: sh -c secret", "{}"), None);
    assert_eq!(with("connect", r#"{"container":"def","name":"backend"}"#), Some(Hint::InspectKnown(id("def"))));
}

/// As Docker 20.10 answers, cut to what is read.
const INSPECTED: &str = r#"{
  "Id": "736ab83847bb12dddd8b09969433f3a02d64d5b0be48f7a5c59a594e3a6a3541", "Name": "/whoami",
  "State": {"Status": "running", "Running": true, "Paused": false, "StartedAt": "2014-07-15T10:00:00.5Z",
            "Health": {"Status": "starting"}},
  "HostConfig": {"NetworkMode": "default"},
  "Config": {"Hostname": "736ab83847bb", "Image": "jwilder/whoami", "Env": ["PORT=8000", "EMPTY", "A=b=c"],
             "Labels": {"team": "a\nb"}, "ExposedPorts": {"8000/tcp": {}, "9999/udp": {}}, "StopSignal": "SIGQUIT"},
  "NetworkSettings": {
    "Ports": {"8000/tcp": [{"HostIp": "::", "HostPort": "49153"}, {"HostIp": "0.0.0.0", "HostPort": "49153"}],
              "8001/tcp": null, "x/tcp": null},
    "Networks": {"zeta": {"IPAddress": "172.18.0.2", "GlobalIPv6Address": "fd00::2"}, "bridge": {"IPAddress": ""}}
  }
}"#;

#[test]
fn an_inspected_container_is_read_whole() {
    let found = container(serde_json::from_str::<ContainerInspectResponse>(INSPECTED).unwrap()).unwrap();
    let container = found.container;
    assert_eq!((container.name.as_str(), container.short_id()), ("whoami", "736ab83847bb"));
    assert_eq!(container.started_at, 1_405_418_400_500);
    assert_eq!(container.health, Health::Starting);
    assert_eq!(found.stop_signal, 3);
    let variables: Vec<_> = container.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(variables, ["A=b=c", "EMPTY=", "PORT=8000"]);
    let ports: Vec<_> = container
        .ports
        .iter()
        .map(|port| (port.container_port, port.transport, port.host_address.as_deref(), port.host_port))
        .collect();
    let expected = [
        (8000, Transport::Tcp, Some("0.0.0.0"), Some(49153)),
        (8000, Transport::Tcp, Some("::"), Some(49153)),
        (8001, Transport::Tcp, None, None),
        (9999, Transport::Udp, None, None),
    ];
    assert_eq!(ports, expected);
    let networks: Vec<_> =
        container.attachments.iter().map(|net| (net.network.as_str(), net.addresses.len())).collect();
    assert_eq!(networks, [("bridge", 0), ("zeta", 2)]);
}

#[test]
fn what_does_not_run_is_no_container() {
    let mut stopped: ContainerInspectResponse = serde_json::from_str(INSPECTED).unwrap();
    stopped.state.as_mut().unwrap().running = Some(false);
    assert!(container(stopped).is_none());
    assert!(container(ContainerInspectResponse::default()).is_none());
}

#[tokio::test]
async fn an_engine_that_is_away_is_named() {
    for endpoint in ["unix:///nowhere/docker.sock", "tcp://127.0.0.1:1"] {
        let error = format!("{:#}", super::version(endpoint).await.unwrap_err());
        assert!(error.contains(endpoint), "{error}");
    }
}
