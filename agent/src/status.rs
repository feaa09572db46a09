//! The state of every stage, for the log and for whoever asks the running agent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::model::{Instance, Service, Services, printable};

mod socket;

pub use socket::{ask, serve};

/// Most problems of one component that are kept; a hostile registry must neither fill the agent nor hide other locations.
const PROBLEMS_LIMIT: usize = 1000;
/// Longest text of one problem, in bytes.
const TEXT_LIMIT: usize = 2000;

/// Something that is not as it should be, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The stage that says so.
    pub component: String,
    /// What it is about: a container, a directory, a service.
    pub subject: String,
    /// What was found, what is expected, what happens meanwhile.
    pub text: String,
    /// When it began, RFC 3339.
    pub since: String,
}

/// What is known of one output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputState {
    /// Directory it writes to.
    pub directory: String,
    /// Services it takes.
    pub services: usize,
    /// Files it wrote since it started.
    pub writes: u64,
    /// Reloads that succeeded.
    pub reloads: u64,
    /// Changes of services that the running proxy took without a reload; none when it takes none that way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<u64>,
    /// Whether what is wanted, accepted, written, loaded and run is the same.
    pub settled: bool,
    /// What of it differs, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// Services without instances that answer that nobody is there, and until when, RFC 3339; the first few.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lingering: BTreeMap<String, String>,
    /// What went wrong last, while it does.
    pub error: Option<String>,
}

/// Everything the agent tells of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Name of this host.
    pub node: String,
    /// The registry in words.
    pub registry: String,
    /// All services.
    pub services: Vec<ServiceReport>,
    /// Outputs by name.
    pub outputs: BTreeMap<String, OutputState>,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
}

/// A service and its instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// The name.
    pub name: String,
    /// Sorted by id.
    pub instances: Vec<Arc<Instance>>,
}

impl From<&Service> for ServiceReport {
    fn from(service: &Service) -> Self {
        ServiceReport { name: service.name.clone(), instances: service.instances.clone() }
    }
}

/// The state that all stages write to; a clone is the same state.
#[derive(Clone)]
pub struct Status {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    node: String,
    registry: String,
    services: Services,
    outputs: BTreeMap<String, OutputState>,
    problems: BTreeMap<(String, String), (String, SystemTime)>,
}

impl Status {
    /// No state yet, of the host `node`.
    pub fn new(node: &str) -> Self {
        let state = State { node: node.to_owned(), ..State::default() };
        Status { state: Arc::new(Mutex::new(state)), changed: watch::Sender::new(0) }
    }

    /// Notes a problem and logs it once, however often it is noted.
    pub fn problem(&self, component: &str, subject: &str, mut text: String) {
        if text.len() > TEXT_LIMIT {
            text.truncate(text.floor_char_boundary(TEXT_LIMIT));
            text.push('…');
        }
        let mut state = self.state();
        let key = (component.to_owned(), subject.to_owned());
        let of_component = (component.to_owned(), String::new())..=(format!("{component}\0"), String::new());
        let since = match state.problems.get(&key) {
            Some((known, _)) if *known == text => return,
            Some((_, since)) => *since,
            None if state.problems.range(of_component).count() >= PROBLEMS_LIMIT => return,
            None => SystemTime::now(),
        };
        warn!(component, subject = printable(subject), text = %printable(&text), "problem");
        state.problems.insert(key, (text, since));
        drop(state);
        self.bump();
    }

    /// Notes a problem that says less than any that is known already.
    pub fn problem_if_none(&self, component: &str, subject: &str, text: String) {
        if !self.state().problems.contains_key(&(component.to_owned(), subject.to_owned())) {
            self.problem(component, subject, text);
        }
    }

    /// Changes the text of a problem that stands, without another line in the log.
    pub fn update(&self, component: &str, subject: &str, text: String) {
        if let Some(known) = self.state().problems.get_mut(&(component.to_owned(), subject.to_owned())) {
            known.0 = text;
        }
        self.bump();
    }

    /// Ends a problem, when there was one, because it is solved.
    pub fn resolved(&self, component: &str, subject: &str) {
        if self.end(component, subject) {
            info!(component, subject = printable(subject), "problem resolved");
        }
    }

    /// Ends a problem, when there was one, because its subject does not exist any more.
    pub fn gone(&self, component: &str, subject: &str) {
        if self.end(component, subject) {
            info!(component, subject = printable(subject), "problem over, its subject is gone");
        }
    }

    fn end(&self, component: &str, subject: &str) -> bool {
        let removed = self.state().problems.remove(&(component.to_owned(), subject.to_owned()));
        if removed.is_some() {
            self.bump();
        }
        removed.is_some()
    }

    /// Makes `problems`, text by subject, the only ones of `component`.
    pub fn replace(&self, component: &str, problems: BTreeMap<String, String>) {
        let known: Vec<String> = self
            .state()
            .problems
            .keys()
            .filter(|(at, _)| at == component)
            .map(|(_, subject)| subject.clone())
            .collect();
        known
            .iter()
            .filter(|subject| !problems.contains_key(*subject))
            .for_each(|subject| self.resolved(component, subject));
        problems.into_iter().for_each(|(subject, text)| self.problem(component, &subject, text));
    }

    /// Says what the registry is.
    pub fn registry(&self, text: String) {
        self.state().registry = text;
    }

    /// Says what all hosts offer.
    pub fn services(&self, services: &Services) {
        self.state().services = services.clone();
        self.bump();
    }

    /// Says how an output is.
    pub fn output(&self, name: &str, state: OutputState) {
        self.state().outputs.insert(name.to_owned(), state);
        self.bump();
    }

    /// Everything as it is now.
    pub fn report(&self) -> Report {
        let state = self.state();
        let problems = state.problems.iter().map(|((component, subject), (text, since))| Problem {
            component: component.clone(),
            subject: subject.clone(),
            text: text.clone(),
            since: humantime::format_rfc3339_seconds(*since).to_string(),
        });
        Report {
            node: state.node.clone(),
            registry: state.registry.clone(),
            services: state.services.values().map(|service| ServiceReport::from(&**service)).collect(),
            outputs: state.outputs.clone(),
            problems: problems.collect(),
        }
    }

    /// Wakes whenever something changed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn bump(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subjects(status: &Status) -> Vec<String> {
        status.report().problems.into_iter().map(|problem| format!("{} {}", problem.subject, problem.text)).collect()
    }

    #[test]
    fn a_problem_stands_until_it_is_resolved() {
        let status = Status::new("n");
        status.problem("a", "x", "one".into());
        status.problem("a", "x", "two".into());
        assert_eq!(subjects(&status), ["x two"]);
        status.resolved("a", "x");
        assert_eq!(subjects(&status), [""; 0]);
    }

    #[test]
    fn replacing_a_place_leaves_the_others() {
        let status = Status::new("n");
        status.problem("a", "x", "one".into());
        status.problem("b", "y", "two".into());
        status.replace("a", [("z".to_owned(), "three".to_owned())].into());
        assert_eq!(subjects(&status), ["z three", "y two"]);
    }

    #[test]
    fn hostile_text_and_number_are_bounded() {
        let status = Status::new("n");
        status.problem("a", "x", "é".repeat(100_000));
        for subject in 0..5000 {
            status.problem("b", &subject.to_string(), String::new());
        }
        let report = status.report();
        assert!(report.problems[0].text.len() < TEXT_LIMIT + 8);
        assert_eq!(report.problems.len(), PROBLEMS_LIMIT + 1);
    }
}
