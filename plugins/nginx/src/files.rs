//! The files that nginx reads.

/// A whole configuration, which includes the others.
pub const MAIN: &str = "nginx.conf";
/// What belongs into an `http` block.
pub const HTTP: &str = "http.conf";
/// What belongs into a `stream` block.
pub const STREAM: &str = "stream.conf";
