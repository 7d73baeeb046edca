//! The entry is older than the last edit: does any edit since touch it?

use super::session::{AsSeen, Entry, Session};
use super::{End, FlowCache, Stats};
use crate::epoch::{Generation, RegionLog};
use crate::hook::{Context, Direction, HookSet};
use crate::key::{Fields, FlowKey};
use crate::packet::Packet;
use crate::pipeline::{Pipeline, Walk};
use crate::trie::Indexed;
use crate::verdict::{Path, Verdict};

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// A packet of a session that edits touch: what comes of it follows the policy of each hook that was edited.
    ///
    /// Both directions share the stamp, so both are brought up to date, or neither. Cost: for each hook that was edited and
    /// direction, one [`Judge::recheck`](crate::hook::Judge::recheck); beyond the budget, one packet judged.
    #[cold]
    pub(super) fn revalidate<P: Packet<Key = K>>(
        &mut self,
        entry: Entry,
        mut touched: [HookSet; 2],
        packet: &mut P,
        context: &mut Context,
    ) -> (Verdict, Path)
    where
        H: Walk<P>,
    {
        let Some(session) = self.sessions.get_mut(entry.slot) else {
            return self.miss(packet, context);
        };
        if session.gets_through() {
            let keeping = self.policies.grandfather;
            let [there, back] = &touched;
            let kept = there.union(*back).intersection(keeping);
            if !kept.is_empty() {
                session.kept = session.kept.union(kept);
                self.stats.grandfathered += 1;
                touched = touched.map(|touched| touched.without(keeping));
            }
        }
        let [there, back] = touched;
        let all = there.union(back);
        if !all.intersection(self.policies.kill).is_empty() {
            self.end(entry.slot, End::Killed);
            return self.miss(packet, context);
        }
        let mut path = Path::Restamped;
        if !all.is_empty() {
            if !self.reruns.take(context.now) {
                return self.over_budget(entry, touched, packet, context);
            }
            path = Path::Rechecked;
        }
        session.stamp = self.log.current();
        session.kept = session.kept.without(all);
        for direction in Direction::BOTH {
            let touched = touched[direction as usize];
            if !touched.is_empty() {
                let views = session.views(direction);
                let half = &mut session.halves[direction as usize];
                let judge = self.hooks.recheck(&mut half.destiny, touched, &views);
                half.pending = half.pending.union(judge);
            }
        }
        match self.run(entry, false, packet, context) {
            Some(verdict) => (verdict, path),
            None => self.revisit(entry, packet, context),
        }
    }

    /// No more re-runs for now. The session stays as old as it is. A packet of a direction that no edit touches runs its destiny,
    /// and so does one that only edits of hooks with slack touch; any other is judged without the cache.
    fn over_budget<P: Packet<Key = K>>(
        &mut self,
        entry: Entry,
        touched: [HookSet; 2],
        packet: &mut P,
        context: &mut Context,
    ) -> (Verdict, Path)
    where
        H: Walk<P>,
    {
        let touched = touched[entry.direction as usize];
        if touched.without(self.policies.slack).is_empty() {
            if let Some(verdict) = self.run(entry, true, packet, context) {
                return match touched.is_empty() {
                    true => (verdict, Path::Hit),
                    false => (verdict, Path::Stale),
                };
            }
        }
        if let Some(session) = self.sessions.get_mut(entry.slot) {
            session.touch(context.now);
            let half = &mut session.halves[entry.direction as usize];
            if half.packets > 0 {
                half.count(packet.length());
            }
        }
        self.beyond_budget(packet, context)
    }

    /// Whether a look at the granules of the log says that no edit since the stamp touches the session; not asked where the edits
    /// since are so few that [`touched`](Self::touched) costs no more.
    ///
    /// `of` is one of the session's keys and its direction. A direction that no packet has come in depends on nothing
    /// yet. Cost: a few words of the log for each direction.
    #[inline]
    pub(super) fn is_clear(
        log: &RegionLog<HookSet>,
        session: &Session<K, H::Destiny>,
        of: (&K, Direction),
    ) -> bool {
        log.many_since(session.stamp) && !Self::is_near(log, session, of)
    }

    /// Whether a look at the granules of the log leaves it open that an edit since the stamp touches the session.
    fn is_near(
        log: &RegionLog<HookSet>,
        session: &Session<K, H::Destiny>,
        (key, from): (&K, Direction),
    ) -> bool {
        fn near<T: AsSeen>(log: &RegionLog<HookSet>, stamp: Generation, tuples: &T) -> bool {
            log.newest_near(stamp, |view| tuples.of(view)).is_some()
        }
        let stamp = session.stamp;
        Direction::BOTH.into_iter().any(|direction| {
            session.seen[direction as usize]
                && match session.translated {
                    true => near(log, stamp, &session.tuples(direction)),
                    false => near(log, stamp, &untranslated(key, from, direction)),
                }
        })
    }

    /// The hooks whose edits since the stamp touch each direction; `None` when no edit touches the session.
    ///
    /// Of a session that is not [clear](Self::is_clear). Cost: for each direction a box test for each region since the stamp,
    /// where these are many for each that is no newer than the granules of the log say, until every hook ever edited is touched.
    #[inline(never)]
    pub(super) fn touched(
        log: &RegionLog<HookSet>,
        edited: HookSet,
        session: &Session<K, H::Destiny>,
        (key, from): (&K, Direction),
        stats: &mut Stats,
    ) -> Option<[HookSet; 2]> {
        let (stamp, seen) = (session.stamp, session.seen);
        if session.translated {
            let tuples = |direction| session.tuples(direction);
            return touched_as(log, edited, stamp, seen, tuples, stats);
        }
        let tuples = |direction| untranslated(key, from, direction);
        touched_as(log, edited, stamp, seen, tuples, stats)
    }
}

/// The tuple of a direction's packets where `key` is that of the direction `from`, and nothing is translated. Does not read the
/// session's keys.
#[inline]
fn untranslated<K: FlowKey>(key: &K, from: Direction, direction: Direction) -> Fields {
    let inverse = match direction == from {
        true => None,
        false => key.inverse(),
    };
    inverse.as_ref().unwrap_or(key).fields()
}

/// [`FlowCache::touched`] for tuples in either form.
fn touched_as<T: AsSeen>(
    log: &RegionLog<HookSet>,
    edited: HookSet,
    stamp: Generation,
    seen: [bool; 2],
    tuples: impl Fn(Direction) -> T,
    stats: &mut Stats,
) -> Option<[HookSet; 2]> {
    let many = log.many_since(stamp);
    if many && !log.remembers(stamp) {
        stats.log_lost += 1;
        return Some(seen.map(|seen| if seen { edited } else { HookSet::NONE }));
    }
    let mut touched = [HookSet::NONE; 2];
    for direction in Direction::BOTH {
        if !seen[direction as usize] {
            continue;
        }
        let tuples = tuples(direction);
        let until = match many {
            true => log
                .newest_near(stamp, |view| tuples.of(view))
                .unwrap_or(stamp),
            false => log.current(),
        };
        let touched = &mut touched[direction as usize];
        for (hook, region) in log.between(stamp, until) {
            stats.region_tests += 1;
            if region.pattern.matches(tuples.of(region.view)) {
                *touched = touched.union(hook);
                if *touched == edited {
                    break;
                }
            }
        }
    }
    let [there, back] = touched;
    (!there.union(back).is_empty()).then_some(touched)
}
