//! What the tests of all crates share: free ports, waiting for a value with a deadline, and programs that end
//! with their test.

// A panic with a sentence is how a test ends, so every function here may do it.
#![allow(clippy::missing_panics_doc)]

mod ports;
mod program;
mod wait;

pub use ports::free_port;
pub use program::{Program, Signal, haproxy};
#[cfg(feature = "async")]
pub use wait::eventually_async;
pub use wait::{DEADLINE, always, eventually, holds};
