//! The project's own rules, checked over its files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use harness::repository;

mod circles;

/// Lines of the longest source file.
const LONGEST: usize = 400;

/// Characters of the longest line of prose in a page.
const WIDEST: usize = 200;

/// What each module of the agent may use of the others, in the order in which data passes them; `lib.rs` declares them
/// in this order. A module that needs more belongs into one of the loops.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("simulated", &[]),
    ("atomic", &[]),
    ("backoff", &["simulated"]),
    ("signal", &[]),
    ("dialect", &["signal"]),
    ("shutdown", &[]),
    ("status", &["model"]),
    ("plugin", &["model", "atomic", "backoff", "status"]),
    ("memo", &["plugin", "status"]),
    ("docker", &["model", "backoff", "dialect", "status"]),
    ("health", &["model", "status"]),
    ("grouping", &["model", "plugin", "memo", "status"]),
    ("layout", &["model", "backoff", "plugin", "memo", "status"]),
    ("registry", &["model", "atomic", "backoff", "status"]),
    ("catalog", &["model", "backoff", "status"]),
    ("output", &["model", "simulated", "backoff", "plugin", "status"]),
    ("proxy", &["model", "backoff", "signal", "dialect", "shutdown", "status"]),
];

/// Modules that use all the others, in the order of `lib.rs`; those of the binary are last.
const SEE_ALL: &[&str] = &["register", "discover", "config", "agent", "main", "lib", "cli"];

/// Foreign crates, and the one module that knows their types.
const OWNERS: &[(&str, &str)] = &[
    ("bollard", "docker"),
    ("etcd_client", "registry"),
    ("tonic", "registry"),
    ("redb", "output"),
    ("wasmtime", "plugin"),
    ("wasmtime_wasi", "plugin"),
];

/// Words that this project once made up, and what to write instead.
const BANNED: &[(&str, &str)] = &[
    ("doubt", "self-preservation"),
    ("doubted", "preserved"),
    ("wishes", "what a container consumes"),
    ("board", "status"),
    ("farewell", "shutdown mode"),
    ("frame", "base"),
    ("rooms", "modules"),
    ("front end", "frontend"),
    ("control socket", "stats socket"),
    ("prepared backend", "standby backend"),
    ("spare backend", "standby backend"),
    ("second column", "Debian 13"),
    ("match () {", "if and else"),
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
fn modules_are_declared_in_the_order_in_which_data_passes_them() {
    let lib = std::fs::read_to_string(repository().join("agent/src/lib.rs")).unwrap();
    let declared: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let stages = MAY_USE.iter().map(|(module, _)| *module);
    let expected: Vec<&str> =
        stages.chain(SEE_ALL.iter().copied()).filter(|module| declared.contains(module)).collect();
    assert_eq!(declared, expected, "agent/src/lib.rs has another order than the table in this test");
}

#[test]
fn words_that_were_made_up_are_not_used() {
    let mut wrong = Vec::new();
    let sources =
        [".rs", ".md", ".wit", ".json", ".toml", ".py"].iter().flat_map(|ending| files(&repository(), ending));
    // These name what has another name now.
    let exempt = ["CHANGELOG.md", "houserules.rs", "config/renamed.rs"];
    for path in sources.filter(|path| !exempt.iter().any(|end| path.ends_with(end))) {
        let text = std::fs::read_to_string(&path).unwrap_or_default().to_lowercase();
        for (index, line) in text.lines().enumerate() {
            for (word, instead) in BANNED.iter().filter(|(word, _)| has_word(line, word)) {
                wrong.push(format!("{}:{}: {word:?}, write {instead:?}", shown(&path), index + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether a line has these words, and not only as a part of others.
fn has_word(line: &str, word: &str) -> bool {
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '-');
    line.match_indices(word)
        .any(|(at, _)| !is_letter(line[..at].chars().next_back()) && !is_letter(line[at + word.len()..].chars().next()))
}

#[test]
fn prose_has_one_sentence_a_line() {
    let mut wrong = Vec::new();
    for path in files(&repository(), ".md") {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut is_code = false;
        for (index, line) in text.lines().enumerate() {
            is_code ^= line.trim_start().starts_with("```");
            let is_prose = !is_code && !line.trim_start().starts_with(['|', '#', '[']) && !line.starts_with("    ");
            if is_prose && line.chars().count() > WIDEST {
                wrong.push(format!("{}:{}: {} characters", shown(&path), index + 1, line.chars().count()));
            }
        }
    }
    assert!(wrong.is_empty(), "a line of prose has one sentence and at most {WIDEST} characters: {wrong:#?}");
}

#[test]
fn foreign_types_stay_in_one_module() {
    let mut wrong = Vec::new();
    for (module, path, text) in agent_sources() {
        for (index, line) in code(&text).lines().enumerate() {
            for (library, owner) in OWNERS.iter().filter(|(_, owner)| *owner != module) {
                let used = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|word| word == *library);
                if used {
                    wrong.push(format!("{}:{}: {library} belongs into {owner}", shown(&path), index + 1));
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
