//! Reloads of nginx while its servers change.

use std::time::Duration;

use tokio::time::Instant;

use super::{Course, Row};
use crate::{Fleet, Lab, Load, LoadOptions, Nginx, START, eventually};

/// Between two reloads, so that they do not run into each other.
const REST: Duration = Duration::from_millis(100);

/// Reloads that each take up a change.
pub fn nginx(course: &Course) -> Row {
    let lab = Lab::new();
    let etcd = lab.etcd();
    let host = lab.host("web");
    let mut fleet = Fleet::start(&host, &etcd, course.services, course.instances);
    let nginx = Nginx::start(&host, &fleet);
    for domain in fleet.domains() {
        eventually(START, "every service is routed", || host.connect(81)?.get_of(&domain, "/")?.good());
    }
    let options = course.load((host.address(), 81), fleet.domains());
    // nginx closes the idle connections of a worker that is to end, and cannot know that a request is on its way.
    let load = Load::from(lab.hub(), LoadOptions { repeat: true, ..options });
    let begun = Instant::now();
    for _ in 0..course.nginx_reloads {
        fleet.change();
        nginx.reload(&host, &fleet);
        fleet.reap(&nginx.file());
        fleet.wait(REST);
    }
    let (time, tally) = (begun.elapsed(), load.finish());
    let reloads = Some(course.nginx_reloads as u64);
    Row { what: "nginx, reloads", control: false, steps: course.nginx_reloads, reloads, time, tally }
}
