//! Stage: config.
