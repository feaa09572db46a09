//! Signals by name.

use std::fmt;
use std::str::FromStr;

/// A signal that the agent sends to a proxy; read from its name with or without `SIG`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `HUP`, by which nginx and most others reload.
    Hup,
    /// `USR1`
    Usr1,
    /// `USR2`, by which the master process of HAProxy reloads.
    Usr2,
    /// `TERM`, which ends it.
    Term,
}

impl Signal {
    const ALL: [(&'static str, Signal, rustix::process::Signal); 4] = [
        ("HUP", Signal::Hup, rustix::process::Signal::HUP),
        ("USR1", Signal::Usr1, rustix::process::Signal::USR1),
        ("USR2", Signal::Usr2, rustix::process::Signal::USR2),
        ("TERM", Signal::Term, rustix::process::Signal::TERM),
    ];

    /// As the system has it.
    pub fn number(self) -> rustix::process::Signal {
        Self::ALL.iter().find(|(_, signal, _)| *signal == self).map_or(rustix::process::Signal::HUP, |entry| entry.2)
    }
}

impl FromStr for Signal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("SIG").unwrap_or(text);
        let found = Self::ALL.iter().find(|(known, ..)| *known == name);
        found.map(|(_, signal, _)| *signal).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|(known, ..)| *known).collect();
            format!("found the signal {text:?}, expected one of {}", known.join(", "))
        })
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(_, signal, _)| signal == self).map_or("HUP", |(name, ..)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        assert_eq!("SIGUSR2".parse(), Ok(Signal::Usr2));
        for (name, signal, _) in Signal::ALL {
            assert_eq!((name.parse(), signal.to_string()), (Ok(signal), name.to_owned()));
        }
        let error = "KILL".parse::<Signal>().unwrap_err();
        assert_eq!(error, "found the signal \"KILL\", expected one of HUP, USR1, USR2, TERM");
    }
}
