//! Keeps plugin results per subject.
//!
//! A subject is sent to the plugin again when it changes, or when the plugin crashed on it. When a call fails, the last good
//! result stays, unless the subject has moved: its old address may belong to somebody else now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::StreamExt;

use crate::plugin::CallError;
use crate::status::Status;

/// Things asked about at the same time.
const PARALLEL: usize = 8;

/// Something that plugins are asked about one by one.
pub trait Subject: PartialEq {
    /// How people know it.
    fn title(&self) -> String;
    /// Whether plugins are to be asked again about what it has become.
    fn differs(&self, before: &Self) -> bool {
        self != before
    }
    /// Whether its last result may now lead to somebody else, for example because its port changed.
    fn has_moved(&self, before: &Self) -> bool;
}

/// What plugins said: a result, and complaints about what is left out of it.
pub type Answer<T> = Result<(T, Vec<String>), Failure>;

/// A call that gave no result.
#[derive(Debug)]
pub struct Failure {
    /// Why.
    pub error: CallError,
    /// Why, in words that name the plugin where that is not known.
    pub text: String,
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let text = error.to_string();
        Failure { error, text }
    }
}

struct Known<S, T> {
    subject: Arc<S>,
    /// The last good result, and the thing as it was then.
    result: Option<(Arc<S>, T)>,
}

/// The results of one stage, thing by thing.
pub struct Memo<K, S, T> {
    component: String,
    status: Status,
    known: BTreeMap<K, Known<S, T>>,
    retry: BTreeSet<K>,
}

impl<K: Ord + Clone, S: Subject, T> Memo<K, S, T> {
    /// Nothing yet; problems are reported under `component`.
    pub fn new(component: String, status: Status) -> Self {
        Memo { component, status, known: BTreeMap::new(), retry: BTreeSet::new() }
    }

    /// Takes in all things that there are now, and asks about those that differ from the last turn or failed then.
    pub async fn update<F: Future<Output = Answer<T>>>(
        &mut self,
        now: impl IntoIterator<Item = (K, Arc<S>)>,
        ask: impl Fn(Arc<S>) -> F,
    ) {
        let work = self.differing(now.into_iter().collect());
        let answers: Vec<_> = futures::stream::iter(work)
            .map(|(key, subject)| {
                let answer = ask(Arc::clone(&subject));
                async { (key, subject, answer.await) }
            })
            .buffer_unordered(PARALLEL)
            .collect()
            .await;
        answers.into_iter().for_each(|(key, subject, answer)| self.take(key, subject, answer));
    }

    /// Whether a plugin crashed on something, which is worth another try.
    pub fn wants_retry(&self) -> bool {
        !self.retry.is_empty()
    }

    /// Each thing as it is now, and what is known of it.
    pub fn results(&self) -> impl Iterator<Item = (&K, &Arc<S>, &T)> {
        self.known.iter().filter_map(|(key, known)| Some((key, &known.subject, &known.result.as_ref()?.1)))
    }

    fn differing(&mut self, now: BTreeMap<K, Arc<S>>) -> Vec<(K, Arc<S>)> {
        let retry = std::mem::take(&mut self.retry);
        for (_, known) in self.known.extract_if(.., |key, _| !now.contains_key(key)) {
            self.status.gone(&self.component, &known.subject.title());
        }
        let mut work = Vec::new();
        for (key, subject) in now {
            let is_new = match self.known.get_mut(&key) {
                Some(known) if Arc::ptr_eq(&known.subject, &subject) => false,
                Some(known) => {
                    let before = std::mem::replace(&mut known.subject, Arc::clone(&subject));
                    let title = before.title();
                    if title != subject.title() {
                        self.status.gone(&self.component, &title);
                    }
                    subject.differs(&before)
                }
                None => {
                    let known = Known { subject: Arc::clone(&subject), result: None };
                    self.known.insert(key.clone(), known);
                    true
                }
            };
            if is_new || retry.contains(&key) {
                work.push((key, subject));
            }
        }
        work
    }

    fn take(&mut self, key: K, subject: Arc<S>, answer: Answer<T>) {
        let Some(known) = self.known.get_mut(&key) else { return };
        let title = subject.title();
        match answer {
            Ok((value, complaints)) => {
                known.result = Some((subject, value));
                match complaints.is_empty() {
                    true => self.status.resolved(&self.component, &title),
                    false => self.status.problem(&self.component, &title, complaints.join("; ")),
                }
            }
            Err(Failure { error, text }) => {
                known.result.take_if(|(then, _)| subject.has_moved(then));
                match error {
                    // The crash itself says more than the suspension that follows it.
                    CallError::Suspended => self.status.problem_if_none(&self.component, &title, text),
                    _ => self.status.problem(&self.component, &title, text),
                }
                if !matches!(error, CallError::Refused(_)) {
                    self.retry.insert(key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(PartialEq)]
    struct Thing(&'static str, u16);

    impl Subject for Thing {
        fn title(&self) -> String {
            self.0.to_owned()
        }

        fn has_moved(&self, before: &Self) -> bool {
            self.1 != before.1
        }
    }

    struct Stage {
        memo: Memo<u8, Thing, u16>,
        status: Status,
        asked: Vec<String>,
    }

    impl Stage {
        fn new() -> Self {
            let status = Status::new("n");
            Stage { memo: Memo::new("stage".to_owned(), status.clone()), status, asked: Vec::new() }
        }

        /// One turn in which the plugin does this; what is known after it, and what is wrong.
        async fn turn(
            &mut self,
            things: &[(u8, &'static str, u16)],
            error: Option<CallError>,
        ) -> (Vec<u16>, Vec<String>) {
            let asked = std::sync::Mutex::new(Vec::new());
            let now = things.iter().map(|(key, name, port)| (*key, Arc::new(Thing(name, *port))));
            let ask = |thing: Arc<Thing>| {
                asked.lock().unwrap().push(thing.0.to_owned());
                let answer = match &error {
                    Some(error) => Err(error.clone().into()),
                    None => Ok((thing.1, Vec::new())),
                };
                async move { answer }
            };
            self.memo.update(now, ask).await;
            self.asked = asked.into_inner().unwrap();
            let problems = self.status.report().problems.into_iter();
            let wrong = problems.map(|problem| format!("{}: {}", problem.subject, problem.text)).collect();
            (self.memo.results().map(|(_, _, port)| *port).collect(), wrong)
        }
    }

    fn crashed() -> CallError {
        CallError::Crashed("it trapped".to_owned())
    }

    #[tokio::test]
    async fn what_differs_is_asked_and_what_is_gone_has_no_problem() {
        let mut stage = Stage::new();
        assert_eq!(stage.turn(&[(1, "a", 80), (2, "b", 81)], None).await.0, [80, 81]);
        assert_eq!(stage.turn(&[(1, "a", 80), (2, "b", 82)], None).await.0, [80, 82]);
        assert_eq!(stage.asked, ["b"]);
        let refused = Some(CallError::Refused("no".to_owned()));
        assert_eq!(stage.turn(&[(1, "a", 80), (3, "c", 83)], refused).await, (vec![80], vec!["c: no".to_owned()]));
        assert_eq!(stage.turn(&[(1, "a", 80), (3, "c", 83)], None).await.1, ["c: no"], "asked again in vain");
        assert_eq!(stage.turn(&[(1, "a", 80)], None).await, (vec![80], vec![]));
    }

    #[tokio::test]
    async fn what_a_plugin_crashed_on_stays_where_it_was_and_is_asked_again() {
        let mut stage = Stage::new();
        stage.turn(&[(1, "a", 80)], None).await;
        assert_eq!(stage.turn(&[(1, "b", 80)], Some(crashed())).await, (vec![80], vec!["b: it trapped".to_owned()]));
        // Why it crashed is said, and not that the plugin rests since.
        assert_eq!(stage.turn(&[(1, "b", 80)], Some(CallError::Suspended)).await.1, ["b: it trapped"]);
        assert!(stage.memo.wants_retry());
        assert_eq!(stage.turn(&[(1, "b", 81)], Some(crashed())).await.0, [0; 0], "what has moved does not stay");
        assert_eq!(stage.turn(&[(1, "b", 81)], None).await, (vec![81], vec![]));
        assert!(!stage.memo.wants_retry());
    }

    #[tokio::test]
    async fn a_plugin_that_rests_is_a_problem_of_what_it_was_never_asked_about() {
        let mut stage = Stage::new();
        let (_, wrong) = stage.turn(&[(1, "a", 80)], Some(CallError::Suspended)).await;
        assert_eq!(wrong, ["a: it crashed several times in a row; calls are suspended for a while"]);
    }
}
