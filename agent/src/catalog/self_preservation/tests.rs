use super::*;
use crate::model::{Node, Presence, PresenceState, Stored, Transport};

const TTL: Duration = Duration::from_secs(15);
const SECOND: Duration = Duration::from_secs(1);

/// A registry as one layout sees it, and what is made of it.
struct Fleet {
    self_preservation: SelfPreservation,
    entries: Entries,
    instances: BTreeMap<String, (Option<String>, Readiness)>,
    now: Instant,
}

impl Fleet {
    /// Hosts with this many instances each; their agents say that they are there.
    fn of(hosts: &[(&str, usize)]) -> Self {
        let self_preservation = SelfPreservation::new(SelfPreservationSettings::new(0.5, 10, 2 * TTL, TTL));
        let mut fleet =
            Fleet { self_preservation, entries: Entries::new(), instances: BTreeMap::new(), now: Instant::now() };
        for (host, count) in hosts {
            fleet.arrive(host, *count);
        }
        fleet.turn();
        fleet
    }

    fn arrive(&mut self, host: &str, count: usize) {
        self.add(host, count, Some(host));
        self.says(host, PresenceState::Here);
    }

    fn add(&mut self, name: &str, count: usize, node: Option<&str>) {
        let ids = (0..count).map(|number| format!("{name}-{number}"));
        self.instances.extend(ids.map(|id| (id, (node.map(str::to_owned), Readiness::Ready))));
    }

    fn says(&mut self, host: &str, state: PresenceState) {
        let node = Node { name: host.into(), address: "10.0.0.1".into(), attributes: BTreeMap::new() };
        let stored = Stored { value: Presence::new(&node, state).to_text().into(), created: 1 };
        self.entries.insert(Presence::key(host).into(), stored);
    }

    fn silence(&mut self, host: &str) {
        self.entries.remove(Presence::key(host).as_str());
    }

    fn remove(&mut self, name: &str) {
        self.instances.retain(|id, _| !id.starts_with(&format!("{name}-")));
    }

    /// The host's lease ends.
    fn lose(&mut self, host: &str) {
        self.remove(host);
        self.silence(host);
    }

    fn turn(&mut self) {
        let mut directories: BTreeMap<Arc<str>, Vec<Arc<Instance>>> = BTreeMap::new();
        for (id, (node, readiness)) in &self.instances {
            let instance = Instance {
                service: "web".into(),
                id: id.clone(),
                address: "10.0.0.1".into(),
                port: 80,
                transport: Transport::Tcp,
                readiness: *readiness,
                weight: None,
                attributes: node.iter().map(|node| ("node".to_owned(), node.clone())).collect(),
            };
            // Two directories, so that more than one is put together again.
            let directory = if id.ends_with(['0', '2', '4', '6', '8']) { "/even/" } else { "/odd/" };
            directories.entry(directory.into()).or_default().push(Arc::new(instance));
        }
        let directories: Directories = directories.into_iter().map(|(name, all)| (name, Arc::from(all))).collect();
        self.self_preservation.update(&self.entries, &directories, self.now);
    }

    /// Turns whenever something is due, as the loop does.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.self_preservation.due().filter(|due| *due <= until) {
            self.now = due;
            self.turn();
        }
        self.now = until;
    }

    fn shown(&self) -> usize {
        let all = self.self_preservation.directories().values().flat_map(|list| list.iter());
        all.map(|instance| instance.id.as_str()).collect::<BTreeSet<_>>().len()
    }

    #[track_caller]
    fn shows(&self, instances: usize, preserved: usize) {
        let found = (self.shown(), self.self_preservation.preserved().map_or(0, |preserved| preserved.instances));
        assert_eq!(found, (instances, preserved), "instances shown, and preserved");
    }
}

#[test]
fn data_that_etcd_lost_is_doubted_and_returns_as_if_nothing_had_happened() {
    let mut fleet = Fleet::of(&[("a", 6), ("b", 6)]);
    fleet.lose("a");
    fleet.lose("b");
    fleet.turn();
    fleet.shows(12, 12);
    let preserved = fleet.self_preservation.preserved().unwrap();
    assert_eq!(
        (preserved.of, preserved.hosts, preserved.until),
        (12, vec!["a".into(), "b".into()], fleet.now + 2 * TTL)
    );
    fleet.wait(5 * SECOND);
    fleet.arrive("a", 6);
    fleet.turn();
    fleet.shows(12, 6);
    fleet.arrive("b", 6);
    fleet.turn();
    fleet.shows(12, 0);
    assert_eq!(fleet.self_preservation.due(), None);
    assert!(fleet.self_preservation.shown.ptr_eq(&fleet.self_preservation.seen));
}

#[test]
fn what_does_not_return_leaves_after_the_grace_time() {
    let mut fleet = Fleet::of(&[("a", 6), ("b", 6), ("c", 1)]);
    fleet.lose("a");
    fleet.lose("b");
    fleet.turn();
    fleet.wait(TTL + TTL / 2);
    fleet.shows(13, 12);
    fleet.wait(TTL / 2);
    fleet.shows(1, 0);
    assert_eq!(fleet.self_preservation.due(), None);
}

#[test]
fn what_agents_withdraw_goes_at_once() {
    let mut fleet = Fleet::of(&[("a", 6), ("b", 6), ("c", 3)]);
    for host in ["a", "b"] {
        fleet.says(host, PresenceState::Leaving);
        fleet.turn();
        fleet.remove(host);
        fleet.turn();
    }
    fleet.shows(3, 0);
    assert_eq!(fleet.self_preservation.due(), None);
    // Their last words end with a lease, which is no loss.
    fleet.silence("a");
    fleet.silence("b");
    fleet.turn();
    fleet.shows(3, 0);
}

#[test]
fn what_an_agent_that_is_there_takes_away_goes() {
    let mut fleet = Fleet::of(&[("a", 12)]);
    // Some at once.
    fleet.instances.retain(|id, _| id.starts_with("a-1"));
    fleet.turn();
    fleet.shows(3, 0);
    // All that a host has could be a loss of which the other half is still to come.
    let mut fleet = Fleet::of(&[("a", 12)]);
    fleet.remove("a");
    fleet.turn();
    fleet.shows(12, 0);
    fleet.wait(MOMENT);
    fleet.shows(0, 0);
    // Not when they were drained before.
    let mut fleet = Fleet::of(&[("a", 12)]);
    fleet.instances.values_mut().for_each(|(_, readiness)| *readiness = Readiness::Draining);
    fleet.turn();
    fleet.remove("a");
    fleet.turn();
    fleet.shows(0, 0);
}

#[test]
fn leases_that_end_apart_are_one_loss() {
    for instances_first in [true, false] {
        let mut fleet = Fleet::of(&[("a", 5), ("b", 5), ("c", 5), ("d", 4)]);
        for host in ["a", "b", "c"] {
            // The two messages of one revision, in any order.
            if instances_first {
                fleet.remove(host);
            } else {
                fleet.silence(host);
            }
            fleet.turn();
            fleet.wait(SECOND / 1000);
            fleet.lose(host);
            fleet.turn();
            fleet.shows(
                19,
                if host == "b" {
                    10
                } else if host == "c" {
                    15
                } else {
                    0
                },
            );
            fleet.wait(2 * SECOND);
        }
        fleet.wait(2 * TTL);
        fleet.shows(4, 0);
    }
}

#[test]
fn a_small_loss_is_believed_after_a_while() {
    let mut fleet = Fleet::of(&[("a", 10), ("b", 10), ("c", 1)]);
    fleet.lose("a");
    fleet.turn();
    fleet.shows(21, 0);
    fleet.wait(TTL / 3 + SECOND);
    fleet.shows(11, 0);
    // Half is not more than half: 10 of 20 would be kept no longer either.
    let mut fleet = Fleet::of(&[("a", 10), ("b", 10)]);
    fleet.lose("a");
    fleet.turn();
    fleet.wait(TTL / 3 + SECOND);
    fleet.shows(10, 0);
}

#[test]
fn fewer_than_the_least_are_never_held() {
    let mut fleet = Fleet::of(&[("a", 5), ("b", 4)]);
    fleet.lose("a");
    fleet.lose("b");
    fleet.turn();
    fleet.shows(0, 0);
}

#[test]
fn an_agent_that_is_back_is_believed() {
    let mut fleet = Fleet::of(&[("a", 12), ("b", 2)]);
    fleet.lose("a");
    fleet.turn();
    fleet.shows(14, 12);
    // It comes back with fewer instances, and says that these are all.
    fleet.add("a", 3, Some("a"));
    fleet.turn();
    fleet.shows(14, 9);
    fleet.says("a", PresenceState::Here);
    fleet.turn();
    fleet.wait(MOMENT);
    fleet.shows(5, 0);
}

#[test]
fn instances_that_name_no_node_are_doubted_when_agents_are_lost() {
    let mut fleet = Fleet::of(&[("a", 0), ("b", 0)]);
    fleet.add("x", 12, None);
    fleet.turn();
    fleet.instances.retain(|id, _| id == "x-0");
    fleet.turn();
    fleet.wait(MOMENT);
    fleet.shows(1, 0);
    fleet.add("x", 12, None);
    fleet.turn();
    fleet.remove("x");
    fleet.turn();
    fleet.silence("a");
    fleet.turn();
    fleet.shows(12, 12);
    fleet.wait(2 * TTL);
    fleet.shows(0, 0);
}

#[test]
fn what_nobody_says_anything_of_is_doubted() {
    // Agents of a version that knows no such key.
    let mut fleet = Fleet::of(&[]);
    fleet.add("old", 12, Some("old"));
    fleet.turn();
    fleet.remove("old");
    fleet.turn();
    fleet.shows(12, 12);
    // Beside agents that are there it is not.
    let mut fleet = Fleet::of(&[("new", 1)]);
    fleet.add("old", 12, Some("old"));
    fleet.turn();
    fleet.remove("old");
    fleet.turn();
    fleet.wait(MOMENT);
    fleet.shows(1, 0);
}

#[test]
fn what_is_new_and_what_is_withdrawn_goes_through_while_others_are_doubted() {
    let mut fleet = Fleet::of(&[("a", 8), ("b", 4)]);
    fleet.lose("a");
    fleet.turn();
    fleet.shows(12, 8);
    fleet.instances.remove("b-3");
    fleet.add("c", 2, Some("c"));
    fleet.says("c", PresenceState::Here);
    fleet.turn();
    fleet.shows(13, 8);
    fleet.wait(2 * TTL);
    fleet.shows(5, 0);
}
