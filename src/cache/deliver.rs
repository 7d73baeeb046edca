//! In whose context do the steps run: here, or where the packet is wanted?
//!
//! Apart from `hit` because nothing is run here: a look at the entry says whose the packet is, and it goes to that consumer's
//! queue as it came. Source: V. Jacobson and B. Felderman, *Speeding up networking*, linux.conf.au 2006 (channels).
//!
//! ```text
//!  driver                                     consumer
//!  deliver ─► look up, whose is it? ─ queue ─► process, with the cookie: no lookup, all else as ever
//!         └─► nobody's who asked for that, a new flow, an edit touched it: processed here and now
//! ```

use super::FlowCache;
use super::lookup::never_cached;
use super::session::Entry;
use crate::cookie::FlowCookie;
use crate::key::FlowKey;
use crate::packet::Packet;
use crate::pipeline::{Pipeline, Walk};
use crate::time::Instant;
use crate::trie::Indexed;
use crate::verdict::{Consumer, Outcome};

/// What became of a packet that was [delivered](FlowCache::deliver).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a packet that was deferred is still to be processed"]
pub enum Delivery {
    /// It was processed: its steps have run.
    Processed(Outcome),
    /// It was not touched and its steps are still to run: put it into this consumer's queue, and let the consumer hand it to
    /// [`process`](FlowCache::process) with this cookie.
    Deferred {
        /// Whose it is.
        consumer: Consumer,
        /// Its entry's: what spares the consumer the lookup.
        cookie: FlowCookie,
    },
}

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// A packet's way to whoever wants it. Where its flow is cached, no edit since touches it, and its consumer has asked to run the
    /// steps itself ([`Hook::deferred`](crate::hook::Hook::deferred), for sockets
    /// [`set_deferred`](crate::hooks::socket::Sockets::set_deferred)), the packet comes back as it was; any other is
    /// [processed](Self::process) at once.
    ///
    /// Both ways come to the same: whoever processes the packet later applies the rules of then, and its outcome says who
    /// takes it then. Packets of one flow stay in order as long as the queue keeps it and the flow's entry is neither touched by
    /// an edit nor ended while some of them wait; else later ones, processed at once, may overtake those.
    ///
    /// Cost: one lookup, one comparison of stamps, O(hooks); for those processed at once that and their own.
    pub fn deliver<P: Packet<Key = K>>(&mut self, packet: &mut P, now: Instant) -> Delivery
    where
        H: Walk<P>,
    {
        match self.deferred(packet, now) {
            Some((consumer, cookie)) => {
                self.stats.deferred += 1;
                Delivery::Deferred { consumer, cookie }
            }
            None => Delivery::Processed(self.process(packet, now)),
        }
    }

    /// Whose packet it is, where that consumer wants to run its steps itself.
    fn deferred<P: Packet<Key = K>>(
        &mut self,
        packet: &P,
        now: Instant,
    ) -> Option<(Consumer, FlowCookie)> {
        if never_cached(packet).is_some() {
            return None;
        }
        let (origin, key) = (packet.origin(), packet.key());
        let recalled = packet
            .cookie()
            .and_then(|cookie| self.recall(cookie, origin, &key));
        let entry = recalled.or_else(|| self.find(origin, &key))?;
        let Entry { slot, direction } = entry;
        if self.is_idle(slot, now) {
            return None;
        }
        let session = self.sessions.get(slot)?;
        let consumer = self
            .hooks
            .deferred(&session.halves[direction as usize].destiny)?;
        let fresh = session.stamp == self.log.current() || {
            let of = (&key, direction);
            Self::is_clear(&self.log, session, of)
                || Self::touched(&self.log, self.edited, session, of, &mut self.stats).is_none()
        };
        if !fresh {
            return None;
        }
        Some((consumer, self.sessions.cookie(entry)?))
    }
}
