//! Where the log goes, and how it looks there.

use std::fmt;
use std::io::IsTerminal as _;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, bail};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Compact, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Starts the log on standard error: `filter` as in `--log`, in JSON, for journald, or for people.
///
/// # Errors
/// When `filter` is none.
pub(crate) fn start(filter: &str, in_json: bool) -> Result<()> {
    let log = tracing_subscriber::fmt().with_env_filter(parse(filter)?).with_writer(std::io::stderr).with_target(false);
    if in_json {
        log.json().init();
    } else if is_journal() {
        log.with_ansi(false).event_format(Journal(Format::default().without_time().with_level(false).compact())).init();
    } else {
        log.with_ansi(std::io::stderr().is_terminal()).init();
    }
    Ok(())
}

/// A level, or directives such as `info,waypost::proxy=debug`: a single word that is no level would be the name of a
/// module to the library, and silence everything else.
fn parse(filter: &str) -> Result<EnvFilter> {
    for word in filter.split(',').map(str::trim).filter(|word| !word.contains(['=', '['])) {
        if word.is_empty() || word.parse::<LevelFilter>().is_err() {
            bail!("found {word:?}, expected error, warn, info, debug, trace, off, or MODULE=LEVEL separated by commas");
        }
    }
    EnvFilter::try_new(filter).context("expected directives such as info,waypost::proxy=debug")
}

/// Whether standard error is the journal's own stream, as systemd says in `JOURNAL_STREAM` (systemd.exec(5)).
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

/// Lines for journald, which has a time of its own and reads the priority from a prefix (sd-daemon(3)).
struct Journal(Format<Compact, ()>);

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        write!(writer, "<{priority}>")?;
        self.0.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_level_and_no_directive_is_refused() {
        for good in ["info", "WARN", "off", "info,waypost::proxy=debug", "waypost=trace"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["verbose", "", "info,loud", "waypost=loud"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
