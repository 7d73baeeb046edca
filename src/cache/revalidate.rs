//! The entry is older than the last edit: does any edit since touch it?

use super::session::{Entry, Session};
use super::{FlowCache, Stats};
use crate::epoch::{RegionLog, Since};
use crate::hook::{Direction, HookSet};
use crate::key::FlowKey;
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
        let touched = match Self::touched(&self.log, self.edited, session, &mut self.stats) {
            Some(touched) => touched,
            None => [HookSet::NONE; 2],
        };
        session.stamp = self.log.current();
        let mut path = Path::Restamped;
        for direction in Direction::BOTH {
            let touched = touched[direction as usize];
            if touched.is_empty() {
                continue;
            }
            let views = session.views(direction);
            let half = &mut session.halves[direction as usize];
            let judge = self.hooks.recheck(&mut half.destiny, touched, &views);
            half.pending = half.pending.union(judge);
            path = Path::Rechecked;
        }
        path
    }

    /// The hooks whose edits since the stamp touch each direction; `None` when no edit touches the session.
    ///
    /// A direction that no packet has come in depends on nothing yet.
    fn touched(
        log: &RegionLog<HookSet>,
        edited: HookSet,
        session: &Session<K, H::Destiny>,
        stats: &mut Stats,
    ) -> Option<[HookSet; 2]> {
        let seen = |direction: &Direction| session.halves[*direction as usize].packets > 0;
        let mut all = Direction::BOTH.into_iter().filter(seen);
        if log.many_since(session.stamp, FEW) {
            let clear = all.clone().all(|direction| {
                let tuples = session.tuples(direction);
                log.clears(session.stamp, |view| tuples.of(view))
            });
            if clear {
                stats.cleared += 1;
                return None;
            }
        }
        let mut touched = [HookSet::NONE; 2];
        let mut any = false;
        for direction in all.by_ref() {
            let touched = &mut touched[direction as usize];
            match log.since(session.stamp) {
                Since::Fresh => {}
                Since::Lost => {
                    stats.log_lost += 1;
                    return Some(Direction::BOTH.map(|direction| match seen(&direction) {
                        true => HookSet::ALL,
                        false => HookSet::NONE,
                    }));
                }
                Since::Regions(regions) => {
                    let tuples = session.tuples(direction);
                    for (hook, region) in regions {
                        stats.region_tests += 1;
                        if region.pattern.matches(tuples.of(region.view)) {
                            *touched = touched.union(hook);
                            if *touched == edited {
                                break;
                            }
                        }
                    }
                }
            }
            any |= !touched.is_empty();
        }
        any.then_some(touched)
    }
}
