//! The project's own rules, checked over its files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use harness::repository;

/// Lines of the longest source file.
const LONGEST: usize = 400;

/// What each module of the agent may use of the others. `grouping`, `layout` and `output` call plugins; whatever
/// needs more than this belongs into one of the loops.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("simulated", &[]),
    ("backoff", &["simulated"]),
    ("config", &[]),
    ("status", &["model"]),
    ("docker", &["model", "backoff", "config", "status"]),
    ("grouping", &["model", "backoff", "config", "plugin", "status"]),
    ("health", &["model", "config", "status"]),
    ("layout", &["model", "backoff", "config", "plugin", "status"]),
    ("registry", &["model", "backoff", "config", "status"]),
    ("catalog", &["model", "backoff", "config", "status"]),
    ("output", &["model", "simulated", "backoff", "config", "plugin", "status"]),
    ("proxy", &["model", "backoff", "config", "status"]),
    ("plugin", &["model", "backoff", "config", "status"]),
];

/// Modules that see all the others.
const SEE_ALL: &[&str] = &["register", "discover", "agent", "main", "lib", "cli"];

/// Foreign crates whose types stop at the door of one module.
const DOORS: &[(&str, &str)] = &[
    ("bollard", "docker"),
    ("etcd_client", "registry"),
    ("tonic", "registry"),
    ("wasmtime", "plugin"),
    ("wasmtime_wasi", "plugin"),
];

/// The files below `dir` whose names end in `ending`, without what was built or cloned.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && !["target", ".git", "node_modules", ".venv"].contains(&name.as_str()) {
            found.extend(files(&path, ending));
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(repository()).unwrap_or(path).display().to_string()
}

/// Sources of the agent with the module at the top that each belongs to.
fn agent_sources() -> Vec<(String, PathBuf, String)> {
    let root = repository().join("agent/src");
    let module = |path: &Path| {
        let first = path.strip_prefix(&root).unwrap().iter().next().unwrap().to_string_lossy().into_owned();
        first.trim_end_matches(".rs").to_owned()
    };
    let sources = files(&root, ".rs").into_iter();
    sources.map(|path| (module(&path), path.clone(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// A source without its comments; every line stays a line.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The line of the character at `at`.
fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// The modules that stand right after `crate::`, each with its line; for `crate::{a::{b, c}, d}` those are `a` and `d`.
fn used_modules(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, before) in code.match_indices("crate::") {
        let start = at + before.len();
        if !code[start..].starts_with('{') {
            found.push((line_of(code, at), word(&code[start..])));
            continue;
        }
        let mut depth = 0;
        for (offset, character) in code[start..].char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 1 && (character == '{' || character == ',') {
                found.push((line_of(code, start + offset), word(&code[start + offset + 1..])));
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// The word that `text` begins with.
fn word(text: &str) -> &str {
    let text = text.trim_start();
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

#[test]
fn no_source_file_is_too_long() {
    let too_long: Vec<_> = files(&repository(), ".rs")
        .into_iter()
        .map(|path| (std::fs::read_to_string(&path).unwrap_or_default().lines().count(), path))
        .filter(|(lines, _)| *lines > LONGEST)
        .map(|(lines, path)| format!("{}: {lines} lines", shown(&path)))
        .collect();
    assert!(too_long.is_empty(), "longer than {LONGEST} lines: {too_long:#?}");
}

#[test]
fn module_files_stand_beside_their_folders() {
    let wrong: Vec<_> = files(&repository(), "mod.rs")
        .iter()
        .map(|path| shown(path))
        .filter(|path| path.ends_with("/mod.rs"))
        .collect();
    assert!(wrong.is_empty(), "write foo.rs beside foo/ instead of: {wrong:?}");
}

#[test]
fn stages_never_use_stages() {
    let allowed: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let known: BTreeSet<_> = allowed.keys().chain(SEE_ALL).copied().collect();
    let mut wrong = Vec::new();
    for (module, path, text) in agent_sources() {
        assert!(known.contains(module.as_str()), "{} is new: add it to the table in this test", shown(&path));
        let Some(may_use) = allowed.get(module.as_str()) else { continue };
        for (line, used) in used_modules(&code(&text)) {
            if used != module && known.contains(used) && !may_use.contains(&used) {
                wrong.push(format!("{}:{line}: {module} uses {used}", shown(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "only `register`, `discover` and `agent` see the stages: {wrong:#?}");
}

#[test]
fn foreign_types_stop_at_the_door() {
    let mut wrong = Vec::new();
    for (module, path, text) in agent_sources() {
        for (index, line) in code(&text).lines().enumerate() {
            for (library, door) in DOORS.iter().filter(|(_, door)| *door != module) {
                let used = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == *library);
                if used {
                    wrong.push(format!("{}:{}: {library} belongs behind {door}", shown(&path), index + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_plugin_says_what_it_is() {
    let mut folders: Vec<_> =
        std::fs::read_dir(repository().join("plugins")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.is_dir() && !folder.ends_with("sdk"));
    assert!(folders.len() >= 9, "{folders:?}");
    for folder in folders {
        let readme = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
        let headings: Vec<_> = readme.lines().filter_map(|line| line.strip_prefix("## ")).map(str::trim).collect();
        for heading in ["Name", "Description", "Settings", "Example"] {
            assert!(headings.contains(&heading), "{}/README.md has no section {heading}: {headings:?}", shown(&folder));
        }
        for file in ["Cargo.toml", "src/lib.rs"] {
            assert!(folder.join(file).is_file(), "{}/{file} is missing", shown(&folder));
        }
    }
}
