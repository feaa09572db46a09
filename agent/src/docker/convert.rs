//! From the engine's words to ours.

use std::time::{Duration, UNIX_EPOCH};

use bollard::models::{ContainerInspectResponse, HealthStatusEnum, NetworkSettings};

use super::found::Found;
use crate::model::{Attachment, Container, Health, Port, Transport};

/// SIGTERM, what the engine sends when nothing else is said.
const SIGTERM: u8 = 15;
/// How long the engine waits between the stop signal and the kill when nothing else is said.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest that a container is believed to be stopping.
const LONGEST_STOP: Duration = Duration::from_hours(24);

/// The container, when it runs.
pub(super) fn container(inspected: ContainerInspectResponse) -> Option<Found> {
    let state = inspected.state?;
    if !state.running.unwrap_or(false) || state.restarting.unwrap_or(false) {
        return None;
    }
    let config = inspected.config.unwrap_or_default();
    let health = match state.health.and_then(|health| health.status) {
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
        _ => Health::Unchecked,
    };
    let network = inspected.network_settings.unwrap_or_default();
    let environment = config.env.unwrap_or_default();
    let container = Container {
        id: inspected.id?,
        name: inspected.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        hostname: config.hostname.unwrap_or_default(),
        image: config.image.or(inspected.image).unwrap_or_default(),
        network_mode: inspected.host_config.and_then(|host| host.network_mode).unwrap_or_default(),
        labels: config.labels.unwrap_or_default().into_iter().collect(),
        environment: environment.iter().map(|line| split_variable(line)).collect(),
        ports: ports(&network, &config.exposed_ports.unwrap_or_default()),
        attachments: attachments(&network),
        health,
        started_at: state.started_at.as_deref().map_or(0, milliseconds),
        paused: state.paused.unwrap_or(false),
        stopping: false,
    };
    let stop_signal = config.stop_signal.as_deref().map_or(SIGTERM, signal_number);
    // -1 means to wait for ever.
    let wait = |seconds| u64::try_from(seconds).map_or(LONGEST_STOP, Duration::from_secs).min(LONGEST_STOP);
    Some(Found { container, stop_signal, stop_timeout: config.stop_timeout.map_or(STOP_TIMEOUT, wait) })
}

fn split_variable(line: &str) -> (String, String) {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    (name.to_owned(), value.to_owned())
}

fn milliseconds(time: &str) -> u64 {
    let time = humantime::parse_rfc3339_weak(time).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    time.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(0)
}

/// Number of a signal as `STOPSIGNAL` spells it; the usual one when it is unknown.
fn signal_number(text: &str) -> u8 {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "KILL" => 9,
        "USR1" => 10,
        "USR2" => 12,
        "TERM" => SIGTERM,
        "WINCH" => 28,
        "PWR" => 30,
        _ if name.starts_with("RTMIN+") => name[6..].parse::<u8>().map_or(SIGTERM, |offset| offset.saturating_add(34)),
        _ => name.parse().unwrap_or(SIGTERM),
    }
}

/// `8000/tcp` and its bindings, one port each; the exposed ones without bindings too.
fn ports(network: &NetworkSettings, exposed: &[String]) -> Vec<Port> {
    let mut ports = Vec::new();
    let published = network.ports.iter().flatten();
    for (name, bindings) in published {
        let Some((container_port, transport)) = split_port(name) else { continue };
        let bindings = bindings.as_deref().unwrap_or_default();
        if bindings.is_empty() {
            ports.push(Port { container_port, transport, host_address: None, host_port: None });
        }
        for binding in bindings {
            let host_port = binding.host_port.as_deref().and_then(|port| port.parse().ok()).filter(|port| *port != 0);
            let host_address = host_port.and_then(|_| binding.host_ip.clone());
            ports.push(Port { container_port, transport, host_address, host_port });
        }
    }
    for name in exposed {
        let Some((container_port, transport)) = split_port(name) else { continue };
        if !ports.iter().any(|port| port.container_port == container_port && port.transport == transport) {
            ports.push(Port { container_port, transport, host_address: None, host_port: None });
        }
    }
    ports.sort_by(|a, b| {
        let key = |port: &Port| (port.container_port, port.transport, port.host_address.clone(), port.host_port);
        key(a).cmp(&key(b))
    });
    ports
}

fn split_port(name: &str) -> Option<(u16, Transport)> {
    let (number, transport) = name.split_once('/').unwrap_or((name, "tcp"));
    let transport = match transport {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        "sctp" => Transport::Sctp,
        _ => return None,
    };
    Some((number.parse().ok().filter(|port| *port != 0)?, transport))
}

fn attachments(network: &NetworkSettings) -> Vec<Attachment> {
    let mut attachments: Vec<_> = network
        .networks
        .iter()
        .flatten()
        .map(|(name, endpoint)| Attachment {
            network: name.clone(),
            addresses: [&endpoint.ip_address, &endpoint.global_ipv6_address]
                .into_iter()
                .flatten()
                .filter(|address| !address.is_empty())
                .cloned()
                .collect(),
        })
        .collect();
    attachments.sort_by(|a, b| a.network.cmp(&b.network));
    attachments
}
