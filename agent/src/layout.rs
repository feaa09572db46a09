//! Stage: layout.
