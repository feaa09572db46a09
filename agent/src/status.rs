//! Stage: status.
