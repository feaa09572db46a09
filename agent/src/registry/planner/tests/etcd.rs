//! A simulated etcd: it answers questions, and carries actions out.

use super::*;

/// What etcd has.
#[derive(Default)]
pub(super) struct Etcd {
    pub(super) keys: BTreeMap<String, Found>,
    revision: i64,
    agents: BTreeMap<i64, (String, Presence)>,
    granted: i64,
}

impl Etcd {
    pub(super) fn with(keys: Keys) -> Etcd {
        let found = |value: &str, lease| Found { value: value.into(), lease, revision: WRITTEN };
        let keys = keys.iter().map(|(key, value, lease)| ((*key).into(), found(value, *lease))).collect();
        let node = |name: &str, address: &str| Node {
            name: name.into(),
            address: address.into(),
            attributes: BTreeMap::default(),
        };
        let agent = |lease, node: &Node, state| (lease, (node.name.clone(), Presence::new(node, state)));
        let agents = BTreeMap::from([
            agent(THEIRS, &node("b", "10.0.0.2"), PresenceState::Here),
            agent(11, &node("a", "10.0.0.1"), PresenceState::Here),
            agent(12, &node("a", "10.0.0.9"), PresenceState::Here),
            agent(13, &node("a", "10.0.0.9"), PresenceState::Leaving),
        ]);
        Etcd { keys, revision: LISTED, agents, granted: 0 }
    }

    fn answer(&self, questions: BTreeSet<Question>, facts: &mut Facts) {
        for question in questions {
            match question {
                Question::Key(key) => drop(facts.keys.insert(key.clone(), self.keys.get(&key).cloned())),
                Question::Lease(lease) => drop(facts.leases.insert(lease, lease != ENDED)),
                Question::Directory(path) => {
                    let below = self.keys.iter().filter(|(key, _)| key.starts_with(&path));
                    let keys = below.map(|(key, found)| (key.clone(), (found.lease, found.revision))).collect();
                    facts.directories.insert(path, Listing { revision: self.revision, keys });
                }
                Question::Agents => facts.agents = Some(self.agents.clone()),
            }
        }
    }

    /// What the planner decides.
    pub(super) fn plan(&self, session: &Session, node: Option<&Node>, steps: &[Step], failures: usize) -> Vec<Action> {
        let mut facts = Facts::default();
        for _ in 0..4 {
            match (Planner { session, node, facts: &facts, failures }).plan(steps) {
                Ok(actions) => return actions,
                Err(questions) => self.answer(questions, &mut facts),
            }
        }
        panic!("the planner asks without end: {facts:?}");
    }

    fn holds(&self, key: &str, guard: Guard) -> bool {
        let found = self.keys.get(key);
        match guard {
            Guard::Lease(lease) => found.map_or(0, |found| found.lease) == lease,
            Guard::Absent => found.is_none(),
            Guard::Unchanged(revision) => found.is_some_and(|found| found.revision == revision),
            Guard::QuietDirectory(revision) => {
                let mut below = self.keys.iter().filter(|(name, _)| name.starts_with(directory(key)));
                below.all(|(_, found)| found.revision <= revision)
            }
        }
    }

    /// Carries actions out as one transaction.
    pub(super) fn transact(&mut self, own_lease: i64, actions: &mut [Action]) -> bool {
        for lease in actions.iter_mut().filter_map(Action::granted) {
            self.granted += 1;
            *lease = Some(100 + self.granted);
        }
        if !actions.iter().all(|action| action.guards.iter().all(|guard| self.holds(&action.key, *guard))) {
            return false;
        }
        self.revision += 1;
        for action in actions {
            let (value, lease) = match &action.change {
                Change::Put { value } => (value, own_lease),
                Change::PutShared { value, lease } => (value, lease.unwrap()),
                Change::DeleteShared | Change::Delete => {
                    self.keys.remove(&action.key);
                    continue;
                }
                _ => continue,
            };
            let found = Found { value: value.as_bytes().into(), lease, revision: self.revision };
            self.keys.insert(action.key.clone(), found);
        }
        true
    }

    /// Carries steps out as the executor does; the number of transactions it took.
    pub(super) fn carry_out(&mut self, session: &mut Session, steps: &[Step]) -> usize {
        for failures in 0..=ATTEMPTS {
            let mut actions = self.plan(session, None, steps, failures);
            if self.transact(session.lease, &mut actions) {
                record(session, actions);
                return failures + 1;
            }
        }
        panic!("never done: {steps:?}");
    }

    pub(super) fn lease(&self, key: &str) -> Option<i64> {
        self.keys.get(key).map(|found| found.lease)
    }

    pub(super) fn remove_lease(&mut self, lease: i64) {
        self.keys.retain(|_, found| found.lease != lease);
    }
}
