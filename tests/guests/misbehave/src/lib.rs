//! A grouping plugin that does to its host what the label `misbehave` of a container says, and groups the
//! others by their label `service`.

use std::time::Duration;

wit_bindgen::generate!({ world: "grouping-plugin", path: "../../../wit" });

use exports::waypost::plugin::grouping::{Container, Guest as Grouping, Instance, Node, PluginError, Role};
use exports::waypost::plugin::lifecycle::{Description, Guest as Lifecycle};
use waypost::plugin::logging::{Level, log};
use waypost::plugin::types::{Readiness, Transport};

struct Misbehave;

export!(Misbehave);

impl Lifecycle for Misbehave {
    fn describe() -> Description {
        Description {
            name: "misbehave".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            summary: "Does what a plugin must not do.".into(),
            settings_schema: String::new(),
            environment: Vec::new(),
        }
    }

    fn configure(settings: String) -> Result<(), PluginError> {
        match settings.as_str() {
            text if text.contains("refuse") => Err(PluginError::InvalidSettings("`refuse` is not wanted here".into())),
            text if text.contains("trap") => panic!("cannot even be configured"),
            _ => Ok(()),
        }
    }
}

impl Grouping for Misbehave {
    fn group(node: Node, container: Container) -> Result<Role, PluginError> {
        let label = |name: &str| container.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let Some(service) = label("service") else { return Ok(Role { provides: Vec::new(), consumes: Vec::new() }) };
        let mut instance = Instance {
            service,
            id: container.id.chars().take(12).collect(),
            address: node.address,
            port: container.ports.iter().find_map(|port| port.host_port).unwrap_or(1),
            transport: Transport::Tcp,
            readiness: Readiness::Ready,
            weight: None,
            attributes: Vec::new(),
        };
        if let Some(what) = label("misbehave") {
            misbehave(&what, &mut instance)?;
        }
        Ok(Role { provides: vec![instance], consumes: Vec::new() })
    }
}

fn misbehave(what: &str, instance: &mut Instance) -> Result<(), PluginError> {
    match what {
        "trap" => panic!("a container it does not like"),
        "loop" => spin(),
        "sleep" => std::thread::sleep(Duration::from_secs(3600)),
        "eat" => eat(),
        "recurse" => instance.port = deeper(0) as u16,
        "exit" => std::process::exit(3),
        "huge" => instance.attributes = vec![("huge".into(), "x".repeat(40 << 20))],
        "many" => instance.attributes = (0..400_000).map(|n| (format!("attribute-{n:07}"), "x".repeat(80))).collect(),
        "log" => (0..1_000_000).for_each(|n| log(Level::Info, &format!("line {n} of a million"))),
        "print" => (0..200_000).for_each(|n| println!("line {n} on standard output")),
        "long" => log(Level::Warn, &"long ".repeat(1 << 17)),
        "refuse" => return Err(PluginError::InvalidInput("it does not want this container".into())),
        "name" => instance.service = "two words\nand a line".into(),
        "address" => instance.address = "10.0.0.1 check\nbackend evil".into(),
        other => return Err(PluginError::Other(format!("does not know how to {other}"))),
    }
    Ok(())
}

fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

fn eat() {
    let mut eaten = Vec::new();
    loop {
        eaten.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&eaten);
    }
}

fn deeper(depth: u64) -> u64 {
    let room = std::hint::black_box([depth; 64]);
    if room[1] == u64::MAX {
        return depth;
    }
    room[0] + deeper(depth + 1) + room[63]
}
