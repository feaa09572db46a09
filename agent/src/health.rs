//! Stage: health.
