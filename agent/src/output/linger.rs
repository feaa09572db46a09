//! What leads to a service outlives its last instance for a while, and answers that nobody is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use imbl::ordmap::DiffItem;

use crate::model::{Instance, Readiness, Service, Services};

/// Services whose last instance left, beside those that are there.
#[derive(Debug)]
pub struct Linger {
    time: Duration,
    /// Services as of the last turn, without those that left.
    present: Services,
    /// Those that left, as they were last, and until when they stay, in milliseconds since the Unix epoch.
    departed: BTreeMap<Arc<str>, (Arc<Service>, u64)>,
    shown: Services,
}

impl Linger {
    /// Nothing yet; services stay for `time` after their last instance.
    pub fn new(time: Duration) -> Self {
        Linger { time, present: Services::new(), departed: BTreeMap::new(), shown: Services::new() }
    }

    /// Takes up what an earlier agent served: a service, and since when it is gone where that is known.
    pub fn restore(&mut self, service: &Arc<Service>, departed: Option<u64>, now: u64) {
        let until = departed.unwrap_or(now).saturating_add(millis(self.time));
        self.departed.insert(service.name.as_str().into(), (gone(service), until));
    }

    /// The services of an output, and those that left it not long ago.
    ///
    /// `is_offered` says whether a service is there but not for this output any more; `was_served` whether it was served
    /// at all.
    pub fn update(
        &mut self,
        services: &Services,
        now: u64,
        is_offered: impl Fn(&str) -> bool,
        was_served: impl Fn(&str) -> bool,
    ) -> &Services {
        for change in self.present.diff(services) {
            match change {
                DiffItem::Add(name, service) | DiffItem::Update { new: (name, service), .. } => {
                    self.departed.remove(name);
                    self.shown.insert(Arc::clone(name), Arc::clone(service));
                }
                DiffItem::Remove(name, service) => {
                    self.shown.remove(name);
                    if !is_offered(name) && was_served(name) && !self.time.is_zero() {
                        self.departed.insert(Arc::clone(name), (gone(service), now.saturating_add(millis(self.time))));
                    }
                }
            }
        }
        self.present = services.clone();
        self.departed.retain(|name, (_, until)| {
            let stays = *until > now && !is_offered(name);
            if !stays {
                self.shown.remove(name);
            }
            stays
        });
        for (name, (service, _)) in &self.departed {
            if self.shown.get(name).is_none_or(|shown| shown != service) {
                self.shown.insert(Arc::clone(name), Arc::clone(service));
            }
        }
        &self.shown
    }

    /// When the next one ends, in milliseconds since the Unix epoch.
    pub fn due(&self) -> Option<u64> {
        self.departed.values().map(|(_, until)| *until).min()
    }

    /// Services that left, and until when they stay.
    pub fn all(&self) -> impl Iterator<Item = (&Arc<str>, u64)> {
        self.departed.iter().map(|(name, (_, until))| (name, *until))
    }

    /// Since when a service is gone, when it is.
    pub fn departed(&self, name: &str) -> Option<u64> {
        self.departed.get(name).map(|(_, until)| until.saturating_sub(millis(self.time)))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Attributes that tell instances of one service apart and lead nowhere.
const OWN: [&str; 5] = ["node", "container", "hostname", "image", "container-port"];

/// A service without its instances, of which one stays for each set of attributes that may lead to it.
pub(super) fn gone(service: &Service) -> Arc<Service> {
    let mut kept: BTreeMap<_, Arc<Instance>> = BTreeMap::new();
    for instance in &service.instances {
        let mut attributes = instance.attributes.clone();
        attributes.retain(|name, _| !OWN.contains(&name.as_str()));
        let of = (instance.transport, attributes.clone());
        kept.entry(of).or_insert_with(|| {
            let readiness = Readiness::Gone;
            Arc::new(Instance { readiness, attributes, weight: None, ..Instance::clone(instance) })
        });
    }
    let mut instances: Vec<Arc<Instance>> = kept.into_values().collect();
    instances.sort_by(|a, b| a.id.cmp(&b.id));
    Arc::new(Service { name: service.name.clone(), instances, denied: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transport;

    fn service(name: &str, ids: &[&str]) -> (Arc<str>, Arc<Service>) {
        let instance = |id: &&str| {
            let attributes = [("domain", "shop.example"), ("container", id)];
            Arc::new(Instance {
                service: name.into(),
                id: (*id).into(),
                address: "10.0.0.1".into(),
                port: 80,
                transport: Transport::Tcp,
                readiness: Readiness::Ready,
                weight: Some(3),
                attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect(),
            })
        };
        let instances = ids.iter().map(instance).collect();
        (name.into(), Arc::new(Service { name: name.into(), instances, denied: Vec::new() }))
    }

    fn shown(services: &Services) -> Vec<String> {
        let one = |service: &Arc<Service>| {
            let instances = service.instances.iter();
            let gone = instances.clone().filter(|instance| instance.readiness == Readiness::Gone).count();
            format!("{} {}/{gone}", service.name, instances.count())
        };
        services.values().map(one).collect()
    }

    #[test]
    fn it_stays_without_instances_until_the_time_is_over_or_it_is_back() {
        let mut linger = Linger::new(Duration::from_secs(1));
        let all: Services = [service("a", &["1", "2"]), service("b", &["1"])].into_iter().collect();
        let one: Services = [service("b", &["1"])].into_iter().collect();
        let mut at = |services: &Services, now| shown(linger.update(services, now, |_| false, |_| true));
        assert_eq!(at(&all, 0), ["a 2/0", "b 1/0"]);
        assert_eq!(at(&one, 10), ["a 1/1", "b 1/0"]);
        assert_eq!(at(&all, 500), ["a 2/0", "b 1/0"]);
        assert_eq!(at(&one, 600), ["a 1/1", "b 1/0"]);
        assert_eq!(at(&one, 1599), ["a 1/1", "b 1/0"]);
        assert_eq!(at(&one, 1600), ["b 1/0"]);
        assert_eq!(at(&Services::new(), 1700), ["b 1/1"]);
        assert_eq!(linger.due(), Some(2700));
        assert_eq!(linger.departed("b"), Some(1700));
    }

    #[test]
    fn what_is_only_not_for_this_output_any_more_or_never_was_does_not_stay() {
        let mut linger = Linger::new(Duration::from_secs(1));
        let all: Services = [service("a", &["1"]), service("b", &["1"])].into_iter().collect();
        linger.update(&all, 0, |_| true, |_| true);
        assert_eq!(shown(linger.update(&Services::new(), 1, |name| name == "a", |_| false)), [""; 0]);
    }

    #[test]
    fn what_an_earlier_agent_served_is_gone_since_then() {
        let mut linger = Linger::new(Duration::from_secs(1));
        linger.restore(&service("a", &["1"]).1, Some(100), 900);
        linger.restore(&service("b", &["1"]).1, None, 900);
        assert_eq!(shown(linger.update(&Services::new(), 950, |_| false, |_| false)), ["a 1/1", "b 1/1"]);
        assert_eq!(shown(linger.update(&Services::new(), 1100, |_| false, |_| false)), ["b 1/1"]);
    }
}
