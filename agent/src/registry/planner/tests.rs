//! Tables of what the planner decides, and stories of several hosts with a simulated etcd.

use std::collections::BTreeSet;

use super::*;
use crate::registry::action::record;

mod etcd;

use etcd::Etcd;

/// The lease of this agent.
const MINE: i64 = 1;
/// The lease of another agent, `b`.
const THEIRS: i64 = 2;
/// The lease of a shared entry.
const COMMON: i64 = 9;
/// A lease that has ended when it is to be kept alive.
const ENDED: i64 = 8;
/// The revision of every key in the tables, and that of a listing.
const WRITTEN: i64 = 5;
const LISTED: i64 = 7;

const PORT: &str = "/s/port";

fn put(key: &str, value: &str) -> Step {
    Step::Put { key: key.into(), value: value.into() }
}

fn share(value: &str) -> Step {
    Step::Share { key: PORT.into(), value: value.into() }
}

fn release() -> Step {
    Step::Release { key: PORT.into() }
}

fn session(own: &[&str]) -> Session {
    Session::new(MINE, own.iter().map(|key| ((*key).to_owned(), Arc::from("old"))).collect())
}

/// A session that holds `PORT` with the value 80.
fn sharing(hold: Hold, has_own_sibling: bool) -> Session {
    let mut session = session(&[]);
    session.shared.insert(PORT.into(), Shared { value: "80".into(), hold, has_own_sibling });
    session
}

fn left_to(value: &str, lease: i64, by: Option<(&str, &str)>) -> Change {
    let by = by.map(|(node, address)| (node.to_owned(), address.to_owned()));
    Change::LeaveTo(Contested { value: value.into(), lease, by })
}

/// Keys with values and leases.
type Keys<'a> = &'a [(&'a str, &'a str, i64)];
/// A name, what the agent holds, what etcd has, and the decision.
type Row<'a> = (&'a str, Session, Keys<'a>, (Change, Vec<Guard>));

fn check<const N: usize>(rows: [Row; N], step: &Step, failures: usize) {
    let node = Node { name: "a".into(), address: "10.0.0.1".into(), attributes: BTreeMap::default() };
    for (name, session, there, expected) in rows {
        let action = Etcd::with(there).plan(&session, Some(&node), std::slice::from_ref(step), failures).pop().unwrap();
        assert_eq!((action.change, action.guards), expected, "{name}");
    }
}

#[test]
fn own_entries_are_written_without_reading_them_first() {
    let write = |lease| (Change::Put { value: "new".into() }, vec![Guard::Lease(lease)]);
    let rows: [Row; 3] = [
        ("new", session(&[]), &[], write(0)),
        ("changed", session(&["/s/a"]), &[("/s/a", "old", MINE)], write(MINE)),
        ("held by another, which the guard shows", session(&[]), &[("/s/a", "x", THEIRS)], write(0)),
    ];
    check(rows, &put("/s/a", "new"), 0);
    let was_shared: [Row; 1] = [("was shared", sharing(Hold::Lease(COMMON), true), &[], {
        (Change::Put { value: "80".into() }, vec![Guard::Lease(COMMON)])
    })];
    check(was_shared, &put(PORT, "80"), 0);
}

#[test]
fn own_entries_are_left_to_other_hosts_only() {
    let write = |guard| (Change::Put { value: "new".into() }, vec![guard]);
    let leave = |lease, by| (left_to("new", lease, by), vec![]);
    let rows: [Row; 10] = [
        ("deleted by hand", session(&["/s/a"]), &[], write(Guard::Absent)),
        ("there after a lost answer", session(&[]), &[("/s/a", "new", MINE)], write(Guard::Unchanged(WRITTEN))),
        ("overwritten by a person", session(&["/s/a"]), &[("/s/a", "x", 0)], write(Guard::Unchanged(WRITTEN))),
        ("of an earlier life that says nothing", session(&[]), &[("/s/a", "new", 50)], {
            write(Guard::Unchanged(WRITTEN))
        }),
        ("of an earlier life", session(&[]), &[("/s/a", "old", 11)], write(Guard::Unchanged(WRITTEN))),
        ("of an earlier life elsewhere that leaves", session(&[]), &[("/s/a", "old", 13)], {
            write(Guard::Unchanged(WRITTEN))
        }),
        ("of a host of the same name", session(&[]), &[("/s/a", "old", 12)], leave(12, Some(("a", "10.0.0.9")))),
        ("overwritten by another host", session(&["/s/a"]), &[("/s/a", "x", THEIRS)], {
            leave(THEIRS, Some(("b", "10.0.0.2")))
        }),
        ("the same at another host", session(&[]), &[("/s/a", "new", THEIRS)], {
            leave(THEIRS, Some(("b", "10.0.0.2")))
        }),
        ("of another program", session(&[]), &[("/s/a", "x", 50)], leave(50, None)),
    ];
    check(rows, &put("/s/a", "new"), 1);
}

#[test]
fn own_entries_go_only_while_they_are_under_the_lease() {
    let rows: [Row; 1] = [("gone", session(&["/s/a"]), &[("/s/a", "x", THEIRS)], (Change::Delete, vec![]))];
    check(rows, &Step::Delete { key: "/s/a".into() }, 0);
    let detach = Change::Detach { value: "bye".into(), lease: None };
    let rows: [Row; 1] = [("detached", session(&["/s/a"]), &[], (detach, vec![]))];
    check(rows, &Step::PutDetached { key: "/s/a".into(), value: "bye".into() }, 0);
}

#[test]
fn shared_entries_are_written_by_the_first_host_and_joined_by_others() {
    let value: Arc<str> = "80".into();
    let write = |guards| (Change::PutShared { value: value.clone(), lease: None }, guards);
    let hold = |hold, guards| (Change::HoldShared { value: value.clone(), hold }, guards);
    let join = hold(Hold::Lease(COMMON), vec![Guard::Unchanged(WRITTEN)]);
    let wait = hold(Hold::Contested("90".into()), vec![]);
    let quiet = vec![Guard::Unchanged(WRITTEN), Guard::QuietDirectory(LISTED)];
    let beside = || session(&["/s/a"]);
    let rows: [Row; 12] = [
        ("first host", session(&[]), &[], write(vec![Guard::Absent])),
        ("deleted by hand", sharing(Hold::Lease(COMMON), true), &[], write(vec![Guard::Absent])),
        ("was an own entry", session(&[PORT]), &[(PORT, "80", MINE)], write(vec![Guard::Unchanged(WRITTEN)])),
        ("second host", session(&[]), &[(PORT, "80", COMMON)], join.clone()),
        ("held already", sharing(Hold::Lease(COMMON), true), &[(PORT, "80", COMMON)], join),
        ("its lease has just ended", session(&[]), &[(PORT, "80", ENDED)], write(vec![Guard::Absent])),
        ("permanent", session(&[]), &[(PORT, "80", 0)], hold(Hold::Permanent, vec![])),
        ("permanent with another value", beside(), &[(PORT, "90", 0), ("/s/a", "old", MINE)], wait.clone()),
        ("another value, perhaps of another host", session(&[]), &[(PORT, "90", COMMON)], wait.clone()),
        ("another value of this host only", beside(), &[(PORT, "90", COMMON), ("/s/a", "old", MINE)], {
            write(quiet.clone())
        }),
        ("another value, others deeper only", beside(), &[(PORT, "90", COMMON), ("/s/t/b", "1", THEIRS)], write(quiet)),
        ("another value of two hosts", beside(), &[(PORT, "90", COMMON), ("/s/b", "1", THEIRS)], wait),
    ];
    check(rows, &share("80"), 0);
}

#[test]
fn an_own_entry_that_comes_with_a_shared_one_counts_too() {
    let etcd = Etcd::with(&[(PORT, "90", COMMON)]);
    let steps = [put("/s/a", "1"), share("80")];
    let actions = etcd.plan(&session(&[]), None, &steps, 0);
    assert!(matches!(actions[1].change, Change::PutShared { .. }), "{actions:?}");
}

#[test]
fn shared_entries_are_deleted_by_the_last_host() {
    let held = |sibling| sharing(Hold::Lease(COMMON), sibling);
    let there = (PORT, "80", COMMON);
    let leave = || (Change::Release, vec![]);
    let delete = || (Change::DeleteShared, vec![Guard::Unchanged(WRITTEN), Guard::QuietDirectory(LISTED)]);
    let rows: [Row; 9] = [
        ("not held", session(&[]), &[there], leave()),
        ("last host", held(true), &[there, ("/s/a", "1", MINE)], delete()),
        ("last host, others deeper only", held(true), &[there, ("/s/t/b", "1", THEIRS)], delete()),
        ("another host is there", held(true), &[there, ("/s/b", "1", THEIRS)], leave()),
        ("a person's key is there", held(true), &[there, ("/s/b", "1", 0)], leave()),
        ("nothing shows who else holds it", held(false), &[there], leave()),
        ("gone already", held(true), &[("/s/a", "1", MINE)], leave()),
        ("permanent", sharing(Hold::Permanent, true), &[(PORT, "80", 0)], leave()),
        ("another host's value", sharing(Hold::Contested("90".into()), true), &[(PORT, "90", COMMON)], leave()),
    ];
    check(rows, &release(), 0);
    check([("others keep changing the directory", held(true), &[there], leave())], &release(), ATTEMPTS);
}

#[test]
fn what_is_astray_is_restored_or_taken_over() {
    let read = |there: Keys| {
        Etcd::with(there).keys.into_iter().map(|(key, found)| (key, Some(found))).collect::<BTreeMap<_, _>>()
    };
    let table: [(&str, Hold, Keys, bool); 7] = [
        ("intact", Hold::Lease(COMMON), &[(PORT, "80", COMMON)], true),
        ("gone", Hold::Lease(COMMON), &[], false),
        ("under another lease", Hold::Lease(COMMON), &[(PORT, "80", THEIRS)], false),
        ("another value", Hold::Lease(COMMON), &[(PORT, "90", COMMON)], false),
        ("permanent", Hold::Permanent, &[(PORT, "80", 0)], true),
        ("permanent and gone", Hold::Permanent, &[], false),
        ("waiting", Hold::Contested("90".into()), &[(PORT, "90", COMMON)], false),
    ];
    for (name, hold, there, is_intact) in table {
        let steps = restore(&sharing(hold, true), &read(there));
        assert_eq!(steps, if is_intact { vec![] } else { vec![share("80")] }, "{name}");
    }
    let table: [(&str, Keys, bool); 3] = [
        ("held", &[("/s/a", "x", THEIRS)], false),
        ("gone", &[], true),
        ("under another lease", &[("/s/a", "x", 3)], true),
    ];
    for (name, there, is_left) in table {
        let mut session = session(&[]);
        session.contested.insert("/s/a".into(), Contested { value: "new".into(), lease: THEIRS, by: None });
        let steps = restore(&session, &read(there));
        assert_eq!(steps, if is_left { vec![put("/s/a", "new")] } else { vec![] }, "{name}");
    }
}

#[test]
fn a_shared_entry_is_one_and_the_same_until_its_last_host_leaves() {
    let mut etcd = Etcd::default();
    let (mut one, mut two) = (session(&[]), Session::new(THEIRS, BTreeMap::new()));
    assert_eq!(etcd.carry_out(&mut one, &[put("/s/a", "1"), share("80")]), 1);
    let lease = etcd.lease(PORT);
    assert_eq!(etcd.carry_out(&mut two, &[put("/s/b", "1"), share("80")]), 1);
    assert_eq!((etcd.lease(PORT), one.shared_lease(PORT)), (lease, lease));
    assert_eq!(two.shared_lease(PORT), lease);
    // The first host leaves, and comes back.
    etcd.carry_out(&mut one, &[Step::Delete { key: "/s/a".into() }]);
    etcd.carry_out(&mut one, &[release()]);
    assert_eq!((etcd.lease(PORT), one.shared_leases()), (lease, BTreeSet::new()));
    etcd.carry_out(&mut one, &[put("/s/a", "1"), share("80")]);
    assert_eq!(etcd.lease(PORT), lease);
    // Both leave, the second without a word.
    etcd.remove_lease(THEIRS);
    etcd.carry_out(&mut one, &[Step::Delete { key: "/s/a".into() }]);
    etcd.carry_out(&mut one, &[release()]);
    assert!(etcd.keys.is_empty());
    etcd.carry_out(&mut one, &[put("/s/a", "1"), share("80")]);
    assert_ne!(etcd.lease(PORT), lease);
}

#[test]
fn a_host_that_comes_while_the_last_one_leaves_keeps_the_entry() {
    let mut etcd = Etcd::default();
    let (mut one, mut two) = (session(&[]), Session::new(THEIRS, BTreeMap::new()));
    etcd.carry_out(&mut one, &[put("/s/a", "1"), share("80")]);
    let mut leaving = etcd.plan(&one, None, &[release()], 0);
    assert_eq!(leaving[0].change, Change::DeleteShared);
    etcd.carry_out(&mut two, &[put("/s/b", "1"), share("80")]);
    assert!(!etcd.transact(MINE, &mut leaving), "the guards let it pass");
    etcd.carry_out(&mut one, &[release()]);
    assert_eq!(etcd.lease(PORT), two.shared_lease(PORT));
    // The other way round: the second host finds it gone.
    etcd.carry_out(&mut one, &[Step::Delete { key: "/s/a".into() }]);
    let mut coming = etcd.plan(&one, None, &[put("/s/a", "1"), share("80")], 0);
    assert!(matches!(coming[1].change, Change::HoldShared { .. }), "{coming:?}");
    etcd.carry_out(&mut two, &[Step::Delete { key: "/s/b".into() }]);
    etcd.carry_out(&mut two, &[release()]);
    assert!(!etcd.transact(MINE, &mut coming), "the guards let it pass");
}

#[test]
fn what_was_done_though_its_answer_was_lost_is_found() {
    let mut etcd = Etcd::default();
    let mut one = session(&[]);
    let steps = [put("/s/a", "1"), share("80")];
    let mut actions = etcd.plan(&one, None, &steps, 0);
    assert!(etcd.transact(MINE, &mut actions));
    // Nothing is recorded, and the same transaction does not take effect twice.
    assert!(!etcd.transact(MINE, &mut actions.clone()));
    assert_eq!(etcd.carry_out(&mut one, &steps), 2);
    assert_eq!(one.own.keys().collect::<Vec<_>>(), ["/s/a"]);
    // The lease of the lost answer is the one that is kept alive from now on.
    let granted = *actions[1].granted().unwrap();
    assert_eq!((one.shared_lease(PORT), etcd.lease(PORT)), (granted, granted));
}

#[test]
fn a_contested_key_is_taken_over_when_it_is_left() {
    let mut etcd = Etcd::default();
    let (mut one, mut two) = (session(&[]), Session::new(THEIRS, BTreeMap::new()));
    etcd.carry_out(&mut one, &[put("/s/a", "one")]);
    assert_eq!(etcd.carry_out(&mut two, &[put("/s/a", "two"), put("/s/b", "two")]), 2);
    assert_eq!((etcd.lease("/s/a"), etcd.lease("/s/b")), (Some(MINE), Some(THEIRS)));
    assert!(!two.own.contains_key("/s/a") && two.contested["/s/a"].lease == MINE);
    etcd.remove_lease(MINE);
    let steps = restore(&two, &BTreeMap::from([("/s/a".to_owned(), None)]));
    assert_eq!(etcd.carry_out(&mut two, &steps), 1);
    assert_eq!(etcd.lease("/s/a"), Some(THEIRS));
    assert!(two.own.contains_key("/s/a") && two.contested.is_empty());
}

#[test]
fn a_shared_entry_that_becomes_an_own_one_waits_as_such() {
    let mut etcd = Etcd::with(&[(PORT, "90", COMMON)]);
    let mut one = session(&[]);
    etcd.carry_out(&mut one, &[share("80")]);
    assert_eq!(one.shared[PORT].hold, Hold::Contested("90".into()));
    etcd.carry_out(&mut one, &[put(PORT, "80")]);
    assert!(one.shared.is_empty() && one.contested[PORT].lease == COMMON);
}
