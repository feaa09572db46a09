//! One request to shut down, for all tasks of an agent, and what goes on after it.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// What an agent leaves running when it ends, for the next agent to take over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Registrations stay under their lease.
    pub registrations: bool,
    /// Supervised proxies go on.
    pub proxies: KeptProxies,
}

/// Supervised proxies that go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeptProxies {
    /// All are stopped.
    #[default]
    None,
    /// Those of these outputs go on.
    Of(BTreeSet<String>),
    /// All go on.
    All,
}

impl Kept {
    /// Everything stays, as for an agent that is replaced at once.
    pub fn all() -> Self {
        Kept { registrations: true, proxies: KeptProxies::All }
    }
}

/// The request to shut down. Clones are the same request.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    requested: CancellationToken,
    kept: Arc<OnceLock<Kept>>,
    by_default: Kept,
}

impl Shutdown {
    /// A request that nobody has made yet; `kept` stays when it is made without saying what stays.
    pub fn new(kept: Kept) -> Self {
        Shutdown { by_default: kept, ..Shutdown::default() }
    }

    /// Asks all tasks to end.
    pub fn request(&self) {
        self.requested.cancel();
    }

    /// Asks all tasks to end; what stays is what the first request of this kind says.
    pub fn request_keeping(&self, kept: Kept) {
        self.kept.get_or_init(|| kept);
        self.request();
    }

    /// Waits for the request.
    pub async fn requested(&self) {
        self.requested.cancelled().await;
    }

    /// Fires at the request, for a task that leaves nothing behind.
    pub fn token(&self) -> CancellationToken {
        self.requested.clone()
    }

    /// Whether registrations stay; final only after the request.
    pub fn keeps_registrations(&self) -> bool {
        self.kept().registrations
    }

    /// Whether the supervised proxy of this output goes on; final only after the request.
    pub fn keeps_proxy(&self, output: &str) -> bool {
        match &self.kept().proxies {
            KeptProxies::None => false,
            KeptProxies::Of(outputs) => outputs.contains(output),
            KeptProxies::All => true,
        }
    }

    fn kept(&self) -> &Kept {
        self.kept.get().unwrap_or(&self.by_default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_said_once_or_by_default() {
        let shutdown = Shutdown::new(Kept::all());
        assert!(shutdown.keeps_registrations() && shutdown.keeps_proxy("haproxy"));
        let seen_by_a_task = shutdown.clone();
        let of = |name: &str| Kept { registrations: true, proxies: KeptProxies::Of([name.to_owned()].into()) };
        shutdown.request_keeping(of("nginx"));
        shutdown.request_keeping(of("haproxy"));
        shutdown.request();
        assert!(seen_by_a_task.token().is_cancelled());
        assert!(seen_by_a_task.keeps_registrations());
        assert!(seen_by_a_task.keeps_proxy("nginx") && !seen_by_a_task.keeps_proxy("haproxy"));

        let shutdown = Shutdown::default();
        shutdown.request();
        assert!(!shutdown.keeps_registrations() && !shutdown.keeps_proxy("nginx"));
    }
}
