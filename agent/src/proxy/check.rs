//! The proxy's own check of files that are not in place yet, and the lines that it finds fault with.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;

use super::command::{self, Outcome, Overdue};

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
        places: Vec<Place>,
        /// The check did not end in its time.
        overdue: bool,
    },
}

/// A line of a staged file that a check finds fault with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// File below the output's directory.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// What is wrong with it, in the check's own words.
    pub text: String,
    /// Whether it may become right although the file stays the same, as a taken address does.
    pub may_pass: bool,
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
            return Ok(Verdict::Invalid { text, places: Vec::new(), overdue: true });
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
    // HAProxy 3.4 ends with 0 after some errors, but says `[ALERT]` at each.
    if outcome.status.success() && !outcome.stderr.contains("[ALERT]") {
        return Verdict::Valid;
    }
    let mut text = outcome.text();
    let mut places = Vec::new();
    for dir in spellings(staged) {
        places.extend(text.lines().filter_map(|line| place(line, &dir)));
        text = text.replace(&dir, "");
    }
    if text.is_empty() {
        text = format!("it ended with {} and said nothing", outcome.status);
    }
    Verdict::Invalid { text, places, overdue: false }
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

/// The first `DIR/PATH:LINE` of a line of output, as the others in it are what the fault clashes with; nginx says where it is
/// last. A warning is no fault.
fn place(line: &str, dir: &str) -> Option<Place> {
    if ["[WARNING]", "[NOTICE]", "[warn]", "[notice]"].iter().any(|level| line.contains(level)) {
        return None;
    }
    let mut starts: Vec<usize> = line.match_indices(dir).map(|(start, _)| start).collect();
    if line.contains("[emerg]") {
        starts.reverse();
    }
    starts.into_iter().find_map(|start| {
        let (path, rest) = line[start + dir.len()..].split_once(':')?;
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number = rest[..digits].parse().ok().filter(|number| *number > 0)?;
        if path.is_empty() || path.contains(['[', ']', '\'', '"']) {
            return None;
        }
        let text = sentence(&line[..start], &rest[digits..]).replace(dir, "");
        Some(Place { path: path.to_owned(), line: number, text, may_pass: false })
    })
}

/// The words after a place (`HAProxy`), or those before it when there are none (nginx).
fn sentence(before: &str, after: &str) -> String {
    let after = after.trim_start_matches([']', ')', ':', ',', ' ']).trim();
    if after.chars().any(char::is_alphabetic) {
        return after.to_owned();
    }
    let before = before.trim_end_matches(['[', '(', '<', '"', '\'', ' ']);
    let before = before.strip_suffix(" in").or_else(|| before.strip_suffix(" at")).unwrap_or(before);
    let said = before.rsplit_once("] ").map_or(before, |(_, said)| said);
    // nginx puts `PID#THREAD: ` between the level and the words.
    let said = said.split_once(": ").filter(|(head, _)| head.contains('#')).map_or(said, |(_, said)| said);
    said.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::process::ExitStatus;

    use super::*;

    fn judged(code: i32, stderr: &str) -> Verdict {
        let outcome = Outcome { status: ExitStatus::from_raw(code << 8), stdout: String::new(), stderr: stderr.into() };
        judge(&outcome, Path::new("/x/.waypost-staged"))
    }

    fn places(stderr: &str) -> Vec<(String, usize, String)> {
        match judged(1, stderr) {
            Verdict::Invalid { places, .. } => places.into_iter().map(|p| (p.path, p.line, p.text)).collect(),
            Verdict::Valid => panic!("valid"),
        }
    }

    fn is(path: &str, line: usize, text: &str) -> (String, usize, String) {
        (path.to_owned(), line, text.to_owned())
    }

    #[test]
    fn haproxy_names_lines() {
        let said = "[NOTICE]   (7) : haproxy version is 2.6.12-1+deb12u4\n\
            [WARNING]  (7) : config : parsing [/x/.waypost-staged/haproxy.cfg:3] : 'option httplog' is not usable\n\
            [ALERT]    (7) : config : parsing [/x/.waypost-staged/haproxy.cfg:37] : unknown keyword 'garbage'\n\
            [ALERT]    (7) : config : Parsing [/x/.waypost-staged/a/b.cfg:16]: backend 'b' has the same name as \
            backend 'b' declared at /x/.waypost-staged/haproxy.cfg:13.\n\
            [ALERT]    (7) : config : [/x/.waypost-staged/haproxy.cfg:17] : 'server b/a' : invalid port '99999'\n\
            [ALERT]    (7) : config : Error(s) found in configuration file : /x/.waypost-staged/haproxy.cfg\n";
        let clash = "backend 'b' has the same name as backend 'b' declared at haproxy.cfg:13.";
        assert_eq!(
            places(said),
            [
                is("haproxy.cfg", 37, "unknown keyword 'garbage'"),
                is("a/b.cfg", 16, clash),
                is("haproxy.cfg", 17, "'server b/a' : invalid port '99999'")
            ]
        );
        let Verdict::Invalid { text, .. } = judged(1, said) else { panic!("valid") };
        assert!(text.contains("parsing [haproxy.cfg:37]") && !text.contains("staged"));
    }

    #[test]
    fn nginx_names_lines() {
        let said = "2026/11/22 16:39:00 [emerg] 25431#25431: unknown directive \"fooo\" in \
            /x/.waypost-staged/nginx.conf:2\nnginx: configuration file /x/.waypost-staged/nginx.conf test failed\n";
        assert_eq!(places(said), [is("nginx.conf", 2, "unknown directive \"fooo\"")]);
        let said = "nginx: [emerg] host not found in upstream \"a:1\" in /x/.waypost-staged/sites/a.conf:12\n";
        assert_eq!(places(said), [is("sites/a.conf", 12, "host not found in upstream \"a:1\"")]);
        let said = "nginx: [warn] conflicting server name \"a\" on 0.0.0.0:80, ignored in /x/.waypost-staged/http.conf:3\n\
            nginx: [emerg] upstream \"a\" may not have port 80 in /x/.waypost-staged/http.conf:7 in \
            /x/.waypost-staged/http.conf:2\n";
        assert_eq!(places(said), [is("http.conf", 2, "upstream \"a\" may not have port 80 in http.conf:7")]);
        let said = "nginx: [emerg] open() \"/x/.waypost-staged/y.conf\" failed (2: No such file or directory) in \
            /x/.waypost-staged/nginx.conf:31\n";
        let text = "open() \"y.conf\" failed (2: No such file or directory)";
        assert_eq!(places(said), [is("nginx.conf", 31, text)]);
    }

    #[test]
    fn what_is_no_place_is_not_taken_for_one() {
        assert_eq!(places("[ALERT] /x/.waypost-staged/haproxy.cfg: no line"), []);
        assert_eq!(places("[ALERT] /x/.waypost-staged/haproxy.cfg:0 : zero"), []);
        assert_eq!(places("[ALERT] /elsewhere/haproxy.cfg:5 : not ours"), []);
        assert_eq!(places("[ALERT] /x/.waypost-staged/:5 : no file"), []);
    }

    #[test]
    fn an_alert_and_every_exit_but_0_are_faults() {
        assert_eq!(judged(0, "[WARNING] (7) : careful\n"), Verdict::Valid);
        assert!(matches!(judged(0, "[ALERT] (7) : bad name\n"), Verdict::Invalid { .. }));
        let Verdict::Invalid { text, .. } = judged(2, "") else { panic!("valid") };
        assert_eq!(text, "it ended with exit status: 2 and said nothing");
    }
}
