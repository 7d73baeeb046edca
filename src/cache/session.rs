//! Sessions: one slot with two keys and one stamp, so that both directions of a flow live and die together.

use alloc::vec::Vec;
use core::fmt;

use super::order::VISITS_MAX;
use crate::cookie::FlowCookie;
use crate::destiny::Destiny;
use crate::epoch::{Generation, View};
use crate::hook::{Direction, HookSet, Views};
use crate::interest::Trigger;
use crate::key::{Fields, FlowKey};
use crate::packet::Origin;
use crate::time::Instant;
use crate::verdict::Verdict;

/// A slot's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(pub(super) u32);

/// One direction of one session: what the indexes map a key to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) slot: Slot,
    pub(super) direction: Direction,
}

impl Entry {
    /// The entry as an index's number: slot times two, plus the direction.
    pub(super) const fn id(self) -> u32 {
        self.slot.0 << 1 | self.direction as u32
    }

    pub(super) const fn from_id(id: u32) -> Self {
        let direction = if id & 1 == 0 {
            Direction::Original
        } else {
            Direction::Reply
        };
        Self {
            slot: Slot(id >> 1),
            direction,
        }
    }
}

/// How far a session has come, which decides how long it lasts and whom it may displace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Segment {
    /// Every packet is denied.
    Denied,
    /// One direction has been seen.
    Provisional,
    /// Both directions have been seen.
    Established,
}

impl Segment {
    /// Every segment in order.
    pub const ALL: [Self; 3] = [Self::Denied, Self::Provisional, Self::Established];
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Denied => "denied",
            Self::Provisional => "provisional",
            Self::Established => "established",
        })
    }
}

/// One direction's half of a session.
#[derive(Debug)]
pub(super) struct Half<D> {
    pub(super) destiny: D,
    /// Hooks that must judge the next packet before the destiny may be run.
    pub(super) pending: HookSet,
    /// The destiny's triggers, joined.
    pub(super) trigger: Trigger,
    /// Whether packets get past every hook, so that every hook has been asked. False for a constant denial.
    pub(super) complete: bool,
    pub(super) origin: Origin,
    pub(super) packets: u64,
    pub(super) bytes: u64,
}

impl<D: Default> Half<D> {
    pub(super) fn unjudged(origin: Origin) -> Self {
        Self {
            destiny: D::default(),
            pending: HookSet::ALL,
            trigger: Trigger::NONE,
            complete: false,
            origin,
            packets: 0,
            bytes: 0,
        }
    }

    pub(super) fn count(&mut self, length: u32) {
        self.packets += 1;
        self.bytes += u64::from(length);
    }
}

impl<D: Destiny> Half<D> {
    /// Every hook that had to has judged: the destiny may be run.
    pub(super) fn keep(&mut self, complete: bool) {
        self.pending = HookSet::NONE;
        self.trigger = self.destiny.trigger();
        self.complete = complete;
    }
}

#[derive(Debug)]
pub(super) struct Session<K, D> {
    /// The original key, and the reply's: what answers a packet as it leaves. They are equal where nothing does.
    pub(super) keys: [K; 2],
    /// Whether packets with the reply's key find this session. Not for denials, nor where another session had the key first.
    pub(super) answers: bool,
    /// Whether the tuples of a packet differ on its way.
    pub(super) translated: bool,
    /// By direction: whether a packet has come. Said again here, beside the stamp, so that the test of a stale session reads one
    /// line of the machine's cache.
    pub(super) seen: [bool; 2],
    pub(super) halves: [Half<D>; 2],
    /// Everything that the halves hold and that is not pending was right at this generation.
    pub(super) stamp: Generation,
    pub(super) last_seen: Instant,
    /// The hooks whose steps it keeps in spite of edits that touched it.
    pub(super) kept: HookSet,
    pub(super) segment: Segment,
    /// Packets since its order looked at it last, saturated.
    pub(super) visits: u8,
    /// Whether its packets are forwarded elsewhere.
    pub(super) lent: bool,
}

impl<K: FlowKey, D> Session<K, D> {
    pub(super) fn key(&self, direction: Direction) -> &K {
        &self.keys[direction as usize]
    }

    /// Whether packets of both directions have got past every hook.
    pub(super) fn gets_through(&self) -> bool {
        self.segment == Segment::Established && self.halves.iter().all(|half| half.complete)
    }

    /// A packet of it came.
    pub(super) fn touch(&mut self, now: Instant) {
        self.last_seen = now;
        self.visits = (self.visits + 1).min(VISITS_MAX);
    }

    /// Where it belongs after a packet of it got this verdict.
    pub(super) fn segment_after(&self, verdict: Verdict) -> Segment {
        if self.halves.iter().all(|half| half.packets > 0) {
            Segment::Established
        } else if verdict.is_accept() {
            Segment::Provisional
        } else {
            Segment::Denied
        }
    }

    /// The same as [`views`](Self::views), for patterns.
    pub(super) fn tuples(&self, direction: Direction) -> Tuples {
        Tuples {
            arrived: self.key(direction).fields(),
            translated: self.translated.then(|| {
                let Views {
                    routed, departed, ..
                } = self.views(direction);
                [routed.fields(), departed.fields()]
            }),
        }
    }

    /// The three tuples of a direction's packets: it arrives as its own key and departs as what the other key answers.
    pub(super) fn views(&self, direction: Direction) -> Views<K> {
        let arrived = *self.key(direction);
        let departed = match self.key(direction.reverse()).inverse() {
            Some(departed) if self.keys[0] != self.keys[1] => departed,
            _ => arrived,
        };
        Views::between(arrived, departed)
    }
}

/// The three tuples of a direction's packets, as patterns read them.
pub(super) trait AsSeen {
    fn of(&self, view: View) -> &Fields;
}

/// All three are the same.
impl AsSeen for Fields {
    #[inline]
    fn of(&self, _: View) -> &Fields {
        self
    }
}

/// Translation may make them differ.
pub(super) struct Tuples {
    arrived: Fields,
    /// As routed and as departed, where they do.
    translated: Option<[Fields; 2]>,
}

impl AsSeen for Tuples {
    #[inline]
    fn of(&self, view: View) -> &Fields {
        match (&self.translated, view) {
            (None, _) | (_, View::Arrived) => &self.arrived,
            (Some([routed, _]), View::Routed) => routed,
            (Some([_, departed]), View::Departed) => departed,
        }
    }
}

/// The slab of sessions.
#[derive(Debug)]
pub(super) struct Sessions<K, D> {
    slots: Vec<Place<K, D>>,
    free: Vec<Slot>,
    capacity: usize,
}

#[derive(Debug)]
struct Place<K, D> {
    /// Moves with every tenant, so that a cookie of an old one is known. Compared for equality only.
    generation: u32,
    session: Option<Session<K, D>>,
}

impl<K: FlowKey, D> Sessions<K, D> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            slots: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            capacity,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// Slots in use or used before: the range that a hand goes round.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Session<K, D>> {
        self.slots.get(slot.0 as usize)?.session.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Session<K, D>> {
        self.slots.get_mut(slot.0 as usize)?.session.as_mut()
    }

    /// Gives a session a slot; gives it back when there is none.
    pub(super) fn insert(&mut self, session: Session<K, D>) -> Result<Slot, Session<K, D>> {
        if let Some(slot) = self.free.pop() {
            if let Some(place) = self.slots.get_mut(slot.0 as usize) {
                place.session = Some(session);
                return Ok(slot);
            }
        }
        if self.slots.len() >= self.capacity {
            return Err(session);
        }
        let slot = Slot(self.slots.len() as u32);
        self.slots.push(Place {
            generation: 0,
            session: Some(session),
        });
        Ok(slot)
    }

    pub(super) fn remove(&mut self, slot: Slot) -> Option<Session<K, D>> {
        let place = self.slots.get_mut(slot.0 as usize)?;
        let session = place.session.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
        Some(session)
    }

    /// The cookie of an entry.
    pub(super) fn cookie(&self, entry: Entry) -> Option<FlowCookie> {
        let place = self.slots.get(entry.slot.0 as usize)?;
        place.session.as_ref()?;
        Some(FlowCookie {
            slot: entry.id(),
            generation: place.generation,
        })
    }

    /// The entry that a cookie names, if its tenant is still there.
    pub(super) fn entry(&self, cookie: FlowCookie) -> Option<Entry> {
        let entry = Entry::from_id(cookie.slot);
        let place = self.slots.get(entry.slot.0 as usize)?;
        place.session.as_ref()?;
        (place.generation == cookie.generation).then_some(entry)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Session<K, D>)> {
        let numbered = self.slots.iter().enumerate();
        numbered.filter_map(|(i, place)| Some((Slot(i as u32), place.session.as_ref()?)))
    }

    /// Bytes that so many slots take.
    pub(super) const fn bytes_for(capacity: usize) -> usize {
        capacity * (size_of::<Place<K, D>>() + size_of::<Slot>())
    }

    /// Bytes of slots in use, or used before.
    pub(super) fn touched_bytes(&self) -> usize {
        self.slots.len() * size_of::<Place<K, D>>() + self.free.len() * size_of::<Slot>()
    }

    /// Bytes that the slab has allocated.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Place<K, D>>() + self.free.capacity() * size_of::<Slot>()
    }
}
