//! Processor time of a program and of what it ran.

use std::fs;
use std::ops::Sub;
use std::time::Duration;

use anyhow::{Context, Result};

/// Milliseconds of one tick of `/proc/<pid>/stat`: Linux shows programs 100 a second, whatever its own clock does.
const TICK: u64 = 10;

/// Processor time, user and system together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Spent {
    /// By the process itself, all its threads.
    pub(crate) own: Duration,
    /// By children that have ended and were waited for, and by theirs.
    pub(crate) children: Duration,
}

impl Spent {
    /// What the process `id` has spent up to now, by `/proc/<id>/stat`.
    pub(crate) fn by(id: u32) -> Result<Spent> {
        let path = format!("/proc/{id}/stat");
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        // The name, in brackets, may contain anything; the third field follows it.
        let (_, rest) = text.rsplit_once(") ").with_context(|| path.clone())?;
        let fields: Vec<&str> = rest.split(' ').collect();
        let ticks = |number: usize| -> Result<u64> {
            Ok(fields.get(number - 3).with_context(|| format!("{path}: no field {number}"))?.parse()?)
        };
        let time = |ticks: u64| Duration::from_millis(ticks * TICK);
        Ok(Spent { own: time(ticks(14)? + ticks(15)?), children: time(ticks(16)? + ticks(17)?) })
    }

    /// All of it.
    pub(crate) fn sum(self) -> Duration {
        self.own + self.children
    }
}

impl Sub for Spent {
    type Output = Spent;

    fn sub(self, earlier: Spent) -> Spent {
        let (own, children) = (self.own.saturating_sub(earlier.own), self.children.saturating_sub(earlier.children));
        Spent { own, children }
    }
}
