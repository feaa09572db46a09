//! Stage: plugin.
