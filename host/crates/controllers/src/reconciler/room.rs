use std::collections::HashSet;

use jiff::Timestamp;

use super::{Name, Reconciler};
use crate::capacity::{Capacity, Holding, capacity};
use crate::copier::Copier;
use crate::tracked::Tracked;

/// How much the registry holds.
impl<C: Copier> Reconciler<C> {
    /// Adds up what the registry holds, and has images go before their time where that is too much.
    pub(super) fn make_room(&mut self) {
        let holdings = self.images.iter().filter_map(|(name, tracked)| holding(name, tracked)).collect();
        let Capacity { needed, unneeded, makes_room } = capacity(holdings, self.max_size, Timestamp::now());
        self.metrics.holds(needed, unneeded, self.max_size);
        let is_too_small = self.max_size.is_some_and(|max| needed > max);
        if is_too_small && !self.is_too_small {
            tracing::warn!(
                needed,
                max = self.max_size,
                "images that are in use or retained are larger than the registry may be, and stay: raise registry.maxSize, and the volume"
            );
        }
        self.is_too_small = is_too_small;
        let makes_room: HashSet<Name> = makes_room.into_iter().collect();
        let mut changed = Vec::new();
        for (name, tracked) in &mut self.images {
            let makes_room = makes_room.contains(name);
            if tracked.makes_room != makes_room {
                tracked.makes_room = makes_room;
                changed.push(name.clone());
            }
        }
        for name in changed {
            self.touch(&name);
        }
    }
}

/// What its status says that the registry has of it; nothing of one that was never copied.
fn holding(name: &Name, tracked: &Tracked) -> Option<Holding<Name>> {
    let status = tracked.image.status.as_ref()?;
    let size = u64::try_from(status.size?).unwrap_or(0);
    // A status says so of what nothing uses and nobody retains, and of nothing else.
    let unused_since = status.expires_at.as_ref().and(status.unused_since.as_ref()).map(|since| since.0);
    Some(Holding { name: name.clone(), size, unused_since })
}
