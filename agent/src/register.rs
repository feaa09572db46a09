//! Stage: register.
