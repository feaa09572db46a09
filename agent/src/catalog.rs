//! All services of all hosts, merged from the directories of every layout that is read; what vanishes at once
//! passes self-preservation first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use crate::model::{Ages, Instance, Service, Services};

mod agents;
mod self_preservation;

pub use self_preservation::{Preserved, SelfPreservation, SelfPreservationSettings};

type Directories = imbl::OrdMap<Arc<str>, Arc<[Arc<Instance>]>>;

/// A service, a layout and a directory.
type Place = (Arc<str>, usize, Arc<str>);

/// The catalog and where each service's instances come from.
#[derive(Default)]
pub struct Catalog {
    services: Services,
    ages: Ages,
    /// Directories and their ages by layout, as of the last turn.
    seen: BTreeMap<usize, (Directories, Ages)>,
    /// Where instances are from; of several layouts the first one counts.
    sources: BTreeMap<Place, Source>,
}

/// What a directory has.
#[derive(Clone)]
struct Source {
    instances: Arc<[Arc<Instance>]>,
    /// The revision that made its oldest entry, the last one that was known: preserved instances have no entries.
    age: Option<u64>,
}

impl Catalog {
    /// Takes over what `layout`, counted in the order of the configuration, stands for now: its directories, and the
    /// revision that made the oldest entry of each.
    pub fn update(&mut self, layout: usize, directories: &Directories, ages: &Ages) {
        let (seen, seen_ages) = self.seen.insert(layout, (directories.clone(), ages.clone())).unwrap_or_default();
        let mut changed: BTreeSet<&Arc<str>> = seen.diff(directories).map(|change| key(&change)).collect();
        changed.extend(seen_ages.diff(ages).map(|change| key(&change)));
        let mut touched = BTreeSet::new();
        for directory in changed {
            let mut age = ages.get(directory).copied();
            for name in names(seen.get(directory)) {
                let last = self.sources.remove(&(Arc::clone(&name), layout, Arc::clone(directory)));
                age = age.or(last.and_then(|last| last.age));
                touched.insert(name);
            }
            let Some(instances) = directories.get(directory) else { continue };
            for name in names(Some(instances)) {
                let source = Source { instances: Arc::clone(instances), age };
                self.sources.insert((Arc::clone(&name), layout, Arc::clone(directory)), source);
                touched.insert(name);
            }
        }
        touched.into_iter().for_each(|name| self.rebuild(name));
    }

    /// The services as they are now.
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Since which revision of the registry each service is there: that of its oldest entry, where it is known.
    pub fn ages(&self) -> &Ages {
        &self.ages
    }

    fn rebuild(&mut self, name: Arc<str>) {
        let from = (Arc::clone(&name), 0, Arc::from(""));
        let sources = self.sources.range(from..).take_while(|((service, _, _), _)| *service == name);
        let mut instances: BTreeMap<&str, &Arc<Instance>> = BTreeMap::new();
        let mut age = None;
        for (_, source) in sources {
            for instance in source.instances.iter().filter(|one| *one.service == *name) {
                instances.entry(&instance.id).or_insert(instance);
            }
            age = age.into_iter().chain(source.age).min();
        }
        if instances.is_empty() {
            self.services.remove(&name);
            self.ages.remove(&name);
            return;
        }
        match age {
            Some(age) if self.ages.get(&name) == Some(&age) => {}
            Some(age) => _ = self.ages.insert(Arc::clone(&name), age),
            None => _ = self.ages.remove(&name),
        }
        let instances = instances.into_values().cloned().collect();
        let service = Service { name: name.to_string(), instances, denied: Vec::new() };
        if self.services.get(&name).is_none_or(|known| **known != service) {
            self.services.insert(name, Arc::new(service));
        }
    }
}

/// What differs.
fn key<'a, T>(change: &DiffItem<'a, 'a, Arc<str>, T>) -> &'a Arc<str> {
    let (DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. }) = change;
    key
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

    fn update(catalog: &mut Catalog, layout: usize, list: &[(&str, &[Arc<Instance>])]) {
        catalog.update(layout, &directories(list), &Ages::new());
    }

    fn shown(catalog: &Catalog) -> Vec<String> {
        let services = catalog.services().values();
        services.flat_map(|s| s.instances.iter().map(|i| format!("{} {} {}", s.name, i.id, i.port))).collect()
    }

    #[test]
    fn services_merge_over_directories_and_the_first_layout_counts() {
        let mut catalog = Catalog::default();
        update(&mut catalog, 0, &[("/a/", &[instance("web", "1", 80), instance("db", "9", 5432)])]);
        update(&mut catalog, 1, &[("/b/", &[instance("web", "1", 81), instance("web", "2", 82)])]);
        assert_eq!(shown(&catalog), ["db 9 5432", "web 1 80", "web 2 82"]);
        update(&mut catalog, 0, &[]);
        assert_eq!(shown(&catalog), ["web 1 81", "web 2 82"]);
        update(&mut catalog, 1, &[("/b/", &[instance("web", "2", 82)])]);
        assert_eq!(shown(&catalog), ["web 2 82"]);
    }

    #[test]
    fn an_unchanged_service_keeps_its_place_in_memory() {
        let mut catalog = Catalog::default();
        update(&mut catalog, 0, &[("/a/", &[instance("a", "1", 1)]), ("/b/", &[instance("b", "1", 1)])]);
        let before = catalog.services().clone();
        update(&mut catalog, 0, &[("/a/", &[instance("a", "1", 1)]), ("/b/", &[instance("b", "1", 2)])]);
        assert!(Arc::ptr_eq(&before["a"], &catalog.services()["a"]));
        assert!(!Arc::ptr_eq(&before["b"], &catalog.services()["b"]));
    }

    #[test]
    fn a_service_is_as_old_as_the_oldest_of_its_directories() {
        let mut catalog = Catalog::default();
        let (web, db) = (instance("web", "1", 80), instance("db", "1", 5432));
        let ages = |list: &[(&str, u64)]| list.iter().map(|(name, age)| (Arc::from(*name), *age)).collect::<Ages>();
        let all = directories(&[("/a/", &[web.clone(), db.clone()]), ("/b/", std::slice::from_ref(&web))]);
        catalog.update(0, &all, &ages(&[("/a/", 7), ("/b/", 5), ("/unread/", 1)]));
        catalog.update(1, &directories(&[("/c/", &[db])]), &ages(&[("/c/", 9)]));
        assert_eq!(*catalog.ages(), ages(&[("db", 7), ("web", 5)]));
        let before = catalog.services().clone();
        // Entries were written anew, and those of one directory are gone while its instances are preserved.
        catalog.update(0, &all, &ages(&[("/b/", 12)]));
        assert_eq!(*catalog.ages(), ages(&[("db", 7), ("web", 7)]));
        assert!(catalog.services().ptr_eq(&before));
        catalog.update(0, &directories(&[("/b/", &[web])]), &ages(&[("/b/", 12)]));
        assert_eq!(*catalog.ages(), ages(&[("db", 9), ("web", 12)]));
        catalog.update(0, &Directories::new(), &Ages::new());
        assert_eq!(*catalog.ages(), ages(&[("db", 9)]));
    }
}
