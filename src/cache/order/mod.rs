//! In what order the sessions of a segment make room: CLOCK, SIEVE and S3-FIFO, each over lists threaded through the slots.
//!
//! Apart from the sessions because an order knows slots only: what a hit leaves is a saturating counter in the session, read
//! here when somebody must go.
//!
//! ```text
//!  CLOCK     oldest <- - - - - newest      visited: back to the newest end, unvisited: out
//!  SIEVE     oldest <- - hand - newest     visited: stays in its place and the hand passes, unvisited: out
//!  S3-FIFO   small (a tenth, eight at least): visited twice: into main, else out, and remembered; who is remembered enters main
//!            main:  visited: back to the newest end with one visit less, unvisited: out
//! ```
//!
//! Sources: Corbató, *A paging experiment with the Multics system*, 1968; Zhang and others, *SIEVE is simpler than LRU*,
//! NSDI 2024; Yang and others, *FIFO queues are all you need for cache eviction*, SOSP 2023.

#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use crate::time::{Duration, Instant};

/// Who makes room among sessions of the same segment; `benches/eviction` compares. Each does at most one saturating addition on a hit, and looks at no more
/// than [`evict_scan`](super::Config::evict_scan) sessions for a victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Eviction {
    /// The oldest that had no packet since it was looked at last.
    Clock,
    /// The same, but those that had one keep their place: newcomers are looked at first, which a scan does not survive.
    Sieve,
    /// Newcomers wait in a queue of a tenth and must have two more packets to leave it; keys of those that did not are remembered, at
    /// 8 bytes a session.
    S3Fifo,
}

/// No slot.
const NONE: u32 = u32::MAX;
/// Newcomers that are not turned out for being more than a tenth: of a few dozen sessions a tenth is too few for any of them to be
/// seen again.
const SMALL_MIN: u32 = 8;
/// A counter of visits does not go past this.
pub(super) const VISITS_MAX: u8 = 3;

/// A moment in milliseconds, wrapping after 24 days: what a guaranteed stay is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick(u32);

impl Tick {
    const MASK: u32 = u32::MAX >> 1;

    pub(super) fn of(now: Instant) -> Self {
        Self((now.nanos() / 1_000_000) as u32 & Self::MASK)
    }

    /// Milliseconds that surely cover a duration.
    pub(super) fn covering(duration: Duration) -> u32 {
        match duration.as_millis() {
            _ if duration.is_zero() => 0,
            millis => {
                u32::try_from(millis.saturating_add(2)).map_or(Self::MASK, |n| n.min(Self::MASK))
            }
        }
    }
}

/// A slot's place in the list that it is in.
#[derive(Clone, Copy, Debug)]
struct Link {
    older: u32,
    newer: u32,
    /// When it entered its segment, times two; plus one in the main queue.
    entered: u32,
}

/// The places of all slots. A slot is in one list of one order, or in none.
#[derive(Debug)]
pub(super) struct Links(Vec<Link>);

impl Links {
    pub(super) fn new(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(super) const fn bytes_for(capacity: usize) -> usize {
        capacity * size_of::<Link>()
    }

    fn at(&self, slot: u32) -> Link {
        const NOWHERE: Link = Link {
            older: NONE,
            newer: NONE,
            entered: 0,
        };
        self.0.get(slot as usize).copied().unwrap_or(NOWHERE)
    }

    fn set(&mut self, slot: u32, set: impl FnOnce(&mut Link)) {
        if let Some(link) = self.0.get_mut(slot as usize) {
            set(link);
        }
    }

    fn is_main(&self, slot: u32) -> bool {
        self.at(slot).entered & 1 == 1
    }

    /// Whether the slot entered its segment less than `stay` milliseconds ago.
    fn is_young(&self, slot: u32, stay: u32, now: Tick) -> bool {
        let entered = self.at(slot).entered >> 1;
        (now.0.wrapping_sub(entered) & Tick::MASK) < stay
    }

    /// Bytes that the places have allocated.
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Link>()
    }

    /// Bytes of places in use, or used before.
    pub(super) fn touched_bytes(&self) -> usize {
        self.0.len() * size_of::<Link>()
    }
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    oldest: u32,
    newest: u32,
    len: u32,
}

impl Queue {
    const EMPTY: Self = Self {
        oldest: NONE,
        newest: NONE,
        len: 0,
    };

    fn push(&mut self, slot: u32, links: &mut Links) {
        let older = self.newest;
        links.set(slot, |link| (link.older, link.newer) = (older, NONE));
        match older {
            NONE => self.oldest = slot,
            older => links.set(older, |link| link.newer = slot),
        }
        self.newest = slot;
        self.len += 1;
    }

    fn remove(&mut self, slot: u32, links: &mut Links) {
        let Link { older, newer, .. } = links.at(slot);
        match older {
            NONE => self.oldest = newer,
            older => links.set(older, |link| link.newer = newer),
        }
        match newer {
            NONE => self.newest = older,
            newer => links.set(newer, |link| link.older = older),
        }
        self.len = self.len.saturating_sub(1);
    }
}

/// What an order asks about who is in a slot.
pub(super) trait Tenants {
    /// Whether it had no packet for so long that it may go at once.
    fn is_idle(&self, slot: u32) -> bool;

    /// Its packets since it was looked at last.
    fn visits(&mut self, slot: u32) -> Option<&mut u8>;
}

/// The order of one segment.
#[derive(Debug)]
pub(super) struct Order {
    eviction: Eviction,
    /// The only queue, or the small one.
    first: Queue,
    main: Queue,
    /// SIEVE's; `NONE` for the oldest.
    hand: u32,
}

impl Order {
    pub(super) const fn new(eviction: Eviction) -> Self {
        Self {
            eviction,
            first: Queue::EMPTY,
            main: Queue::EMPTY,
            hand: NONE,
        }
    }

    /// Whether it wants to know who was let go lately.
    pub(super) fn remembers(&self) -> bool {
        self.eviction == Eviction::S3Fifo
    }

    pub(super) const fn len(&self) -> usize {
        self.first.len as usize + self.main.len as usize
    }

    fn queue(&mut self, main: bool) -> &mut Queue {
        if main {
            &mut self.main
        } else {
            &mut self.first
        }
    }

    /// Lets a slot in that is in no list, as the newest; one that is remembered may be let into the main queue.
    pub(super) fn push(&mut self, slot: u32, links: &mut Links, now: Tick, remembered: bool) {
        let main = remembered && self.eviction == Eviction::S3Fifo;
        while links.0.len() <= slot as usize {
            links.0.push(Link {
                older: NONE,
                newer: NONE,
                entered: 0,
            });
        }
        links.set(slot, |link| link.entered = now.0 << 1 | u32::from(main));
        self.queue(main).push(slot, links);
    }

    /// Takes a slot out; whether it was a newcomer to be remembered.
    pub(super) fn remove(&mut self, slot: u32, links: &mut Links) -> bool {
        if self.hand == slot {
            self.hand = links.at(slot).newer;
        }
        let main = links.is_main(slot);
        self.queue(main).remove(slot, links);
        !main && self.eviction == Eviction::S3Fifo
    }

    /// Back to the newest end, of the main queue or the same.
    fn requeue(&mut self, slot: u32, links: &mut Links, main: bool) {
        let was_main = links.is_main(slot);
        self.queue(was_main).remove(slot, links);
        links.set(slot, |link| {
            link.entered = link.entered & !1 | u32::from(main)
        });
        self.queue(main).push(slot, links);
    }

    /// Who has to go; it stays in its list. `None` when everybody among those looked at has a right to stay: who entered less
    /// than `stay` milliseconds ago.
    ///
    /// Cost: at most `scan` tenants looked at.
    pub(super) fn victim(
        &mut self,
        links: &mut Links,
        tenants: &mut impl Tenants,
        scan: usize,
        stay: u32,
        now: Tick,
    ) -> Option<u32> {
        match self.eviction {
            Eviction::Clock => self.clock(links, tenants, scan, stay, now),
            Eviction::Sieve => self.sieve(links, tenants, scan, stay, now),
            Eviction::S3Fifo => self.s3_fifo(links, tenants, scan, stay, now),
        }
    }

    /// Those that come after the oldest have entered later, or have had a packet since; so nobody is asked to go before it.
    fn clock(
        &mut self,
        links: &mut Links,
        tenants: &mut impl Tenants,
        scan: usize,
        stay: u32,
        now: Tick,
    ) -> Option<u32> {
        for left in (0..scan).rev() {
            let slot = self.first.oldest;
            if slot == NONE || links.is_young(slot, stay, now) {
                return None;
            }
            match tenants.visits(slot) {
                Some(visits) if *visits > 0 && left > 0 => *visits = 0,
                _ => return Some(slot),
            }
            if tenants.is_idle(slot) {
                return Some(slot);
            }
            self.requeue(slot, links, false);
        }
        None
    }

    fn sieve(
        &mut self,
        links: &mut Links,
        tenants: &mut impl Tenants,
        scan: usize,
        stay: u32,
        now: Tick,
    ) -> Option<u32> {
        let mut second_choice = None;
        for _ in 0..scan.min(self.len()) {
            let slot = if self.hand == NONE {
                self.first.oldest
            } else {
                self.hand
            };
            if !links.is_young(slot, stay, now) {
                match tenants.visits(slot) {
                    Some(visits) if *visits > 0 => *visits = 0,
                    _ => return Some(slot),
                }
                if tenants.is_idle(slot) {
                    return Some(slot);
                }
                second_choice = second_choice.or(Some(slot));
            }
            self.hand = links.at(slot).newer;
        }
        second_choice
    }

    fn s3_fifo(
        &mut self,
        links: &mut Links,
        tenants: &mut impl Tenants,
        scan: usize,
        stay: u32,
        now: Tick,
    ) -> Option<u32> {
        for left in (0..scan).rev() {
            let [small, main] = [self.first, self.main].map(|queue| {
                Some(queue.oldest).filter(|slot| *slot != NONE && !links.is_young(*slot, stay, now))
            });
            let is_large =
                self.first.len > SMALL_MIN && u64::from(self.first.len) * 10 >= self.len() as u64;
            let (slot, promotes) = match (small, main) {
                (Some(slot), _) if is_large => (slot, true),
                (_, Some(slot)) => (slot, false),
                (Some(slot), None) => (slot, true),
                (None, None) => return None,
            };
            match tenants.visits(slot) {
                Some(visits) if promotes && *visits > 1 && left > 0 => *visits = 0,
                Some(visits) if !promotes && *visits > 0 && left > 0 => *visits -= 1,
                _ => return Some(slot),
            }
            if tenants.is_idle(slot) {
                return Some(slot);
            }
            self.requeue(slot, links, true);
        }
        None
    }

    /// Slots from the oldest on, the main queue last; for tests. Ends after as many as there are.
    pub(super) fn slots<'a>(&'a self, links: &'a Links) -> impl Iterator<Item = u32> + 'a {
        [self.first, self.main].into_iter().flat_map(|queue| {
            let next = |slot: &u32| Some(links.at(*slot).newer).filter(|slot| *slot != NONE);
            let oldest = Some(queue.oldest).filter(|slot| *slot != NONE);
            core::iter::successors(oldest, next).take(queue.len as usize + 1)
        })
    }
}

/// Keys that were let go lately, by fingerprint: S3-FIFO's ghosts. Direct-mapped; a newer one takes an older one's place.
#[derive(Debug)]
pub(super) struct Ghosts {
    /// Fingerprint, and the number of the eviction.
    places: Vec<(u32, u32)>,
    evictions: u32,
    /// How many evictions one is remembered for.
    lasting: u32,
}

impl Ghosts {
    /// None at all without S3-FIFO.
    pub(super) fn new(eviction: Eviction, capacity: usize) -> Self {
        let places = match eviction {
            Eviction::S3Fifo => capacity.next_power_of_two(),
            _ => 0,
        };
        Self {
            places: alloc::vec![(0, 0); places],
            evictions: 0,
            lasting: u32::try_from(capacity).unwrap_or(u32::MAX),
        }
    }

    pub(super) const fn bytes_for(eviction: Eviction, capacity: usize) -> usize {
        match eviction {
            Eviction::S3Fifo => capacity.next_power_of_two() * size_of::<(u32, u32)>(),
            _ => 0,
        }
    }

    pub(super) fn are_kept(&self) -> bool {
        !self.places.is_empty()
    }

    fn split(&self, hash: u64) -> (usize, u32) {
        // 0 stands for an empty place.
        (
            hash as usize & (self.places.len() - 1),
            (hash >> 32) as u32 | 1,
        )
    }

    pub(super) fn remember(&mut self, hash: u64) {
        if self.are_kept() {
            let (at, fingerprint) = self.split(hash);
            self.evictions = self.evictions.wrapping_add(1);
            let now = self.evictions;
            if let Some(place) = self.places.get_mut(at) {
                *place = (fingerprint, now);
            }
        }
    }

    /// Whether it was let go lately; it is forgotten.
    pub(super) fn recall(&mut self, hash: u64) -> bool {
        if !self.are_kept() {
            return false;
        }
        let (at, fingerprint) = self.split(hash);
        match self.places.get_mut(at) {
            Some(place) if place.0 == fingerprint => {
                let recent = self.evictions.wrapping_sub(place.1) < self.lasting;
                *place = (0, 0);
                recent
            }
            _ => false,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<(u32, u32)>()
    }
}
