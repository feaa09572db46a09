//! Stage: output.
