//! The entry is fresh: run its destiny.

use super::FlowCache;
use super::session::Entry;
use crate::hook::{Context, HookSet};
use crate::interest::Signals;
use crate::key::FlowKey;
use crate::observe::{Difference, Event};
use crate::packet::Packet;
use crate::pipeline::{Pipeline, Walk};
use crate::trie::Indexed;
use crate::verdict::{Path, Verdict};

/// Why an entry did not answer a packet by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotReady {
    /// No packet came for as long as its segment lasts, or it is gone.
    Idle,
    /// Edits since its stamp touch it: these hooks in each direction.
    Touched([HookSet; 2]),
    /// A hook must see the packet, by its own wish or because its step does not fit.
    Asked,
}

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// Runs the entry's destiny on a packet, where nothing stands against it; else nothing is done. An entry that is older than
    /// the last edit and that no edit touched, as is known already where it `is_clear`, gets the stamp of now.
    ///
    /// Reads the session once.
    #[inline]
    pub(super) fn hit<P: Packet<Key = K>>(
        &mut self,
        entry: Entry,
        is_clear: bool,
        packet: &mut P,
        context: &mut Context,
    ) -> Result<(Verdict, Path), NotReady>
    where
        H: Walk<P>,
    {
        let Some(session) = self.sessions.get_mut(entry.slot) else {
            return Err(NotReady::Idle);
        };
        let idle = context
            .now
            .nanos()
            .saturating_sub(session.last_seen.nanos());
        if idle >= self.idle[session.segment as usize] && !session.lent {
            return Err(NotReady::Idle);
        }
        let mut path = Path::Hit;
        if session.stamp < self.log.current() {
            let of = (&packet.key(), entry.direction);
            if is_clear || Self::is_clear(&self.log, session, of) {
                self.stats.cleared += 1;
            } else if let Some(touched) =
                Self::touched(&self.log, self.edited, session, of, &mut self.stats)
            {
                return Err(NotReady::Touched(touched));
            }
            session.stamp = self.log.current();
            path = Path::Restamped;
        }
        let verdict = self
            .run(entry, false, packet, context)
            .ok_or(NotReady::Asked)?;
        Ok((verdict, path))
    }

    /// Runs the entry's destiny on a packet, which is known to be right or, where it is `stale`, allowed not to be; `None`, and
    /// nothing done, where a hook must see the packet.
    #[inline]
    pub(super) fn run<P: Packet<Key = K>>(
        &mut self,
        entry: Entry,
        stale: bool,
        packet: &mut P,
        context: &mut Context,
    ) -> Option<Verdict>
    where
        H: Walk<P>,
    {
        let session = self.sessions.get_mut(entry.slot)?;
        let half = &session.halves[entry.direction as usize];
        if half.pending != HookSet::NONE
            || half.trigger.fires(Signals::tcp(packet.tcp_flags().0))
            || !self.hooks.fits(&half.destiny, packet, context)
        {
            return None;
        }
        session.touch(context.now);
        let half = &mut session.halves[entry.direction as usize];
        half.count(packet.length());
        if !stale && self.hooks.samples() {
            let kept = session.kept;
            let (flow, scratch) = (packet.key(), &mut self.scratch);
            let (verdict, differs) =
                self.hooks
                    .run_beside(&half.destiny, kept, packet, context, scratch);
            self.looked(&flow, differs);
            return Some(verdict);
        }
        Some(self.hooks.run(&half.destiny, packet, context))
    }

    /// Hooks have looked again at a hit.
    #[cold]
    pub(super) fn looked(&mut self, flow: &K, differs: Option<(usize, Difference)>) {
        self.stats.shadowed += 1;
        if let Some((index, what)) = differs {
            self.stats.disagreed += 1;
            let hook = self.hooks.name_of(index).unwrap_or("");
            self.hooks.observe(|| Event::Disagreed {
                flow: flow.fields(),
                hook,
                what,
            });
        }
    }
}
