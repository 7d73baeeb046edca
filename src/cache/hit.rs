//! The entry is fresh: run its destiny.

use super::FlowCache;
use super::session::Entry;
use crate::hook::{Context, HookSet};
use crate::interest::Signals;
use crate::key::FlowKey;
use crate::packet::Packet;
use crate::pipeline::{Pipeline, Walk};
use crate::trie::Indexed;
use crate::verdict::Verdict;

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// Runs the entry's destiny on a packet; `None`, and nothing done, where the entry cannot answer it by itself: it has idled
    /// out, an edit came since its stamp, or a hook must see the packet, by its own wish or because its step does not fit.
    ///
    /// Reads the session once.
    #[inline]
    pub(super) fn hit<P: Packet<Key = K>>(
        &mut self,
        entry: Entry,
        packet: &mut P,
        context: &mut Context,
    ) -> Option<Verdict>
    where
        H: Walk<P>,
    {
        let session = self.sessions.get_mut(entry.slot)?;
        let half = &mut session.halves[entry.direction as usize];
        let idle = context
            .now
            .nanos()
            .saturating_sub(session.last_seen.nanos());
        if idle >= self.idle[session.segment as usize]
            || session.stamp < self.log.current()
            || half.pending != HookSet::NONE
            || half.trigger.fires(Signals::tcp(packet.tcp_flags().0))
            || !self.hooks.fits(&half.destiny, packet, context)
        {
            return None;
        }
        session.last_seen = context.now;
        session.referenced = true;
        half.count(packet.length());
        Some(self.hooks.run(&half.destiny, packet, context))
    }
}
