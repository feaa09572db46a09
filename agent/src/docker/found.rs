//! What the engine tells, as this module passes it on.

use std::time::Duration;

use crate::model::Container;

/// A running container, and the signal that asks it to stop.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) container: Container,
    pub(super) stop_signal: u8,
    pub(super) stop_timeout: Duration,
}

/// An error of the engine, with what to do about a socket that is not there.
pub(super) fn words(error: bollard::errors::Error) -> anyhow::Error {
    match &error {
        bollard::errors::Error::SocketNotFoundError(path) => anyhow::anyhow!("there is no socket {path}; does it run?"),
        _ => anyhow::Error::new(error),
    }
}
