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
use core::fmt;

use super::dump::Cursor;
use super::session::{Half, Session, Slot};
use super::{FlowCache, Segment};
use crate::hook::HookSet;
use crate::key::{Address, FlowKey, Key, SevenTuple, Tuple};
use crate::packet::Origin;
use crate::pipeline::Pipeline;
use crate::time::{Duration, Instant};
use crate::trie::Indexed;

/// A key as bytes.
///
/// # Laws
///
/// `read` gives what `write` wrote, takes as many bytes, and takes nothing that `write` does not write.
pub trait Portable: Sized {
    /// Tells key types apart; below 16 for those of this crate.
    const KIND: u8;

    /// Appends the key.
    fn write(&self, bytes: &mut Vec<u8>);

    /// Takes a key off the front.
    fn read(bytes: &mut &[u8]) -> Option<Self>;
}

impl<A: Address> Portable for SevenTuple<A> {
    const KIND: u8 = (A::TUPLE_BITS / 64) as u8;

    fn write(&self, bytes: &mut Vec<u8>) {
        for word in self.words().as_ref() {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let mut words = <Self as Key>::Words::default();
        for word in words.as_mut() {
            *word = take_u64(bytes)?;
        }
        let key = Self::from_words(words);
        (key.words() == words).then_some(key)
    }
}

impl Portable for Tuple {
    const KIND: u8 = 0;

    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::V4(key) => {
                bytes.push(4);
                key.write(bytes);
            }
            Self::V6(key) => {
                bytes.push(6);
                key.write(bytes);
            }
        }
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        match take::<1>(bytes)? {
            [4] => SevenTuple::read(bytes).map(Self::V4),
            [6] => SevenTuple::read(bytes).map(Self::V6),
            _ => None,
        }
    }
}

/// What an import takes over. Either way all hooks judge the next packet of each direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Segments, counters and idle times are taken as they were: flows that were established stay protected.
    Trust,
    /// Only the keys are. Sessions are half-open again, or denied as they were, until packets come both ways; counters begin at
    /// nothing.
    Reevaluate,
}

/// What became of a block's sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Begun.
    pub begun: usize,
    /// Left out because the cache has a session with the key.
    pub known: usize,
    /// Left out because there was no room, or the source had its share.
    pub refused: usize,
}

/// Why a block was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportError {
    /// It does not begin as a block does.
    NotABlock,
    /// It is of a version that is not known here.
    Version(u8),
    /// It holds keys of another type.
    Keys(u8),
    /// It is cut off, longer than it says, or damaged.
    Damaged,
    /// The session of this number, counted from 0, is none that a cache can have.
    Session(u32),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotABlock => f.write_str("not a block of sessions"),
            Self::Version(version) => write!(f, "version {version} is not known"),
            Self::Keys(kind) => write!(f, "keys of another kind: {kind}"),
            Self::Damaged => f.write_str("cut off or damaged"),
            Self::Session(number) => write!(f, "session {number} is none that a cache can have"),
        }
    }
}

impl core::error::Error for ImportError {}

const MAGIC: [u8; 4] = *b"gufc";
const VERSION: u8 = 1;
const HEADER: usize = 10;
const CHECKSUM: usize = 8;

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

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take::<8>(bytes).map(u64::from_le_bytes)
}

/// FNV-1a, 64 bits: Fowler, Noll and Vo.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The sessions of a block that is sound from end to end.
fn open<K: Portable + FlowKey>(block: &[u8]) -> Result<(u32, &[u8]), ImportError> {
    let mut rest = block;
    if take::<4>(&mut rest) != Some(MAGIC) {
        return Err(ImportError::NotABlock);
    }
    let [version, kind] = take::<2>(&mut rest).ok_or(ImportError::Damaged)?;
    if version != VERSION {
        return Err(ImportError::Version(version));
    }
    if kind != K::KIND {
        return Err(ImportError::Keys(kind));
    }
    let count = u32::from_le_bytes(take::<4>(&mut rest).ok_or(ImportError::Damaged)?);
    let (body, mut sum) = rest
        .len()
        .checked_sub(CHECKSUM)
        .and_then(|at| rest.split_at_checked(at))
        .ok_or(ImportError::Damaged)?;
    let summed = block.get(..HEADER + body.len()).unwrap_or(block);
    if take_u64(&mut sum) != Some(checksum(summed)) {
        return Err(ImportError::Damaged);
    }
    let mut sessions = body;
    for number in 0..count {
        if Carried::<K>::read(&mut sessions).is_none() {
            return Err(ImportError::Session(number));
        }
    }
    match sessions {
        [] => Ok((count, body)),
        _ => Err(ImportError::Damaged),
    }
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
    /// Cost: O(budget); memory at most 139 bytes a session for a [`Tuple`].
    pub fn export(
        &self,
        cursor: Cursor,
        budget: usize,
        now: Instant,
        bytes: &mut Vec<u8>,
    ) -> Option<Cursor> {
        let begin = bytes.len();
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, K::KIND, 0, 0, 0, 0]);
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
        let counted = bytes.get_mut(begin + HEADER - 4..begin + HEADER);
        if let Some(place) = counted {
            place.copy_from_slice(&count.to_le_bytes());
        }
        let sum = checksum(bytes.get(begin..).unwrap_or_default());
        bytes.extend_from_slice(&sum.to_le_bytes());
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
