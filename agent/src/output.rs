//! Stage: output.

pub mod files;
pub mod write;
