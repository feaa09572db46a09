//! Where one output's files go, and who reads them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::live::LiveOptions;
use crate::output::Memory;
use crate::output::write::Directory;
use crate::proxy::Proxy;

/// Where [`serve`](super::serve()) puts what it renders.
pub struct Target {
    /// Name of the output in log and status.
    pub name: String,
    /// Directory of the files.
    pub directory: Directory,
    /// What the files have of services that they do not follow.
    pub memory: Memory,
    /// The process that reads them.
    pub proxy: Proxy,
    /// How the running process takes changes without a reload.
    pub live: Option<LiveOptions>,
    /// Whether a supervised proxy goes on without the agent.
    pub leave: Arc<AtomicBool>,
}
