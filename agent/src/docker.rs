//! Stage: docker.
