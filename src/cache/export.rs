//! Sessions as bytes, and back: a dataplane that restarts or fails over goes on with the flows that it had.
//!
//! What is carried is which flows there are: keys, counters, how far each has come. What hooks left behind is not, for a step may
//! name state that only the hook that made it has. So every hook judges the next packet of each direction of an imported session, and
//! no import can make a packet meet rules of another time or place.
//!
//! ```text
//!  block     "gufc" | version 1 | key kind 1 | count 4 | sessions ... | checksum 8         integers little-endian
//!  session   flags 1 | idle ns 8 | packets 8+8 | bytes 8+8 | original key | reply key, where it is not the original
//!  flags     segment 0-1 | has a reply key 2 | replies find it 3 | first packet was local 4
//! ```
//!
//! A block stands for itself: export goes in steps, and each step's block can be carried and imported before the next is made. A block
//! in which anything is wrong changes nothing. The checksum finds damage, not malice: blocks are as trusted as their way.

use alloc::vec::Vec;

use super::dump::Cursor;
use super::session::{Half, Session, Slot};
use super::{FlowCache, Segment};
use crate::hook::HookSet;
use crate::key::FlowKey;
use crate::key::portable::{self, ImportError, Imported, Portable, Trust, take, take_u64};
use crate::packet::Origin;
use crate::pipeline::Pipeline;
use crate::time::{Duration, Instant};
use crate::trie::Indexed;

const MAGIC: [u8; 4] = *b"gufc";
const VERSION: u8 = 1;

const HAS_REPLY: u8 = 1 << 2;
const ANSWERS: u8 = 1 << 3;
const LOCAL: u8 = 1 << 4;

/// A session as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Carried<K> {
    segment: Segment,
    keys: [K; 2],
    answers: bool,
    origin: Origin,
    idle: Duration,
    packets: [u64; 2],
    bytes: [u64; 2],
}

impl<K: Portable + FlowKey> Carried<K> {
    fn write(&self, bytes: &mut Vec<u8>) {
        let [original, reply] = &self.keys;
        let mut flags = self.segment as u8;
        for (flag, set) in [
            (HAS_REPLY, reply != original),
            (ANSWERS, self.answers),
            (LOCAL, self.origin == Origin::Local),
        ] {
            flags |= if set { flag } else { 0 };
        }
        bytes.push(flags);
        let idle = u64::try_from(self.idle.as_nanos()).unwrap_or(u64::MAX);
        for number in [idle].iter().chain(&self.packets).chain(&self.bytes) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        original.write(bytes);
        if reply != original {
            reply.write(bytes);
        }
    }

    /// Takes one off the front, if it is one that a cache can have.
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let [flags] = take::<1>(bytes)?;
        let segment = *Segment::ALL.get(usize::from(flags & 3))?;
        if flags & !(3 | HAS_REPLY | ANSWERS | LOCAL) != 0 {
            return None;
        }
        let mut number = || take_u64(bytes);
        let idle = Duration::from_nanos(number()?);
        let packets = [number()?, number()?];
        let counted = [number()?, number()?];
        let original = K::read(bytes)?;
        let (reply, answers) = (
            match flags & HAS_REPLY {
                0 => original,
                _ => K::read(bytes).filter(|reply| *reply != original)?,
            },
            flags & ANSWERS != 0,
        );
        let has_reply = reply != original;
        // No count of packets or bytes comes near this, and none may overflow here.
        let counts = packets.iter().chain(&counted);
        let sound = counts.copied().all(|count| count < 1 << 63)
            && (!has_reply || reply.inverse().is_some())
            && (has_reply || !answers)
            && (segment != Segment::Established || packets.iter().all(|count| *count > 0));
        sound.then_some(Self {
            segment,
            keys: [original, reply],
            answers,
            origin: match flags & LOCAL {
                0 => Origin::Received,
                _ => Origin::Local,
            },
            idle,
            packets,
            bytes: counted,
        })
    }
}

/// The sessions of a block that is sound from end to end.
fn open<K: Portable + FlowKey>(block: &[u8]) -> Result<(u32, &[u8]), ImportError> {
    portable::open(block, MAGIC, VERSION, K::KIND, |bytes| {
        Carried::<K>::read(bytes).is_some()
    })
}

impl<K: FlowKey + Indexed + Portable, H: Pipeline> FlowCache<K, H> {
    /// Appends the sessions among the next `budget` slots to `bytes`, as one block, and gives where to go on; `None` when all slots
    /// have been looked at. Changes nothing.
    ///
    /// ```
    /// use gufc::cache::{Config, Cursor, FlowCache, Trust};
    /// use gufc::key::Tuple;
    /// use gufc::time::Instant;
    /// # use gufc::hooks::filter::{Filter, Policy};
    /// # let rules = || (Filter::new("filter", 1, 1, Policy::Accept),);
    ///
    /// let old: FlowCache<Tuple, _> = FlowCache::new(Config::new([3, 4]), rules())?;
    /// let mut new: FlowCache<Tuple, _> = FlowCache::new(Config::new([5, 6]), rules())?;
    /// let (mut next, now) = (Some(Cursor::START), Instant::START);
    /// while let Some(cursor) = next {
    ///     let mut block = Vec::new();
    ///     next = old.export(cursor, 1_000, now, &mut block);
    ///     new.import(&block, Trust::Trust, now)?;
    /// }
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// Cost: O(budget); memory at most 139 bytes a session for a [`Tuple`](crate::key::Tuple).
    pub fn export(
        &self,
        cursor: Cursor,
        budget: usize,
        now: Instant,
        bytes: &mut Vec<u8>,
    ) -> Option<Cursor> {
        let begin = portable::begin(bytes, MAGIC, VERSION, K::KIND);
        let (slots, next) = self.step(cursor, budget);
        let mut count = 0_u32;
        for slot in slots {
            let Some(session) = self.sessions.get(Slot(slot)) else {
                continue;
            };
            let [there, back] = &session.halves;
            let carried = Carried {
                segment: session.segment,
                keys: session.keys,
                answers: session.answers,
                origin: there.origin,
                idle: now - session.last_seen,
                packets: [there.packets, back.packets],
                bytes: [there.bytes, back.bytes],
            };
            carried.write(bytes);
            count += 1;
        }
        portable::seal(bytes, begin, count);
        next
    }

    /// Begins the sessions of a block that [`export`](Self::export) made, as far as there is room; sessions that are there already
    /// stay as they are. All hooks judge the next packet of each direction.
    ///
    /// # Errors
    ///
    /// [`ImportError`] when anything in the block is wrong; nothing was changed.
    ///
    /// Cost: O(block).
    pub fn import(
        &mut self,
        block: &[u8],
        trust: Trust,
        now: Instant,
    ) -> Result<Imported, ImportError> {
        let (count, mut rest) = open::<K>(block)?;
        let mut imported = Imported::default();
        for number in 0..count {
            let carried = Carried::<K>::read(&mut rest).ok_or(ImportError::Session(number))?;
            if self.find(carried.origin, &carried.keys[0]).is_some() {
                imported.known += 1;
                continue;
            }
            match self.admit(self.revive(&carried, trust, now), now) {
                Ok(entry) => {
                    imported.begun += 1;
                    if carried.answers {
                        self.let_replies_find(entry);
                    }
                }
                Err(_) => imported.refused += 1,
            }
        }
        Ok(imported)
    }

    /// A carried session as the cache keeps it, with everything still to be judged.
    fn revive(&self, carried: &Carried<K>, trust: Trust, now: Instant) -> Session<K, H::Destiny> {
        let [original, reply] = carried.keys;
        let answer_origin = if reply.fields().locality.source {
            Origin::Local
        } else {
            Origin::Received
        };
        let mut halves = [carried.origin, answer_origin].map(Half::unjudged);
        let (segment, idle) = match trust {
            Trust::Trust => {
                let counts = carried.packets.into_iter().zip(carried.bytes);
                for (half, (packets, bytes)) in halves.iter_mut().zip(counts) {
                    (half.packets, half.bytes) = (packets, bytes);
                }
                (carried.segment, carried.idle)
            }
            Trust::Reevaluate => match carried.segment {
                Segment::Denied => (Segment::Denied, Duration::ZERO),
                _ => (Segment::Provisional, Duration::ZERO),
            },
        };
        let idle = u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX);
        let seen = [&halves[0], &halves[1]].map(|half| half.packets > 0);
        Session {
            keys: carried.keys,
            answers: false,
            translated: reply != original && reply.inverse() != Some(original),
            halves,
            seen,
            stamp: self.log.current(),
            last_seen: Instant::from_nanos(now.nanos().saturating_sub(idle)),
            kept: HookSet::NONE,
            segment,
            visits: 0,
            lent: false,
        }
    }
}
