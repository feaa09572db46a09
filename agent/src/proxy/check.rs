//! The proxy's own check of files that are not in place yet, and the lines that it finds fault with.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;

use super::command::{self, Outcome, Overdue};
use crate::dialect;

/// What a check said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The files may be put into place.
    Valid,
    /// The proxy would refuse them.
    Invalid {
        /// All that the check said, without the directory of the stage.
        text: String,
        /// The lines it finds fault with, in its order; empty when it names none.
        locations: Vec<Location>,
        /// The check did not end in its time.
        overdue: bool,
    },
}

/// A line of a staged file that a check finds fault with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// File below the output's directory.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it, in the check's own words.
    pub text: String,
    /// Whether it may become right although the file stays the same, as a taken address does.
    pub is_transient: bool,
}

/// Tells the configuration and the command that this is only a check, so that they leave out what costs time and
/// decides nothing.
const ENVIRONMENT: &[(&str, &str)] = &[("WAYPOST_CHECK", "1")];

/// Runs the check with `{dir}` being `staged`.
pub(super) async fn run(check: &[String], staged: &Path, limit: Duration) -> anyhow::Result<Verdict> {
    let outcome = match command::run(check, staged, ENVIRONMENT, limit).await {
        Ok(outcome) => outcome,
        // It waits for something that a line of the files names, such as a name server that does not answer.
        Err(error) if error.is::<Overdue>() => {
            let text = format!("the proxy's check took too long: {error}");
            return Ok(Verdict::Invalid { text, locations: Vec::new(), overdue: true });
        }
        Err(error) => return Err(error.context("the proxy's check could not be run")),
    };
    // Signals of a fault of its own can come from what it read; any other came from outside and says nothing.
    if let Some(signal) = outcome.status.signal()
        && !matches!(signal, 4 | 6 | 7 | 8 | 11)
    {
        bail!("the proxy's check was killed by signal {signal}");
    }
    Ok(judge(&outcome, staged))
}

fn judge(outcome: &Outcome, staged: &Path) -> Verdict {
    if outcome.status.success() && !dialect::has_failed(&outcome.stderr) {
        return Verdict::Valid;
    }
    let mut text = outcome.text();
    let mut locations = Vec::new();
    for dir in spellings(staged) {
        locations.extend(text.lines().filter_map(|line| dialect::fault(line, &dir)).map(|fault| Location {
            path: fault.path,
            line: fault.line,
            text: fault.text,
            is_transient: false,
        }));
        text = text.replace(&dir, "");
    }
    if text.is_empty() {
        text = format!("it ended with {} and said nothing", outcome.status);
    }
    Verdict::Invalid { text, locations, overdue: false }
}

/// The stage as it was handed over, and as a program that resolves links would name it; each ends in `/`.
fn spellings(staged: &Path) -> Vec<String> {
    let real = staged.canonicalize().unwrap_or_else(|_| PathBuf::from(staged));
    let mut spellings = vec![format!("{}/", staged.display())];
    if real != staged {
        spellings.push(format!("{}/", real.display()));
    }
    spellings
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;

    use super::*;

    fn judged(code: i32, stderr: &str) -> Verdict {
        let outcome = Outcome { status: ExitStatus::from_raw(code << 8), stdout: String::new(), stderr: stderr.into() };
        judge(&outcome, Path::new("/x/.waypost-staged"))
    }

    fn locations(stderr: &str) -> Vec<(String, usize, String)> {
        match judged(1, stderr) {
            Verdict::Invalid { locations, .. } => locations.into_iter().map(|p| (p.path, p.line, p.text)).collect(),
            Verdict::Valid => panic!("valid"),
        }
    }

    #[test]
    fn a_refused_line_is_a_place_below_the_directory() {
        let said =
            "[ALERT]    (7) : config : parsing [/x/.waypost-staged/haproxy.cfg:37] : unknown keyword 'garbage'\n";
        assert_eq!(locations(said), [("haproxy.cfg".to_owned(), 37, "unknown keyword 'garbage'".to_owned())]);
        let Verdict::Invalid { text, .. } = judged(1, said) else { panic!("valid") };
        assert!(text.contains("parsing [haproxy.cfg:37]") && !text.contains("staged"));
    }

    #[test]
    fn an_alert_and_every_exit_but_0_are_faults() {
        assert_eq!(judged(0, "[WARNING] (7) : careful\n"), Verdict::Valid);
        assert!(matches!(judged(0, "[ALERT] (7) : bad name\n"), Verdict::Invalid { .. }));
        let Verdict::Invalid { text, .. } = judged(2, "") else { panic!("valid") };
        assert_eq!(text, "it ended with exit status: 2 and said nothing");
    }
}
