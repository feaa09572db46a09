//! Stage: registry.
