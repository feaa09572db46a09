use serde_json::json;

use super::*;
use crate::model::Change;

const MIN: Duration = Duration::from_millis(50);

/// Services that may be served, each of a form that a number tells.
fn accepted(forms: &[(&str, u16)]) -> Accepted {
    let served = |(name, form): &(&str, u16)| {
        let fragment = json!({ "path": "f", "key": name, "text": format!("{name} {form}\n") });
        let value = json!({ "service": { "name": name, "instances": [], "denied": [form.to_string()] }, "fragments": [fragment], "claims": [] });
        (Arc::from(*name), Arc::new(serde_json::from_value(value).unwrap()))
    };
    forms.iter().map(served).collect()
}

/// A state, the time, and a proxy that does what it is told.
struct World {
    state: State,
    now: Instant,
    base: Base,
    number: u64,
    reloads: ReloadStatus,
    done: Vec<String>,
}

impl World {
    fn new(resync: Option<Duration>) -> Self {
        let pace = Pace { min: MIN, max: 10 * MIN };
        let state = State::new(pace, resync, (BTreeSet::new(), Accepted::new()));
        let base: Base = Vec::new().into();
        World { state, now: Instant::now(), base, number: 0, reloads: ReloadStatus::default(), done: Vec::new() }
    }

    fn accept(&mut self, forms: &[(&str, u16)]) {
        self.state.accept(&accepted(forms), Some(&self.base), [BTreeSet::new(), BTreeSet::new()], None, self.now);
    }

    /// Carries out what is due now; gives what it was.
    fn run(&mut self, end: End) -> Vec<String> {
        for _ in 0..50 {
            let (actions, _) = self.state.next(self.now);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.state.begin(&action, self.now);
                self.carry_out(action, end);
            }
        }
        std::mem::take(&mut self.done)
    }

    fn carry_out(&mut self, action: Action, end: End) {
        match action {
            Action::Accept => self.accept(&[]),
            Action::TryAgain => self.done.push("try again".to_owned()),
            Action::Talk(talk) if talk.is_probe() => {
                let ended = Ended { processes: [self.reloads.reloads.to_string()].into(), ..Ended::default() };
                self.state.talked(&talk, Some(&ended), self.now);
            }
            Action::Talk(talk) => {
                let one = |(name, change): &(Arc<str>, Change)| {
                    let is_look = change.before == change.after && change.after.is_some();
                    format!("{} {name}", if is_look { "look" } else { "tell" })
                };
                self.done.extend(talk.changes.iter().map(one));
                let services = talk.changes.iter().map(|(name, _)| (Arc::clone(name), end)).collect();
                let ended = Ended { services, processes: [self.reloads.reloads.to_string()].into() };
                self.state.talked(&talk, Some(&ended), self.now);
            }
            Action::Write(job) => {
                self.number += 1;
                self.done.push("write".to_owned());
                let Job { services, base, .. } = job;
                let (left_out, binds) = (BTreeSet::new(), BTreeSet::new());
                let written = Written { number: self.number, services, base, left_out, binds };
                self.state.wrote(Ok(Arc::new(written)), None, self.now);
            }
            Action::Reload => {
                self.done.push("reload".to_owned());
                self.reloads.wanted += 1;
                self.reload_begins();
                self.reloads.done = self.reloads.wanted;
                self.reloads.loaded = Some(self.number);
                self.reload_ends();
            }
        }
    }

    fn reload_begins(&mut self) {
        self.reloads.begun += 1;
        self.state.reloading(&self.reloads.clone(), self.now);
    }

    fn reload_ends(&mut self) {
        self.reloads.reloads += 1;
        self.state.reloading(&self.reloads.clone(), self.now);
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
    }

    fn is_up_to_date(&self) -> bool {
        self.state.differences(self.now).is_empty()
    }
}

const SETTLED: End = End::Settled { reload_soon: false };

#[test]
fn without_live_updates_every_change_is_written_and_loaded() {
    let mut world = World::new(None);
    world.accept(&[("a", 1)]);
    assert_eq!(world.run(SETTLED), ["write", "reload"]);
    assert!(world.is_up_to_date());
    assert_eq!(world.run(SETTLED), [""; 0]);
    world.later(10 * MIN);
    world.accept(&[("a", 2)]);
    assert!(!world.is_up_to_date());
    assert_eq!(world.run(SETTLED), ["write", "reload"]);
    // A change that comes right after waits until it is quiet.
    world.accept(&[("a", 3)]);
    assert_eq!(world.run(SETTLED), [""; 0]);
    world.later(MIN);
    assert_eq!(world.run(SETTLED), ["write", "reload"]);
}

#[test]
fn a_proxy_that_takes_live_updates_is_reloaded_once_and_then_told() {
    let mut world = World::new(Some(Duration::from_mins(5)));
    world.accept(&[("a", 1)]);
    assert_eq!(world.run(SETTLED), ["write", "reload", "look a"], "it is not known what it loaded");
    assert!(world.is_up_to_date());
    world.later(Duration::from_mins(1));
    world.accept(&[("a", 1), ("b", 1)]);
    assert_eq!(world.run(SETTLED), ["tell b"]);
    assert_eq!(world.state.differences(world.now), ["the files follow"]);
    world.later(MIN);
    assert_eq!(world.run(SETTLED), ["write"]);
    assert!(world.is_up_to_date());
    // Files that nobody waits for are written less often while changes go on.
    for form in 2..60 {
        world.later(Duration::from_secs(1));
        world.accept(&[("a", form), ("b", 1)]);
        world.run(SETTLED);
    }
    assert!((5..12).contains(&world.number), "{} sets of files in a minute", world.number);
}

#[test]
fn what_cannot_be_brought_live_owes_one_reload_when_it_is_written() {
    let mut world = World::new(Some(Duration::from_mins(5)));
    world.accept(&[("a", 1)]);
    world.run(SETTLED);
    world.later(Duration::from_mins(1));
    world.accept(&[("a", 2)]);
    let (actions, _) = world.state.next(world.now);
    world.state.begin(&actions[0], world.now);
    world.carry_out(actions.into_iter().next().unwrap(), End::Reload);
    assert_eq!(world.run(SETTLED), ["tell a", "write", "reload", "tell a"], "the process may have both forms");
    assert!(world.is_up_to_date());
}

#[test]
fn what_left_since_the_files_were_loaded_is_asked_about_after_a_reload() {
    let mut world = World::new(Some(Duration::from_mins(5)));
    world.accept(&[("a", 1), ("b", 1)]);
    world.run(SETTLED);
    world.later(Duration::from_mins(1));
    // A reload begins, and only then `b` leaves.
    world.reload_begins();
    world.accept(&[("a", 1)]);
    assert_eq!(world.run(SETTLED), ["tell b"]);
    world.reload_ends();
    assert_eq!(world.run(SETTLED), ["tell b", "look a"], "the new process has it by its files");
}

/// The next conversation, which a process answers; gives the one that it is not for.
fn talk(world: &mut World, process: &str) -> Option<String> {
    let (actions, _) = world.state.next(world.now);
    let talk = actions.into_iter().find_map(|action| match action {
        Action::Talk(talk) if !talk.is_probe() => Some(talk),
        _ => None,
    });
    let talk = talk.expect("a conversation is due");
    world.state.begin(&Action::Talk(talk.clone()), world.now);
    let services = talk.changes.iter().map(|(name, _)| (Arc::clone(name), SETTLED)).collect();
    world.state.talked(&talk, Some(&Ended { services, processes: [process.to_owned()].into() }), world.now);
    talk.old
}

#[test]
fn a_process_that_answers_before_the_end_of_its_reload_is_known_is_not_taken_for_the_old_one() {
    let mut world = World::new(Some(Duration::from_mins(5)));
    world.accept(&[("a", 1), ("b", 1)]);
    world.run(SETTLED);
    world.later(Duration::from_mins(1));
    world.reload_begins();
    world.accept(&[("a", 1)]);
    talk(&mut world, "1");
    world.accept(&[("a", 1), ("c", 1)]);
    talk(&mut world, "new");
    world.reload_ends();
    assert_eq!(talk(&mut world, "new").as_deref(), Some("1"));
}

#[test]
fn a_process_that_somebody_else_started_is_not_taken_for_the_old_one() {
    let mut world = World::new(Some(Duration::from_mins(5)));
    world.accept(&[("a", 1)]);
    world.run(SETTLED);
    world.later(Duration::from_mins(1));
    world.accept(&[("a", 2)]);
    talk(&mut world, "theirs");
    assert_eq!(talk(&mut world, "theirs").as_deref(), Some("1"));
}

#[test]
fn another_base_owes_a_reload_whatever_live_updates_bring() {
    let mut world = World::new(Some(Duration::from_mins(5)));
    world.accept(&[("a", 1)]);
    world.run(SETTLED);
    let fragment = crate::model::Fragment { path: "f".to_owned(), key: "0".to_owned(), text: "maxconn 1\n".to_owned() };
    world.base = vec![fragment].into();
    world.later(Duration::from_mins(1));
    world.accept(&[("a", 1)]);
    assert_eq!(world.run(SETTLED), ["write", "reload", "look a"]);
}

#[test]
fn what_the_proxy_has_otherwise_than_loaded_costs_one_reload_and_not_many() {
    let mut world = World::new(Some(Duration::from_mins(5)));
    world.accept(&[("a", 1)]);
    world.run(SETTLED);
    let mut reloads = 0;
    for _ in 0..600 {
        world.later(Duration::from_secs(1));
        reloads += world.run(End::Reload).iter().filter(|done| *done == "reload").count();
    }
    assert!((1..12).contains(&reloads), "{reloads} reloads in ten minutes");
}
