//! The agent and the plugin `haproxy` in a simulated world: random stories, each from a seed, and what must hold whenever
//! all is quiet. `WAYPOST_SEEDS=n` plays so many, `WAYPOST_SEED=n` that one, and tells it.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]
#![expect(clippy::format_push_string, clippy::format_collect, reason = "answers are texts of a few lines")]

mod catalog;
mod chance;
mod check;
mod native;
mod process;
mod reloads;
mod run;
mod socket;
mod world;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use catalog::{Story, occupied, story, unheard};
use run::play;
use waypost::simulated::Fault;

/// How long, in milliseconds, an old process may go on answering after a reload was reported to have succeeded.
pub(crate) const OLD_ANSWERS: u64 = 300;
/// Seeds of a normal run.
const SEEDS: u64 = 10_000;
const THREADS: u64 = 2;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn story_of(seed: u64, fault: Option<Fault>) -> Story {
    match fault {
        Some(Fault::PlacesAtOnce) => occupied(),
        Some(Fault::LostIsBelieved) => unheard(),
        _ => story(seed),
    }
}

/// The first seed that fails of so many, in words.
fn first_failure(seeds: u64, fault: Option<Fault>, by: &str) -> Option<u64> {
    let (next, found) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let is_found = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while !is_found.load(Ordering::Acquire) {
                    let seed = next.fetch_add(1, Ordering::AcqRel);
                    if seed >= seeds {
                        break;
                    }
                    let violations = play(seed, &story_of(seed, fault), fault, false).violations;
                    if violations.iter().any(|text| text.contains(by)) {
                        found.fetch_min(seed, Ordering::AcqRel);
                        is_found.store(true, Ordering::Release);
                    }
                }
            });
        }
    });
    Some(found.into_inner()).filter(|seed| *seed != u64::MAX)
}

/// The shortest story that still fails.
fn shrunk(seed: u64, fault: Option<Fault>) -> Story {
    let fails = |story: &Story| !play(seed, story, fault, false).violations.is_empty();
    let mut story = story(seed);
    let mut at = 0;
    while at < story.len() {
        let mut shorter = story.clone();
        let (wait, _) = shorter.remove(at);
        if let Some(next) = shorter.get_mut(at) {
            next.0 += wait;
        }
        if fails(&shorter) {
            (story, at) = (shorter, 0);
            continue;
        }
        shorter.clone_from(&story);
        shorter.remove(at);
        if fails(&shorter) {
            (story, at) = (shorter, 0);
            continue;
        }
        at += 1;
    }
    story
}

/// Tells a failure with its shortest story.
fn told(seed: u64, fault: Option<Fault>) -> String {
    let story = shrunk(seed, fault);
    let outcome = play(seed, &story, fault, true);
    let events: Vec<String> = story.iter().map(|(wait, event)| format!("  after {wait} ms {event}")).collect();
    let (trace, violations) = (outcome.trace.join("\n  "), outcome.violations.join("\n  "));
    format!("seed {seed}: {violations}\nshortest story:\n{}\nwhat happened:\n  {trace}", events.join("\n"))
}

#[test]
fn all_states_agree_whenever_all_is_quiet() {
    if let Some(seed) = number("WAYPOST_SEED") {
        let outcome = play(seed, &story(seed), None, true);
        println!("{}", outcome.trace.join("\n"));
        assert!(outcome.violations.is_empty(), "{}", told(seed, None));
        return;
    }
    let (began, seeds) = (Instant::now(), number("WAYPOST_SEEDS").unwrap_or(SEEDS));
    let failure = first_failure(seeds, None, "");
    let played = failure.map_or(seeds, |seed| seed + 1);
    println!("{played} seeds in {:?}", began.elapsed());
    assert!(failure.is_none(), "{}", told(failure.unwrap(), None));
}

/// Faults that the agent once had, and in which words the model says what is wrong.
const FAULTS: [(Fault, &str); 11] = [
    (Fault::OwnIsForeign, "left out, since somebody else has its address"),
    (Fault::LoadedIsWritten, "the process has not the base of its files"),
    (Fault::StuckForEver, "a reload was in vain"),
    (Fault::RefusedIsLive, "is refused and is not what it was"),
    (Fault::RemovedIsForgotten, "routes of the process and of its files"),
    (Fault::PlacesAtOnce, "while a request is in it"),
    (Fault::HangingIsNoVerdict, "the files are not written"),
    (Fault::FirstByName, "never ceased to ask for it"),
    (Fault::NoLinger, "which left"),
    (Fault::BaseIsBlamed, "and nobody has it"),
    (Fault::LostIsBelieved, "the process has not the base of its files"),
];
/// Seeds that find each of them.
const ENOUGH: u64 = 300;

#[test]
fn every_planted_fault_is_found() {
    let both = [occupied(), unheard()];
    let sound = both.iter().flat_map(|story| (0..8).flat_map(|seed| play(seed, story, None, false).violations));
    assert_eq!(sound.collect::<Vec<_>>(), Vec::<String>::new());
    for (fault, by) in FAULTS {
        let seed = first_failure(ENOUGH, Some(fault), by).unwrap_or_else(|| panic!("{fault:?} is not found"));
        println!("{fault:?}: seed {seed}");
    }
}
