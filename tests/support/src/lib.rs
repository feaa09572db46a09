//! What the tests of all crates share: free ports, and waiting for a value with a deadline.

// A panic with a sentence is how a test ends, so every function here may do it.
#![allow(clippy::missing_panics_doc)]

mod ports;
mod wait;

pub use ports::free_port;
#[cfg(feature = "async")]
pub use wait::eventually_async;
pub use wait::{DEADLINE, always, eventually, holds};
