//! The incremental composition against a simple one that looks at everything.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

fn part(path: &str, key: &str, text: &str) -> Part {
    Part { path: path.to_owned(), key: key.to_owned(), text: text.to_owned() }
}

/// A slot, the text that has it and everyone who gave that text, in order.
type Taken = BTreeMap<(String, String), (String, Vec<String>)>;

/// What `Files` promises, written down as it reads: everything at once, in the order of names.
fn reference(services: &BTreeMap<String, Vec<Part>>) -> (Taken, BTreeMap<String, Conflict>) {
    let mut taken = Taken::new();
    let mut conflicts = BTreeMap::new();
    for (name, parts) in services {
        let parts = joined(parts.clone());
        let lost = parts.iter().find(|(slot, text)| taken.get(*slot).is_some_and(|(has, _)| has != *text));
        if let Some(((path, key), _)) = lost {
            let holder = taken[&(path.clone(), key.clone())].1[0].clone();
            conflicts.insert(name.clone(), Conflict { path: path.clone(), key: key.clone(), holder });
            continue;
        }
        for (slot, text) in parts {
            taken.entry(slot).or_insert_with(|| (text, Vec::new())).1.push(name.clone());
        }
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
    let parts = taken.iter().filter(|((at, _), _)| at == path);
    let lines = parts.flat_map(|(_, (text, names))| text.lines().map(|_| names[0].clone()));
    lines.map(|name| Some(name).filter(|name| name != FRAME)).collect()
}

fn any_parts() -> impl Strategy<Value = Vec<Part>> {
    let text = prop::sample::select(vec!["", "one\n", "two\nlines\n", "not ended"]);
    let path = prop::sample::select(vec!["a.cfg", "b.map"]);
    let key = prop::sample::select(vec!["1", "2", "3", "4"]);
    vec((path, key, text).prop_map(|(path, key, text)| part(path, key, text)), 0..4)
}

proptest! {
    #[test]
    fn it_equals_the_simple_composition(turns in vec(btree_map("[a-f]{0,1}", any_parts(), 1..5), 1..12)) {
        let mut files = Files::new();
        let mut services: BTreeMap<String, Vec<Part>> = BTreeMap::new();
        let mut last = BTreeMap::new();
        for turn in turns {
            for (name, parts) in turn {
                if name.is_empty() { files.set_frame(parts.clone()) } else { files.set(&name, parts.clone()) }
                services.insert(name, parts);
            }
            let (taken, conflicts) = reference(&services);
            prop_assert_eq!(files.conflicts(), conflicts.clone());
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
fn the_first_by_name_has_the_slot_and_the_other_is_held_back_whole() {
    let mut files = Files::new();
    files.set_frame(vec![part("haproxy.cfg", "0", "frontend in\n")]);
    files.set("web", vec![part("haproxy.cfg", "1", "bind :80 web\n"), part("routes.map", "web", "web 1\n")]);
    files.set("api", vec![part("haproxy.cfg", "1", "bind :80 api\n")]);
    let composed = files.compose();
    assert_eq!(&*composed.files["haproxy.cfg"], "frontend in\nbind :80 api\n");
    assert!(!composed.files.contains_key("routes.map"));
    let held = files.conflicts().remove("web").unwrap();
    assert_eq!((held.path.as_str(), held.key.as_str(), held.holder.as_str()), ("haproxy.cfg", "1", "api"));
    assert_eq!(files.service_at("haproxy.cfg", 1), None);
    assert_eq!(files.service_at("haproxy.cfg", 2), Some("api"));

    files.set("api", Vec::new());
    assert!(files.conflicts().is_empty());
    let composed = files.compose();
    assert_eq!(composed.changed.into_iter().collect::<Vec<_>>(), ["haproxy.cfg", "routes.map"]);
    assert_eq!(&*composed.files["routes.map"], "web 1\n");
}

#[test]
fn a_service_held_back_frees_its_slots_for_later_names() {
    let mut files = Files::new();
    files.set("a", vec![part("f", "1", "a\n")]);
    files.set("b", vec![part("f", "1", "b\n"), part("f", "2", "b\n")]);
    files.set("c", vec![part("f", "2", "c\n")]);
    assert_eq!(&*files.compose().files["f"], "a\nc\n");
    assert_eq!(files.conflicts().into_keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn unchanged_files_are_not_composed_again() {
    let mut files = Files::new();
    files.set("a", vec![part("f", "1", "a\n"), part("g", "1", "a\n")]);
    let first = files.compose();
    files.set("a", vec![part("f", "1", "a\n"), part("g", "1", "b\n")]);
    let second = files.compose();
    assert!(Arc::ptr_eq(&first.files["f"], &second.files["f"]));
    assert_eq!(second.changed.into_iter().collect::<Vec<_>>(), ["g"]);
    files.set("a", vec![part("f", "1", "a\n"), part("g", "1", "b\n")]);
    assert!(files.compose().changed.is_empty());
}

#[test]
fn one_change_among_ten_thousand_services_touches_only_its_own_slots() {
    let mut files = Files::new();
    for index in 0..10_000 {
        let name = format!("service-{index:05}");
        let shared = part("haproxy.cfg", "0-shared", "frontend in\n");
        files.set(&name, vec![shared, part("haproxy.cfg", &name, "backend\n"), part("routes.map", &name, "route\n")]);
    }
    assert_eq!(files.compose().files["haproxy.cfg"].lines().count(), 10_001);
    files.set("service-05000", vec![part("routes.map", "service-05000", "other\n")]);
    assert_eq!(files.touched.len(), 2);
    assert!(!files.claims_changed);
    let composed = files.compose();
    assert_eq!(composed.files["haproxy.cfg"].lines().count(), 10_000);
    assert_eq!(files.service_at("haproxy.cfg", 1), Some("service-00000"));
    assert_eq!(files.service_at("routes.map", 5001), Some("service-05000"));
}
