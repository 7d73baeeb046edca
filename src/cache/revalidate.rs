//! The entry is older than the last edit: does any edit since touch it?

use super::FlowCache;
use super::session::Entry;
use crate::epoch::Since;
use crate::hook::{Direction, HookSet};
use crate::key::FlowKey;
use crate::packet::Packet;
use crate::pipeline::{Pipeline, Walk};
use crate::trie::Indexed;
use crate::verdict::Path;

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// Brings an entry's session to the current generation and says what that took.
    ///
    /// Both directions share the stamp, so both are tested. Where an edit touched one, its hooks look again: they keep or
    /// replace their steps, or become pending. Cost: one comparison when nothing was committed since; else one box test for
    /// each region since and direction, at most as many as the log holds.
    #[inline]
    pub(super) fn freshen<P: Packet<Key = K>>(&mut self, entry: Entry) -> Path
    where
        H: Walk<P>,
    {
        match self.sessions.get(entry.slot) {
            Some(session) if session.stamp < self.log.current() => self.revalidate::<P>(entry),
            _ => Path::Hit,
        }
    }

    fn revalidate<P: Packet<Key = K>>(&mut self, entry: Entry) -> Path
    where
        H: Walk<P>,
    {
        let Some(session) = self.sessions.get_mut(entry.slot) else {
            return Path::Hit;
        };
        let views = Direction::BOTH.map(|direction| session.views(direction));
        let mut touched = [HookSet::NONE; 2];
        match self.log.since(session.stamp) {
            Since::Fresh => return Path::Hit,
            Since::Lost => {
                self.stats.log_lost += 1;
                touched = [HookSet::ALL; 2];
            }
            Since::Regions(regions) => {
                for (hook, region) in regions {
                    self.stats.region_tests += 1;
                    for (touched, views) in touched.iter_mut().zip(&views) {
                        if region.pattern.contains(views.of(region.view)) {
                            *touched = touched.union(hook);
                        }
                    }
                }
            }
        }
        session.stamp = self.log.current();
        let mut path = Path::Restamped;
        for direction in Direction::BOTH {
            let half = &mut session.halves[direction as usize];
            let touched = touched[direction as usize];
            // A direction that no packet has come in depends on nothing yet.
            if half.packets > 0 && !touched.is_empty() {
                let judge =
                    self.hooks
                        .recheck(&mut half.destiny, touched, &views[direction as usize]);
                half.pending = half.pending.union(judge);
                path = Path::Rechecked;
            }
        }
        path
    }
}
