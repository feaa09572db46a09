//! Stage: proxy.
