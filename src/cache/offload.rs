//! May a NIC do this entry's work in our place, and what has it done?

use super::FlowCache;
use super::session::Entry;
use crate::hook::{Direction, Views};
use crate::key::FlowKey;
use crate::packet::Origin;
use crate::pipeline::Pipeline;
use crate::time::Instant;
use crate::trie::Indexed;

/// A session whose packets need no hook: both directions, and what edits are tested against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloadable<K> {
    /// The original key and the reply's.
    pub flows: [K; 2],
    /// The three tuples of each direction; packets leave as the last.
    pub views: [Views<K>; 2],
}

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// Whether the packets of this key's session, both directions, may be forwarded by somebody else: each direction has been
    /// judged, no edit came since, packets pass, and [each hook agrees](crate::hook::Hook::may_offload).
    ///
    /// Until it takes the flow back the caller sees to it that packets with SYN, FIN or RST come here, that what is forwarded is
    /// [credited](Self::credit) before the session ends or idles out, and that edits that touch the views take it back.
    ///
    /// Cost: one lookup, O(hooks).
    pub fn offloadable(&self, origin: Origin, key: &K) -> Option<Offloadable<K>> {
        let entry = self.find(origin, key)?;
        let session = self.sessions.get(entry.slot)?;
        let ready = session.stamp == self.log.current()
            && session.answers
            && session.halves.iter().all(|half| {
                half.packets > 0
                    && half.pending.is_empty()
                    && half.complete
                    && half.origin == Origin::Received
                    && self.hooks.may_offload(&half.destiny)
            });
        ready.then(|| Offloadable {
            flows: session.keys,
            views: Direction::BOTH.map(|direction| session.views(direction)),
        })
    }

    /// Packets of this key's direction that were forwarded elsewhere, the last at `last`: counted by the entry, and by the
    /// hooks. False where there is no such session any more; the count is then lost to the hooks.
    ///
    /// Cost: one lookup, O(hooks).
    pub fn credit(
        &mut self,
        origin: Origin,
        key: &K,
        packets: u64,
        bytes: u64,
        last: Instant,
    ) -> bool {
        let Some(Entry { slot, direction }) = self.find(origin, key) else {
            return false;
        };
        let Some(session) = self.sessions.get_mut(slot) else {
            return false;
        };
        session.touch(last.max(session.last_seen));
        let half = &mut session.halves[direction as usize];
        half.packets += packets;
        half.bytes += bytes;
        self.hooks.credit(&half.destiny, packets, bytes);
        true
    }
}
