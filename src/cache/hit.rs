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
    /// Whether the entry's destiny can be run on this packet: no hook is to judge it, by its own wish or because it must.
    #[inline]
    pub(super) fn is_ready<P: Packet<Key = K>>(
        &self,
        entry: Entry,
        packet: &P,
        context: &Context,
    ) -> bool
    where
        H: Walk<P>,
    {
        self.sessions.get(entry.slot).is_some_and(|session| {
            let half = &session.halves[entry.direction as usize];
            half.pending == HookSet::NONE
                && !half.trigger.fires(Signals::tcp(packet.tcp_flags().0))
                && self.hooks.fits(&half.destiny, packet, context)
        })
    }

    /// Runs the entry's destiny.
    #[inline]
    pub(super) fn hit<P: Packet<Key = K>>(
        &mut self,
        entry: Entry,
        packet: &mut P,
        context: &mut Context,
    ) -> Verdict
    where
        H: Walk<P>,
    {
        let Some(session) = self.sessions.get_mut(entry.slot) else {
            return Verdict::Drop;
        };
        session.touch(context.now);
        let half = &mut session.halves[entry.direction as usize];
        half.count(packet.length());
        self.hooks.run(&half.destiny, packet, context)
    }
}
