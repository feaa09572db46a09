//! All services of all hosts, merged from the directories of every layout that is read; what vanishes at once
//! is doubted first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use crate::model::{Instance, Service, Services};

mod agents;
mod doubt;

pub use doubt::{Doubt, DoubtSettings, Doubted};

type Directories = imbl::OrdMap<Arc<str>, Arc<[Arc<Instance>]>>;

/// A service, a layout and a directory.
type Place = (Arc<str>, usize, Arc<str>);

/// The catalog and where each service's instances come from.
#[derive(Default)]
pub struct Catalog {
    services: Services,
    /// Directories by layout, as of the last turn.
    seen: BTreeMap<usize, Directories>,
    /// Instances by service, layout and directory; of several layouts the first one counts.
    sources: BTreeMap<Place, Arc<[Arc<Instance>]>>,
}

impl Catalog {
    /// Takes over what `layout`, counted in the order of the configuration, stands for now.
    pub fn update(&mut self, layout: usize, directories: &Directories) {
        let seen = self.seen.insert(layout, directories.clone()).unwrap_or_default();
        let mut touched = BTreeSet::new();
        for change in seen.diff(directories) {
            let (directory, old, new) = match change {
                DiffItem::Add(directory, new) => (directory, None, Some(new)),
                DiffItem::Update { old, new } => (new.0, Some(old.1), Some(new.1)),
                DiffItem::Remove(directory, old) => (directory, Some(old), None),
            };
            for name in names(old) {
                self.sources.remove(&(Arc::clone(&name), layout, Arc::clone(directory)));
                touched.insert(name);
            }
            for name in names(new) {
                let key = (Arc::clone(&name), layout, Arc::clone(directory));
                self.sources.extend(new.map(|instances| (key, Arc::clone(instances))));
                touched.insert(name);
            }
        }
        touched.into_iter().for_each(|name| self.rebuild(name));
    }

    /// The services as they are now.
    pub fn services(&self) -> &Services {
        &self.services
    }

    fn rebuild(&mut self, name: Arc<str>) {
        let from = (Arc::clone(&name), 0, Arc::from(""));
        let sources = self.sources.range(from..).take_while(|((service, _, _), _)| *service == name);
        let mut instances: BTreeMap<&str, &Arc<Instance>> = BTreeMap::new();
        for instance in sources.flat_map(|(_, instances)| instances.iter()).filter(|one| *one.service == *name) {
            instances.entry(&instance.id).or_insert(instance);
        }
        if instances.is_empty() {
            self.services.remove(&name);
            return;
        }
        let instances = instances.into_values().cloned().collect();
        let service = Service { name: name.to_string(), instances, denied: Vec::new() };
        if self.services.get(&name).is_none_or(|known| **known != service) {
            self.services.insert(name, Arc::new(service));
        }
    }
}

/// Names of the services in one directory, mostly one.
fn names(instances: Option<&Arc<[Arc<Instance>]>>) -> BTreeSet<Arc<str>> {
    let mut names = BTreeSet::new();
    for instance in instances.into_iter().flat_map(|instances| instances.iter()) {
        if !names.contains(instance.service.as_str()) {
            names.insert(Arc::from(instance.service.as_str()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Readiness, Transport};

    fn instance(service: &str, id: &str, port: u16) -> Arc<Instance> {
        Arc::new(Instance {
            service: service.into(),
            id: id.into(),
            address: "10.0.0.1".into(),
            port,
            transport: Transport::Tcp,
            readiness: Readiness::Ready,
            weight: None,
            attributes: BTreeMap::new(),
        })
    }

    fn directories(list: &[(&str, &[Arc<Instance>])]) -> Directories {
        list.iter().map(|(name, all)| (Arc::from(*name), Arc::from(all.to_vec()))).collect()
    }

    fn shown(catalog: &Catalog) -> Vec<String> {
        let services = catalog.services().values();
        services.flat_map(|s| s.instances.iter().map(|i| format!("{} {} {}", s.name, i.id, i.port))).collect()
    }

    #[test]
    fn services_merge_over_directories_and_the_first_layout_counts() {
        let mut catalog = Catalog::default();
        catalog.update(0, &directories(&[("/a/", &[instance("web", "1", 80), instance("db", "9", 5432)])]));
        catalog.update(1, &directories(&[("/b/", &[instance("web", "1", 81), instance("web", "2", 82)])]));
        assert_eq!(shown(&catalog), ["db 9 5432", "web 1 80", "web 2 82"]);
        catalog.update(0, &directories(&[]));
        assert_eq!(shown(&catalog), ["web 1 81", "web 2 82"]);
        catalog.update(1, &directories(&[("/b/", &[instance("web", "2", 82)])]));
        assert_eq!(shown(&catalog), ["web 2 82"]);
    }

    #[test]
    fn an_unchanged_service_keeps_its_place_in_memory() {
        let mut catalog = Catalog::default();
        catalog.update(0, &directories(&[("/a/", &[instance("a", "1", 1)]), ("/b/", &[instance("b", "1", 1)])]));
        let before = catalog.services().clone();
        catalog.update(0, &directories(&[("/a/", &[instance("a", "1", 1)]), ("/b/", &[instance("b", "1", 2)])]));
        assert!(Arc::ptr_eq(&before["a"], &catalog.services()["a"]));
        assert!(!Arc::ptr_eq(&before["b"], &catalog.services()["b"]));
    }
}
