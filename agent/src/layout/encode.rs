//! Instances of this host to the entries that stand for them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Layout;
use crate::memo::{Answer, Memo, Subject};
use crate::model::{Entry, Instance, LeasedEntries, LeasedValue, Node, check_entry};
use crate::status::Status;

type Key = (Arc<str>, Arc<str>);

/// What a layout wrote for each instance.
type Written = Memo<Key, Instance, Vec<Entry>>;

/// The encoding stage and what it wrote for each instance, layout by layout: one that fails holds back no other.
pub struct Encoder {
    layouts: Vec<(Layout, Written)>,
    node: Arc<Node>,
    status: Status,
}

impl Encoder {
    /// A stage that writes every layout.
    pub fn new(layouts: Vec<Layout>, node: Arc<Node>, status: Status) -> Self {
        let with_memo = |layout: Layout| {
            let memo = Memo::new(format!("layout {}", layout.plugin.name()), status.clone());
            (layout, memo)
        };
        Encoder { layouts: layouts.into_iter().map(with_memo).collect(), node, status }
    }

    /// Encodes the instances that differ from the last turn, and returns all entries of this host.
    pub async fn update(&mut self, provided: &BTreeMap<Key, Arc<Instance>>) -> LeasedEntries {
        for (layout, memo) in &mut self.layouts {
            let now = provided.iter().map(|(key, instance)| (key.clone(), Arc::clone(instance)));
            let (layout, node) = (&*layout, &self.node);
            memo.update(now, |instance| encode(layout, node, instance)).await;
            layout.plugin.trim();
        }
        self.desired()
    }

    /// Whether a plugin crashed on some instance, which is worth another try.
    pub fn wants_retry(&self) -> bool {
        self.layouts.iter().any(|(_, memo)| memo.wants_retry())
    }

    fn desired(&self) -> LeasedEntries {
        let mut desired = LeasedEntries::new();
        let mut clashes = BTreeMap::new();
        let results = self.layouts.iter().flat_map(|(_, memo)| memo.results());
        for (instance, entry) in results.flat_map(|(_, instance, all)| all.iter().map(move |entry| (instance, entry))) {
            let value: Arc<str> = entry.value.as_str().into();
            match desired.get(&entry.key) {
                Some(known) if known.value != value => {
                    let known = &known.value;
                    let text = format!("it wants {value:?} at {}, where another instance has {known:?}", entry.key);
                    clashes.insert(instance.title(), text);
                }
                Some(_) => {}
                None => {
                    desired.insert(entry.key.clone(), LeasedValue { value, lease: entry.lease });
                }
            }
        }
        self.status.replace("entries", clashes);
        desired
    }
}

async fn encode(layout: &Layout, node: &Arc<Node>, instance: Arc<Instance>) -> Answer<Vec<Entry>> {
    let mut entries = layout.plugin.encode(node, &instance).await?;
    let mut complaints = Vec::new();
    let mut refused = |error| complaints.push(format!("entry ignored: {error}"));
    entries.retain(|entry| check_entry(entry, &layout.prefixes).map_err(&mut refused).is_ok());
    Ok((entries, complaints))
}

impl Subject for Instance {
    fn title(&self) -> String {
        format!("{} in {}", self.id, self.service)
    }

    fn has_moved(&self, before: &Self) -> bool {
        (&self.address, self.port, self.transport) != (&before.address, before.port, before.transport)
    }
}
