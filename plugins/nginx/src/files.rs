//! Names the files that nginx reads.

/// A whole configuration, which includes the others.
pub const MAIN: &str = "nginx.conf";
/// The contents of an `http` block.
pub const HTTP: &str = "http.conf";
/// The contents of a `stream` block.
pub const STREAM: &str = "stream.conf";
