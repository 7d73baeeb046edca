//! The entry is older than the last edit: does any edit since touch it?

use super::FlowCache;
use super::session::Entry;
use crate::epoch::{Since, View};
use crate::hook::{Direction, HookSet};
use crate::key::{Fields, FlowKey};
use crate::packet::Packet;
use crate::pipeline::{Pipeline, Walk};
use crate::trie::Indexed;
use crate::verdict::Path;

/// Regions that are tested without asking the log's granules first.
const FEW: usize = 4;

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// Brings an entry's session to the current generation and says what that took.
    ///
    /// Both directions share the stamp, so both are tested. Where an edit touched one, its hooks look again: they keep or
    /// replace their steps, or become pending. Cost: one comparison when nothing was committed since; one box test for each
    /// region since and direction while these are few; else a few words of the log's granules, and where these do not clear the
    /// session, a box test for each region since, at most as many as the log holds, until every hook ever edited is touched.
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
        // A direction that no packet has come in depends on nothing yet.
        let seen = Direction::BOTH.map(|direction| {
            let half = &session.halves[direction as usize];
            (half.packets > 0).then(|| session.views(direction))
        });
        let tuples = seen.each_ref().map(|views| {
            views
                .as_ref()
                .map(|views| View::ALL.map(|view| views.of(view).fields()))
        });
        let mut touched = [HookSet::NONE; 2];
        let clear = self.log.many_since(session.stamp, FEW) && {
            let clears =
                |tuples: &[Fields; 3]| self.log.clears(session.stamp, |view| tuples[view as usize]);
            tuples.iter().flatten().all(clears)
        };
        if clear {
            self.stats.cleared += 1;
        } else {
            match self.log.since(session.stamp) {
                Since::Fresh => return Path::Hit,
                Since::Lost => {
                    self.stats.log_lost += 1;
                    touched = [HookSet::ALL; 2];
                }
                Since::Regions(regions) => {
                    for (hook, region) in regions {
                        self.stats.region_tests += 1;
                        let mut all = true;
                        for (touched, tuples) in touched.iter_mut().zip(&tuples) {
                            let Some(tuples) = tuples else { continue };
                            if region.pattern.matches(&tuples[region.view as usize]) {
                                *touched = touched.union(hook);
                            }
                            all &= *touched == self.edited;
                        }
                        if all {
                            break;
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
            if let (Some(views), false) = (&seen[direction as usize], touched.is_empty()) {
                let judge = self.hooks.recheck(&mut half.destiny, touched, views);
                half.pending = half.pending.union(judge);
                path = Path::Rechecked;
            }
        }
        path
    }
}
