//! Where one output's files go, who reads them, and what the loop reads.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::model::{Ages, Services};
use crate::output::write::Directory;
use crate::output::{Consumed, SavedState, Selection};
use crate::plugin::Renderer;
use crate::proxy::{Proxy, Socket};

/// What [`serve`](super::serve()) reads.
pub struct Inputs {
    /// All services, once they are known.
    pub services: watch::Receiver<Option<Services>>,
    /// Since which revision of the registry they are there; never behind `services`.
    pub ages: watch::Receiver<Ages>,
    /// What containers of this host want within reach.
    pub consumed: watch::Receiver<Consumed>,
    /// Which services are for this output.
    pub selection: Selection,
}

/// Where [`serve`](super::serve()) puts what it renders.
pub struct Target {
    /// Name of the output in log and status.
    pub name: String,
    /// Directory of the files.
    pub directory: Directory,
    /// What an earlier agent served.
    pub saved_state: SavedState,
    /// How long what leads to a service outlives its last instance.
    pub linger: Duration,
    /// The process that reads them.
    pub proxy: Proxy,
    /// How the running process takes changes without a reload.
    pub live: Option<LiveOptions>,
}

/// What live updates need of the outside.
pub struct LiveOptions {
    /// An output that exports `live`.
    pub renderer: Arc<dyn Renderer>,
    /// This host.
    pub node: Arc<crate::model::Node>,
    /// The proxy's stats socket.
    pub socket: Socket,
    /// How often the proxy is asked about all services though nothing changed.
    pub resync: Duration,
}
