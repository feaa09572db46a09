//! What the catalog is made of.

use tokio::sync::watch;
use tokio::time::Instant;

use crate::catalog::SelfPreservation;
use crate::layout::{Decoder, Directories};
use crate::model::Entries;

/// One layout that is read: its entries and what they mean.
pub struct LayoutSource {
    /// Everything below the layout's prefixes.
    pub entries: watch::Receiver<Option<Entries>>,
    /// The stage that knows what they mean.
    pub decoder: Decoder,
    /// Keeps instances that vanish at once, where several hosts write; then the entries contain the keys of agents too.
    pub self_preservation: Option<SelfPreservation>,
}

impl LayoutSource {
    pub(super) async fn update(&mut self) -> bool {
        let Some(entries) = self.entries.borrow_and_update().clone() else { return false };
        self.decoder.update(&entries).await;
        if let Some(self_preservation) = &mut self.self_preservation {
            self_preservation.update(&entries, self.decoder.directories(), Instant::now());
        }
        true
    }

    pub(super) fn directories(&self) -> &Directories {
        self.self_preservation.as_ref().map_or(self.decoder.directories(), SelfPreservation::directories)
    }
}
