//! Stage: agent.
