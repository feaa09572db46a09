//! The incremental composition against a simple one that looks at everything.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

fn fragment(path: &str, key: &str, text: &str) -> Fragment {
    Fragment { path: path.to_owned(), key: key.to_owned(), text: text.to_owned() }
}

/// A slot, and the texts that were given for it in their order, each with everyone who gives it.
type Given = BTreeMap<(String, String), Vec<(String, BTreeSet<String>)>>;
/// A slot, the text that stands and everyone who gave that text, in order.
type Taken = BTreeMap<(String, String), (String, Vec<String>)>;

/// What `Files` promises, written down as it reads: one service after the other, each slot by itself.
fn give(given: &mut Given, name: &str, fragments: &[Fragment]) {
    let texts = joined(fragments);
    let slots: BTreeSet<_> = given.keys().cloned().chain(texts.keys().cloned()).collect();
    for slot in slots {
        let all = given.entry(slot.clone()).or_default();
        let text = texts.get(&slot);
        let old = all.iter().position(|(_, names)| names.contains(name));
        if old.is_some_and(|index| Some(&all[index].0) == text) {
            continue;
        }
        let alone = old.filter(|index| all[*index].1.len() == 1);
        if let Some(index) = old {
            all[index].1.remove(name);
        }
        all.retain(|(_, names)| !names.is_empty());
        let Some(text) = text else { continue };
        let turn = if name.is_empty() { 0 } else { alone.unwrap_or(all.len()) };
        match all.iter().position(|(other, _)| other == text) {
            Some(index) => {
                let mut entry = all.remove(index);
                entry.1.insert(name.to_owned());
                all.insert(index.min(turn), entry);
            }
            None => all.insert(turn, (text.clone(), [name.to_owned()].into())),
        }
    }
    given.retain(|_, all| !all.is_empty());
}

fn reference(given: &Given) -> (Taken, BTreeMap<String, Conflict>) {
    let mut taken = Taken::new();
    let mut conflicts = BTreeMap::new();
    for ((path, key), all) in given {
        let holder = all[0].1.first().unwrap().clone();
        for name in all[1..].iter().flat_map(|(_, names)| names) {
            let conflict = Conflict { path: path.clone(), key: key.clone(), holder: holder.clone() };
            conflicts.entry(name.clone()).or_insert(conflict);
        }
        let names = all[0].1.iter().cloned().collect();
        taken.insert((path.clone(), key.clone()), (all[0].0.clone(), names));
    }
    (taken, conflicts)
}

fn texts(taken: &Taken) -> BTreeMap<String, Arc<str>> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for ((path, _), (text, _)) in taken {
        files.entry(path.clone()).or_default().push_str(text);
    }
    files.into_iter().map(|(path, text)| (path, text.into())).collect()
}

fn writers(taken: &Taken, path: &str) -> Vec<Option<String>> {
    let fragments = taken.iter().filter(|((at, _), _)| at == path);
    let lines = fragments.flat_map(|(_, (text, names))| text.lines().map(|_| names[0].clone()));
    lines.map(|name| Some(name).filter(|name| name != BASE)).collect()
}

fn any_parts() -> impl Strategy<Value = Vec<Fragment>> {
    let text = prop::sample::select(vec!["", "one\n", "two\nlines\n", "not ended"]);
    let path = prop::sample::select(vec!["a.cfg", "b.map"]);
    let key = prop::sample::select(vec!["1", "2", "3", "4"]);
    vec((path, key, text).prop_map(|(path, key, text)| fragment(path, key, text)), 0..4)
}

proptest! {
    #[test]
    fn it_equals_the_simple_composition(turns in vec(btree_map("[a-f]{0,1}", any_parts(), 1..5), 1..12)) {
        let mut files = Files::new();
        let mut given = Given::new();
        let mut last = BTreeMap::new();
        for turn in turns {
            for (name, fragments) in turn {
                if name.is_empty() { files.set_base(&fragments) } else { files.set(&name, &fragments) }
                give(&mut given, &name, &fragments);
            }
            let (taken, conflicts) = reference(&given);
            let Composed { files: composed, changed } = files.compose();
            prop_assert_eq!(files.conflicts(), conflicts);
            prop_assert_eq!(&composed, &texts(&taken));
            let paths: BTreeSet<&String> = composed.keys().chain(last.keys()).collect();
            let differ: BTreeSet<String> =
                paths.into_iter().filter(|path| composed.get(*path) != last.get(*path)).cloned().collect();
            prop_assert_eq!(changed, differ);
            for (path, text) in &composed {
                let count = text.lines().count();
                let found: Vec<_> = (1..=count).map(|line| files.service_at(path, line).map(str::to_owned)).collect();
                prop_assert_eq!(found, writers(&taken, path));
                prop_assert_eq!(files.service_at(path, 0), None);
                prop_assert_eq!(files.service_at(path, count + 1), None);
            }
            last = composed;
        }
    }
}

#[test]
fn who_was_there_first_has_the_slot_and_the_other_loses_that_part_alone() {
    let mut files = Files::new();
    files.set_base(&[fragment("haproxy.cfg", "0", "frontend in\n")]);
    files.set("web", &[fragment("haproxy.cfg", "1", "bind :80 web\n"), fragment("routes.map", "web", "web 1\n")]);
    files.set("api", &[fragment("haproxy.cfg", "1", "bind :80 api\n"), fragment("routes.map", "api", "api 1\n")]);
    let composed = files.compose();
    assert_eq!(&*composed.files["haproxy.cfg"], "frontend in\nbind :80 web\n");
    assert_eq!(&*composed.files["routes.map"], "api 1\nweb 1\n");
    let held = files.conflicts().remove("api").unwrap();
    assert_eq!((held.path.as_str(), held.key.as_str(), held.holder.as_str()), ("haproxy.cfg", "1", "web"));
    assert_eq!(files.service_at("haproxy.cfg", 1), None);
    assert_eq!(files.service_at("haproxy.cfg", 2), Some("web"));
    assert_eq!(files.base_fragment_at("haproxy.cfg", 1).unwrap(), fragment("haproxy.cfg", "0", "frontend in"));
    assert_eq!(files.base_fragment_at("haproxy.cfg", 2), None);

    // Another text of its own does not cost it its turn.
    files.set("web", &[fragment("haproxy.cfg", "1", "bind :81 web\n")]);
    assert_eq!(&*files.compose().files["haproxy.cfg"], "frontend in\nbind :81 web\n");
    files.set("web", &[]);
    assert!(files.conflicts().is_empty());
    assert_eq!(&*files.compose().files["haproxy.cfg"], "frontend in\nbind :80 api\n");
}

#[test]
fn unchanged_files_are_not_composed_again() {
    let mut files = Files::new();
    files.set("a", &[fragment("f", "1", "a\n"), fragment("g", "1", "a\n")]);
    let first = files.compose();
    files.set("a", &[fragment("f", "1", "a\n"), fragment("g", "1", "b\n")]);
    let second = files.compose();
    assert!(Arc::ptr_eq(&first.files["f"], &second.files["f"]));
    assert_eq!(second.changed.into_iter().collect::<Vec<_>>(), ["g"]);
    files.set("a", &[fragment("f", "1", "a\n"), fragment("g", "1", "b\n")]);
    assert!(files.compose().changed.is_empty());
}

#[test]
fn one_change_among_ten_thousand_services_touches_only_its_own_slots() {
    let mut files = Files::new();
    for index in 0..10_000 {
        let name = format!("service-{index:05}");
        let shared = fragment("haproxy.cfg", "0-shared", "frontend in\n");
        files.set(
            &name,
            &[shared, fragment("haproxy.cfg", &name, "backend\n"), fragment("routes.map", &name, "route\n")],
        );
    }
    assert_eq!(files.compose().files["haproxy.cfg"].lines().count(), 10_001);
    files.set("service-05000", &[fragment("routes.map", "service-05000", "other\n")]);
    assert_eq!(files.touched.len(), 2);
    assert!(files.contested.is_empty());
    let composed = files.compose();
    assert_eq!(composed.files["haproxy.cfg"].lines().count(), 10_000);
    assert_eq!(files.service_at("haproxy.cfg", 1), Some("service-00000"));
    assert_eq!(files.service_at("routes.map", 5001), Some("service-05000"));
}
