//! The floor: the line with its plugins linked in as ordinary Rust. Between the plugins it uses the agent's own stages.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use waypost::catalog::Catalog;
use waypost::layout::Directories;
use waypost::model::{self, Ages, Entries, Services};
use waypost::output::files::{Composed, Files};
use waypost_plugin_haproxy::Settings;
use waypost_plugin_sdk as sdk;
use waypost_plugin_sdk::settings::Nothing;

/// Decodes, merges, renders and composes as the agent does.
pub(crate) struct Line {
    node: sdk::Node,
    settings: Settings,
    entries: Entries,
    directories: Directories,
    catalog: Catalog,
    rendered: Services,
    files: Files,
    threads: usize,
}

impl Line {
    /// A line that uses `threads` for work that can be shared.
    pub(crate) fn new(threads: usize) -> Self {
        let (node, settings) = (node(&crate::fleet::node()), Settings::default());
        let mut files = Files::new();
        let base: Vec<_> = waypost_plugin_haproxy::base(&settings, &node).unwrap().into_iter().map(fragment).collect();
        files.set_base(&base);
        let (entries, directories, rendered) = (Entries::new(), Directories::new(), Services::new());
        Line { node, settings, entries, directories, catalog: Catalog::default(), rendered, files, threads }
    }

    /// From a snapshot to rendered fragments.
    pub(crate) fn update(&mut self, entries: &Entries) {
        self.decode(entries);
        self.catalog.update(0, &self.directories, &Ages::new());
        let services = self.catalog.services().clone();
        self.render(&services);
    }

    /// From a snapshot to instances.
    pub(crate) fn decode(&mut self, entries: &Entries) {
        let mut changed = BTreeSet::new();
        for change in self.entries.diff(entries) {
            let (DiffItem::Add(key, _) | DiffItem::Remove(key, _) | DiffItem::Update { new: (key, _), .. }) = change;
            let directory = &key[..=key.rfind('/').unwrap()];
            if !changed.contains(directory) {
                changed.insert(Arc::<str>::from(directory));
            }
        }
        self.entries = entries.clone();
        let changed: Vec<_> = changed.into_iter().collect();
        for (directory, instances) in changed.iter().zip(shared(self.threads, &changed, |one| self.read(one))) {
            self.directories.insert(Arc::clone(directory), instances);
        }
    }

    fn read(&self, directory: &str) -> Arc<[Arc<model::Instance>]> {
        let from = (Bound::Included(directory), Bound::Unbounded);
        let below = self.entries.range::<_, str>(from).take_while(|(key, _)| key.starts_with(directory));
        let entry = |(key, stored): (&Arc<str>, &model::Stored)| sdk::Entry {
            key: key.to_string(),
            value: stored.value.to_string(),
        };
        let entries: Vec<_> = below.map(entry).collect();
        let decoded = waypost_plugin_json::decode(&Nothing {}, &entries).unwrap();
        decoded.into_iter().map(instance_back).map(Arc::new).collect()
    }

    /// From services to fragments.
    pub(crate) fn render(&mut self, services: &Services) {
        let mut changed = Vec::new();
        for change in self.rendered.diff(services) {
            match change {
                DiffItem::Add(name, service) | DiffItem::Update { new: (name, service), .. } => {
                    changed.push((Arc::clone(name), Some(Arc::clone(service))));
                }
                DiffItem::Remove(name, _) => changed.push((Arc::clone(name), None)),
            }
        }
        self.rendered = services.clone();
        let fragments =
            shared(self.threads, &changed, |(_, found)| found.as_ref().map_or_else(Vec::new, |s| self.fragments(s)));
        for ((name, _), fragments) in changed.iter().zip(fragments) {
            self.files.set(name, &fragments);
        }
    }

    fn fragments(&self, service: &model::Service) -> Vec<model::Fragment> {
        let fragments =
            waypost_plugin_haproxy::render(&self.settings, &self.node, &self::service(service)).unwrap().fragments;
        fragments.into_iter().map(fragment).collect()
    }

    /// From fragments to files.
    pub(crate) fn compose(&mut self) -> Composed {
        self.files.compose()
    }
}

/// `work` on every item, in order, on several threads when there is enough for them.
fn shared<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if threads < 2 || items.len() < 64 {
        return items.iter().map(work).collect();
    }
    let chunks = items.chunks(items.len().div_ceil(threads));
    std::thread::scope(|scope| {
        let handles: Vec<_> = chunks.map(|chunk| scope.spawn(|| chunk.iter().map(&work).collect::<Vec<R>>())).collect();
        handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect()
    })
}

fn pairs(attributes: &model::Attributes) -> Vec<(String, String)> {
    attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

pub(crate) fn node(node: &model::Node) -> sdk::Node {
    sdk::Node { name: node.name.clone(), address: node.address.clone(), attributes: pairs(&node.attributes) }
}

pub(crate) fn instance(instance: &model::Instance) -> sdk::Instance {
    sdk::Instance {
        service: instance.service.clone(),
        id: instance.id.clone(),
        address: instance.address.clone(),
        port: instance.port,
        transport: match instance.transport {
            model::Transport::Tcp => sdk::Transport::Tcp,
            model::Transport::Udp => sdk::Transport::Udp,
            model::Transport::Sctp => sdk::Transport::Sctp,
        },
        readiness: match instance.readiness {
            model::Readiness::Ready => sdk::Readiness::Ready,
            model::Readiness::Draining => sdk::Readiness::Draining,
            model::Readiness::Gone => sdk::Readiness::Gone,
        },
        weight: instance.weight,
        attributes: pairs(&instance.attributes),
    }
}

fn instance_back(instance: sdk::Instance) -> model::Instance {
    model::Instance {
        service: instance.service,
        id: instance.id,
        address: instance.address,
        port: instance.port,
        transport: match instance.transport {
            sdk::Transport::Tcp => model::Transport::Tcp,
            sdk::Transport::Udp => model::Transport::Udp,
            sdk::Transport::Sctp => model::Transport::Sctp,
        },
        readiness: match instance.readiness {
            sdk::Readiness::Ready => model::Readiness::Ready,
            sdk::Readiness::Draining => model::Readiness::Draining,
            sdk::Readiness::Gone => model::Readiness::Gone,
        },
        weight: instance.weight,
        attributes: instance.attributes.into_iter().collect::<BTreeMap<_, _>>(),
    }
}

fn service(service: &model::Service) -> sdk::Service {
    let instances = service.instances.iter().map(|one| instance(one)).collect();
    sdk::Service { name: service.name.clone(), instances, denied: Vec::new() }
}

fn fragment(fragment: sdk::Fragment) -> model::Fragment {
    model::Fragment { path: fragment.path, key: fragment.key, text: fragment.text }
}
