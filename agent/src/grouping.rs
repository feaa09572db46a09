//! Stage: grouping.
