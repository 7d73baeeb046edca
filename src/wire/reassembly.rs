//! Reassembly: fragments wait for one another and become the datagram that they were.
//!
//! Apart because it is the only part of this folder that keeps anything. Without it a later fragment has no ports, a TCP
//! segment no length, and a filter no answer. Everything that is kept is bounded by the owner, and what an attacker fills is
//! his own source's share first.
//!
//! ```text
//!  frame ─ whole? ─ yes ─► Whole: go on with the frame
//!            │ no
//!            ▼
//!  (addresses, protocol, identification, zone) ─► what has come of the datagram: [0,80) [160,240) ...
//!            │ fits                 │ there already        │ overlaps in part
//!            ▼                      ▼                      ▼
//!  all there? Complete(bytes)    Queued                 Discarded, with all that had come (RFC 5722)
//! ```
//!
//! Sources: RFC 791 section 3.2; RFC 8200 section 4.5; RFC 5722 (overlaps); RFC 6946 (atomic fragments are whole).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::cut::next_header_at;
use super::layout::{DATAGRAM_MAX, bytes_at, put_at};
use super::{Cut, Frame, FrameKey, Piece, checksum};
use crate::key::{Family, Fields, Protocol, Zone};
use crate::packet::Packet;
use crate::time::{Duration, Instant};

/// What a reassembler may keep, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Unfinished datagrams at once; the oldest gives way. At least 1.
    pub datagrams_max: u32,
    /// Unfinished datagrams of one source address; its oldest gives way. At least 1.
    pub per_source_max: u32,
    /// Bytes kept; the oldest datagrams give way.
    pub bytes_max: usize,
    /// Gaps in one datagram, so that many tiny fragments cost no more than this.
    pub gaps_max: u32,
    /// How long the fragments of an IPv4 datagram wait for the last of them.
    pub timeout_v4: Duration,
    /// The same for IPv6.
    pub timeout_v6: Duration,
}

impl Default for Limits {
    /// As Linux: 4 MiB, 30 and 60 seconds; 1,024 datagrams, 64 of one source, 32 gaps.
    fn default() -> Self {
        Self {
            datagrams_max: 1024,
            per_source_max: 64,
            bytes_max: 4 << 20,
            gaps_max: 32,
            timeout_v4: Duration::from_secs(30),
            timeout_v6: Duration::from_secs(60),
        }
    }
}

/// Why a fragment, and all that had come of its datagram, is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Refusal {
    /// Its header is defective, or bytes of it are missing.
    Malformed,
    /// It overlaps another in part.
    Overlap,
    /// It reaches beyond the last one, or there are two different last ones.
    Inconsistent,
    /// The datagram would be larger than 65,535 bytes, or than all that may be kept.
    TooLarge,
    /// The datagram has more gaps than it may.
    Gaps,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed fragment",
            Self::Overlap => "fragments overlap",
            Self::Inconsistent => "fragments contradict one another",
            Self::TooLarge => "datagram too large",
            Self::Gaps => "too many gaps in a datagram",
        })
    }
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Reassembly<'a> {
    /// It is no fragment: go on with it.
    Whole,
    /// It is kept, or was there already.
    Queued,
    /// It was the last one missing: this is the datagram, from the network header on. It has no fragmentation fields any
    /// more, and right checksums if the sender's were. [`Reassembler::cut`] says how it came.
    Complete(&'a mut [u8]),
    /// It is gone, with all that had come of its datagram.
    Discarded(Refusal),
}

/// How datagrams ended that did not become whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Refused, see [`Refusal`].
    pub refused: u64,
    /// Waited too long.
    pub expired: u64,
    /// Gave way to others.
    pub displaced: u64,
}

/// Puts fragments together.
///
/// ```
/// use gufc::time::Instant;
/// use gufc::wire::{Arrival, Frame, Limits, Reassembler, Reassembly};
///
/// let mut reassembler = Reassembler::new(Limits::default());
/// // 10.0.0.1 > 10.0.0.2, protocol 253, eight bytes in the first fragment and two in the second.
/// let first = [0x45, 0, 0, 28, 0, 7, 0x20, 0, 64, 253, 0x45, 0xdc, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8];
/// let last = [0x45, 0, 0, 22, 0, 7, 0, 1, 64, 253, 0x65, 0xe1, 10, 0, 0, 1, 10, 0, 0, 2, 9, 10];
/// let (mut first, mut last) = (first, last);
/// let frame: Frame = Frame::ip(&mut last, &Arrival::default())?;
/// assert_eq!(reassembler.push(&frame, Instant::START), Reassembly::Queued);
/// let frame: Frame = Frame::ip(&mut first, &Arrival::default())?;
/// let Reassembly::Complete(bytes) = reassembler.push(&frame, Instant::START) else {
///     panic!("all there");
/// };
/// assert_eq!(bytes[20..], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
/// let whole: Frame = Frame::ip(bytes, &Arrival::default())?;
/// # Ok::<(), gufc::packet::Defect>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reassembler {
    limits: Limits,
    queues: BTreeMap<Name, Queue>,
    /// By age.
    ages: BTreeMap<u64, Name>,
    /// By source, then age.
    sources: BTreeMap<(Source, u64), Name>,
    /// Bytes kept.
    held: usize,
    /// The age of the next datagram.
    next: u64,
    losses: Losses,
    /// The last datagram that was complete,
    datagram: Vec<u8>,
    /// and how it came.
    cut: Cut,
}

type Source = (Family, u128, Zone);

/// What the fragments of one datagram have in common. IPv6 leaves the protocol to the first one (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    family: Family,
    source: u128,
    destination: u128,
    zone: Zone,
    protocol: Protocol,
    identification: u32,
}

impl Name {
    fn of(fields: &Fields, piece: Piece) -> Self {
        Self {
            family: fields.family,
            source: fields.source,
            destination: fields.destination,
            zone: fields.zone,
            protocol: match fields.family {
                Family::V4 => fields.protocol,
                Family::V6 => Protocol(0),
            },
            identification: piece.identification,
        }
    }

    fn source(&self) -> Source {
        (self.family, self.source, self.zone)
    }
}

/// What has come of one datagram.
#[derive(Clone, Debug)]
struct Queue {
    age: u64,
    until: Instant,
    /// What has come, in order, neither touching nor overlapping.
    runs: Vec<(u32, u32)>,
    /// Bytes in all, once the last fragment has come.
    total: Option<u32>,
    /// The network header of the first fragment, with the extension headers that every fragment repeats.
    header: Vec<u8>,
    payload: Vec<u8>,
    /// Bytes of the largest fragment, network header included.
    largest: u32,
    /// Whether one of them was not to be cut further.
    dont_fragment: bool,
}

impl Queue {
    fn held(&self) -> usize {
        self.header.len() + self.payload.len()
    }
}

impl Reassembler {
    /// A reassembler that keeps nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            queues: BTreeMap::new(),
            ages: BTreeMap::new(),
            sources: BTreeMap::new(),
            held: 0,
            next: 0,
            losses: Losses::default(),
            datagram: Vec::new(),
            cut: Cut::default(),
        }
    }

    /// Unfinished datagrams.
    pub fn len(&self) -> usize {
        self.queues.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Bytes kept.
    pub fn held_bytes(&self) -> usize {
        self.held
    }

    /// How the last datagram that became whole had been cut, so that it can be cut so again.
    pub fn cut(&self) -> Cut {
        self.cut
    }

    /// How datagrams ended that did not become whole.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// Takes a frame. Cost: O(log n + g + b), n = datagrams, g = gaps, b = bytes of the fragment, and of the datagram when it
    /// is complete.
    pub fn push<K: FrameKey>(&mut self, frame: &Frame<'_, K>, now: Instant) -> Reassembly<'_> {
        let Some(piece) = frame.piece() else {
            return Reassembly::Whole;
        };
        self.expire(now);
        let name = Name::of(&frame.key().fields(), piece);
        match self.add(name, piece, frame, now) {
            Ok(false) => Reassembly::Queued,
            Ok(true) => match self.finish(name) {
                Ok(()) => Reassembly::Complete(&mut self.datagram),
                Err(refusal) => self.refuse(name, refusal),
            },
            Err(refusal) => self.refuse(name, refusal),
        }
    }

    /// Forgets what has waited too long. [`push`](Self::push) does it, too. Cost: O(log n) for each datagram that ends, and
    /// one look at the oldest.
    pub fn expire(&mut self, now: Instant) {
        // An IPv4 datagram behind an older IPv6 one that waits longer is found out when its next fragment comes.
        while let Some(name) = self.oldest() {
            let ended = self
                .queues
                .get(&name)
                .is_none_or(|queue| queue.until <= now);
            if !ended {
                break;
            }
            self.forget(name);
            self.losses.expired += 1;
        }
    }

    /// Whether the parts agree with one another and with the limits; for tests.
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), &'static str> {
        if self.ages.len() != self.queues.len() || self.sources.len() != self.queues.len() {
            return Err("every datagram has an age and a source");
        }
        if self.queues.values().map(Queue::held).sum::<usize>() != self.held {
            return Err("as many bytes are kept as are counted");
        }
        if self.held > self.limits.bytes_max
            || self.queues.len() > self.limits.datagrams_max.max(1) as usize
        {
            return Err("no more is kept than may be");
        }
        Ok(())
    }

    fn refuse(&mut self, name: Name, refusal: Refusal) -> Reassembly<'_> {
        self.forget(name);
        self.losses.refused += 1;
        Reassembly::Discarded(refusal)
    }

    /// Takes a fragment in; true when all have come.
    fn add<K: FrameKey>(
        &mut self,
        name: Name,
        piece: Piece,
        frame: &Frame<'_, K>,
        now: Instant,
    ) -> Result<bool, Refusal> {
        let bytes = frame.fragment_bytes();
        let length = frame.fragment_length();
        // Only what concerns fragments: a first one may end in the middle of its transport header.
        let ranged = piece.offset + length <= DATAGRAM_MAX && (!piece.more || length % 8 == 0);
        if bytes.len() != length as usize || length == 0 || !ranged {
            return Err(Refusal::Malformed);
        }
        if self
            .queues
            .get(&name)
            .is_some_and(|queue| queue.until <= now)
        {
            self.forget(name);
            self.losses.expired += 1;
        }
        let (start, end) = (piece.offset, piece.offset + length);
        let header = if start == 0 {
            frame.unfragmentable()
        } else {
            &[]
        };
        self.make_room(name, end as usize, header.len())?;
        let until = now
            + match name.family {
                Family::V4 => self.limits.timeout_v4,
                Family::V6 => self.limits.timeout_v6,
            };
        let gaps_max = self.limits.gaps_max as usize;
        let queue = self.open(name, until);
        let before = queue.held();
        let joined = queue.join(start, end, piece.more, gaps_max);
        if joined == Ok(true) {
            queue.largest = queue.largest.max(frame.length());
            queue.dont_fragment |= name.family == Family::V4 && frame.dont_fragment();
            if start == 0 {
                queue.header.clear();
                queue.header.extend_from_slice(header);
                if let Some(next) = frame.fragmented() {
                    let at = next_header_at(header);
                    put_at(&mut queue.header, at, [next]);
                }
            }
            if queue.payload.len() < end as usize {
                queue.payload.resize(end as usize, 0);
            }
            if let Some(place) = queue.payload.get_mut(start as usize..end as usize) {
                place.copy_from_slice(bytes);
            }
        }
        let complete = queue
            .total
            .is_some_and(|total| queue.runs[..] == [(0, total)]);
        let after = queue.held();
        self.held = self.held + after - before;
        joined.map(|_| complete)
    }

    /// The queue of a datagram, new if there is none.
    fn open(&mut self, name: Name, until: Instant) -> &mut Queue {
        let age = self.next;
        if !self.queues.contains_key(&name) {
            self.next += 1;
            self.ages.insert(age, name);
            self.sources.insert((name.source(), age), name);
        }
        self.queues.entry(name).or_insert_with(|| Queue {
            age,
            until,
            runs: Vec::new(),
            total: None,
            header: Vec::new(),
            payload: Vec::new(),
            largest: 0,
            dont_fragment: false,
        })
    }

    /// Makes room for a fragment of `name` that ends at `end`.
    fn make_room(&mut self, name: Name, end: usize, header: usize) -> Result<(), Refusal> {
        if end + header > self.limits.bytes_max {
            return Err(Refusal::TooLarge);
        }
        if !self.queues.contains_key(&name) {
            let source = name.source();
            let own = (source, 0)..=(source, u64::MAX);
            if self.sources.range(own.clone()).count() >= self.limits.per_source_max.max(1) as usize
            {
                if let Some((_, oldest)) = self.sources.range(own).next() {
                    self.displace(*oldest);
                }
            }
            if self.queues.len() >= self.limits.datagrams_max.max(1) as usize {
                if let Some(oldest) = self.oldest() {
                    self.displace(oldest);
                }
            }
        }
        loop {
            let kept = self
                .queues
                .get(&name)
                .map_or(0, |queue| queue.payload.len());
            let more = end.saturating_sub(kept) + header;
            if self.held + more <= self.limits.bytes_max {
                return Ok(());
            }
            match self.ages.values().find(|other| **other != name) {
                Some(oldest) => self.displace(*oldest),
                None => return Err(Refusal::TooLarge),
            }
        }
    }

    fn oldest(&self) -> Option<Name> {
        self.ages.values().next().copied()
    }

    fn displace(&mut self, name: Name) {
        self.forget(name);
        self.losses.displaced += 1;
    }

    fn forget(&mut self, name: Name) -> Option<Queue> {
        let queue = self.queues.remove(&name)?;
        self.ages.remove(&queue.age);
        self.sources.remove(&(name.source(), queue.age));
        self.held -= queue.held();
        Some(queue)
    }

    /// Writes the datagram whose fragments have all come.
    fn finish(&mut self, name: Name) -> Result<(), Refusal> {
        let queue = self.forget(name).ok_or(Refusal::Malformed)?;
        let length = queue.held();
        self.cut = Cut {
            family: name.family,
            whole: false,
            identification: name.identification,
            largest: queue.largest,
            repeated: queue.header.len() as u32,
            dont_fragment: queue.dont_fragment,
        };
        self.datagram.clear();
        self.datagram.extend_from_slice(&queue.header);
        self.datagram.extend_from_slice(&queue.payload);
        let header = match name.family {
            Family::V4 => 0,
            Family::V6 => super::ipv6::HEADER,
        };
        let length = u16::try_from(length - header).map_err(|_| Refusal::TooLarge)?;
        match name.family {
            Family::V4 => {
                let end = queue.header.len();
                put_at(&mut self.datagram, 2, length.to_be_bytes());
                put_at(&mut self.datagram, 6, [0; 2]);
                put_at(&mut self.datagram, 10, [0; 2]);
                let sum = checksum::sum(self.datagram.get(..end).unwrap_or(&[]));
                put_at(&mut self.datagram, 10, (!sum).to_be_bytes());
            }
            Family::V6 => {
                put_at(&mut self.datagram, 4, length.to_be_bytes());
            }
        }
        Ok(())
    }
}

impl Queue {
    /// Notes that `[start, end)` has come; false when it had come before.
    fn join(&mut self, start: u32, end: u32, more: bool, gaps_max: usize) -> Result<bool, Refusal> {
        let reached = self.runs.last().map_or(0, |(_, end)| *end);
        match self.total {
            Some(total) if end > total || !more && end != total => {
                return Err(Refusal::Inconsistent);
            }
            None if !more && reached > end => return Err(Refusal::Inconsistent),
            _ => {}
        }
        // The first run that ends at or behind our start.
        let at = self.runs.partition_point(|(_, run_end)| *run_end < start);
        let inside = |&(from, to): &(u32, u32)| from <= start && end <= to;
        let overlaps = |&(from, to): &(u32, u32)| from < end && start < to;
        let near = self.runs.get(at..).unwrap_or(&[]);
        if near.iter().take(2).any(inside) {
            return Ok(false);
        }
        if near.iter().take(2).any(overlaps) {
            return Err(Refusal::Overlap);
        }
        if !more {
            self.total = Some(end);
        }
        let before = near.first().is_some_and(|(_, to)| *to == start);
        let behind = near
            .get(usize::from(before))
            .is_some_and(|(from, _)| *from == end);
        match (before, behind) {
            (true, true) => {
                let (_, to) = self.runs.remove(at + 1);
                self.runs[at].1 = to;
            }
            (true, false) => self.runs[at].1 = end,
            (false, true) => self.runs[at].0 = start,
            (false, false) => {
                if self.runs.len() > gaps_max {
                    return Err(Refusal::Gaps);
                }
                self.runs.insert(at, (start, end));
            }
        }
        Ok(true)
    }
}

impl<K: FrameKey> Frame<'_, K> {
    /// The bytes of the fragment, behind the headers that every fragment repeats, as far as they are there.
    fn fragment_bytes(&self) -> &[u8] {
        self.packet.get(self.fragment_begin()..).unwrap_or(&[])
    }

    /// How many there are by the network header.
    fn fragment_length(&self) -> u32 {
        self.layout
            .length
            .saturating_sub(self.fragment_begin() as u32)
    }

    fn fragment_begin(&self) -> usize {
        match self.layout.family {
            Family::V4 => usize::from(self.layout.transport),
            // Extension headers behind the fragment header are part of what was cut.
            Family::V6 => usize::from(self.layout.fragment_at) + 8,
        }
    }

    /// What the IPv6 fragment header says is behind it.
    fn fragmented(&self) -> Option<u8> {
        match self.layout.family {
            Family::V4 => None,
            Family::V6 => {
                bytes_at(&self.packet, usize::from(self.layout.fragment_at)).map(|[next]| next)
            }
        }
    }

    /// What every fragment repeats.
    fn unfragmentable(&self) -> &[u8] {
        let end = match self.layout.family {
            Family::V4 => usize::from(self.layout.transport),
            Family::V6 => usize::from(self.layout.fragment_at),
        };
        self.packet.get(..end).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_join() {
        let mut queue = Queue {
            age: 0,
            until: Instant::NEVER,
            runs: Vec::new(),
            total: None,
            header: Vec::new(),
            payload: Vec::new(),
            largest: 0,
            dont_fragment: false,
        };
        assert_eq!(queue.join(16, 24, true, 9), Ok(true));
        assert_eq!(queue.join(0, 8, true, 9), Ok(true));
        assert_eq!(queue.runs, [(0, 8), (16, 24)]);
        assert_eq!(queue.join(16, 24, true, 9), Ok(false), "again");
        assert_eq!(queue.join(8, 24, true, 9), Err(Refusal::Overlap));
        assert_eq!(queue.join(8, 20, true, 9), Err(Refusal::Overlap));
        assert_eq!(queue.join(16, 20, false, 9), Err(Refusal::Inconsistent));
        assert_eq!(queue.join(24, 30, false, 9), Ok(true));
        assert_eq!(queue.join(24, 32, true, 9), Err(Refusal::Inconsistent));
        assert_eq!(queue.join(8, 16, true, 9), Ok(true));
        assert_eq!((queue.runs, queue.total), (Vec::from([(0, 30)]), Some(30)));
    }
}
