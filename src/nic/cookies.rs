//! Short cookies: what fits into the 16, 24 or 32 bits that a NIC carries with a packet, and the life of each.
//!
//! Apart from the filters because a cookie outlives its filter: packets that carry it may still be on their way when the filter
//! is gone, and only when none is left may the number name something else.
//!
//! ```text
//!   value of a cookie of W bits
//!   0                          no cookie: NICs deliver it for packets that no filter marked
//!   2^W - 16 ..= 2^W - 1       the NIC's own
//!   all else                   | generation | index, at least 1 |
//!
//!                  begin                 installed
//!        Free ───────────────► Installing ─────────► Live
//!         ▲ ▲       refused        │                  │
//!         │ └──────────────────────┤   begin_removal  │
//!         │                        └───────┬──────────┘
//!         │   drained          removed     ▼
//!         └──────── Quarantined ◄───── Draining
//! ```
//!
//! A value names a place of a table, and the place names the entry or the subtree ([`FlowCookie`]), so that every width can name
//! any of a million sessions, though only as many at once as its index has numbers. The generation moves each time a place is
//! given out: a cookie of a former tenant is known, until the generation's few bits come round; then the slot's own generation
//! and the key, which the cache compares in any case, tell.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;

use crate::cookie::FlowCookie;
use crate::time::{Duration, Instant};

/// How many bits of a packet's descriptor carry a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// 16 bits.
    Bits16,
    /// 24 bits.
    Bits24,
    /// 32 bits.
    Bits32,
}

impl Width {
    /// The number of bits.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bits16 => 16,
            Self::Bits24 => 24,
            Self::Bits32 => 32,
        }
    }

    /// The largest value.
    pub const fn max(self) -> u32 {
        u32::MAX >> (32 - self.bits())
    }

    /// Whether a value is nobody's to give: 0, and the 16 largest.
    pub const fn is_reserved(self, value: u32) -> bool {
        value == 0 || value > self.max() - RESERVED
    }
}

/// Values at the top of the range that are the NIC's own.
const RESERVED: u32 = 16;

/// A cookie as a NIC carries it. Any number is one, if perhaps one that names nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShortCookie(pub u32);

impl ShortCookie {
    /// No cookie.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for ShortCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Where a cookie is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Life {
    /// Nobody's.
    Free,
    /// The NIC has been asked for a filter and has not answered. Packets may carry the cookie already.
    Installing,
    /// The NIC has the filter.
    Live,
    /// The NIC has been asked to remove the filter and has not answered. Packets may carry the cookie still; they are looked up.
    Draining,
    /// The filter is gone; packets taken in before that may still carry the cookie.
    Quarantined,
}

/// Why a cookie was not followed. The packet is looked up by its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Refusal {
    /// The packet has none.
    None,
    /// The value is reserved, or wider than cookies are.
    Reserved,
    /// No place has this index: forged, or damaged.
    Forged,
    /// Its place was given to another since, or to nobody.
    Recycled,
    /// Its filter is being removed, or was.
    Leaving,
}

impl Refusal {
    /// How many reasons there are.
    pub const COUNT: usize = 5;
}

/// There is no cookie left to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookiesFull;

impl fmt::Display for CookiesFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no cookie left to give")
    }
}

impl core::error::Error for CookiesFull {}

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Of its present or last tenant.
    generation: u32,
    life: Life,
    names: FlowCookie,
    /// When it came into this state of life.
    since: Instant,
    /// For the quarantined: the last packet that may carry it.
    horizon: u64,
}

/// The cookies that are out, and what they name.
///
/// ```
/// use gufc::cookie::FlowCookie;
/// use gufc::nic::{Cookies, Life, Refusal, Width};
/// use gufc::time::Instant;
///
/// let mut cookies = Cookies::new(Width::Bits16, 1_000);
/// let entry = FlowCookie { slot: 7, generation: 3 };
/// let short = cookies.begin(entry, Instant::START)?;
/// cookies.installed(short, Instant::START);
/// assert_eq!(cookies.resolve(short), Ok(entry));
///
/// cookies.begin_removal(short, Instant::START);
/// assert_eq!(cookies.resolve(short), Err(Refusal::Leaving));
/// cookies.removed(short, 41, Instant::START);
/// assert_eq!(cookies.drained(40), 0, "packet 41 may carry it still");
/// assert_eq!((cookies.drained(41), cookies.life(short)), (1, Life::Free));
/// # Ok::<(), gufc::nic::CookiesFull>(())
/// ```
#[derive(Clone, Debug)]
pub struct Cookies {
    width: Width,
    index_bits: u32,
    /// Place `i` belongs to index `i + 1`.
    places: Vec<Place>,
    capacity: usize,
    /// Freed places, the longest free first: a number rests as long as possible.
    free: VecDeque<u32>,
    /// Places in quarantine, by horizon.
    quarantine: VecDeque<u32>,
    refusals: [u64; Refusal::COUNT],
    resolved: u64,
    misplaced: u64,
    /// Where [`overdue`](Self::overdue) goes on.
    hand: usize,
}

impl Cookies {
    /// Bits of generation that a cookie has at least.
    const GENERATION_BITS_MIN: u32 = 2;

    /// Cookies of this width, at most `capacity` out at once; fewer where the width has not so many numbers beside two bits of
    /// generation: 16,383 of 16 bits, 4,194,303 of 24, 2^30 - 1 of 32. Memory is reserved here.
    pub fn new(width: Width, capacity: usize) -> Self {
        let most = (1usize << (width.bits() - Self::GENERATION_BITS_MIN)) - 1;
        let capacity = capacity.clamp(1, most);
        // Indexes go from 1 to the capacity.
        let index_bits = usize::BITS - capacity.leading_zeros();
        Self {
            width,
            index_bits,
            places: Vec::with_capacity(capacity),
            capacity,
            free: VecDeque::with_capacity(capacity),
            quarantine: VecDeque::with_capacity(capacity),
            refusals: [0; Refusal::COUNT],
            resolved: 0,
            misplaced: 0,
            hand: 0,
        }
    }

    /// Most cookies out at once.
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Cookies out: in any state but free.
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Whether none is out.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cookies followed.
    pub const fn resolved(&self) -> u64 {
        self.resolved
    }

    /// Cookies not followed, for this reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refusals.get(why as usize).copied().unwrap_or(0)
    }

    /// Announcements that did not fit a cookie's life, and changed nothing: completions that came twice, or too late.
    pub const fn misplaced(&self) -> u64 {
        self.misplaced
    }

    /// What the cookie names.
    ///
    /// # Errors
    ///
    /// [`Refusal`], counted: the packet is to be looked up by its key.
    ///
    /// Cost: one load.
    #[inline]
    pub fn resolve(&mut self, short: ShortCookie) -> Result<FlowCookie, Refusal> {
        let found = self.look(short);
        match found {
            Ok(_) => self.resolved += 1,
            Err(why) => {
                if let Some(count) = self.refusals.get_mut(why as usize) {
                    *count += 1;
                }
            }
        }
        found
    }

    #[inline]
    fn look(&self, short: ShortCookie) -> Result<FlowCookie, Refusal> {
        if short == ShortCookie::NONE {
            return Err(Refusal::None);
        }
        if self.width.is_reserved(short.0) {
            return Err(Refusal::Reserved);
        }
        let place = self.place(short).ok_or(Refusal::Forged)?;
        if place.generation != self.generation(short) {
            return Err(Refusal::Recycled);
        }
        match place.life {
            Life::Installing | Life::Live => Ok(place.names),
            Life::Draining | Life::Quarantined => Err(Refusal::Leaving),
            Life::Free => Err(Refusal::Recycled),
        }
    }

    /// Where the cookie is in its life; free for one that names nothing.
    pub fn life(&self, short: ShortCookie) -> Life {
        match self.place(short) {
            Some(place) if place.generation == self.generation(short) => place.life,
            _ => Life::Free,
        }
    }

    /// A cookie for this entry or subtree, to be put into a filter: free becomes installing.
    ///
    /// # Errors
    ///
    /// [`CookiesFull`] when none is free; those in quarantine are not.
    pub fn begin(&mut self, names: FlowCookie, now: Instant) -> Result<ShortCookie, CookiesFull> {
        let at = match self.free.pop_front() {
            Some(at) => at,
            None if self.places.len() < self.capacity => {
                self.places.push(Place {
                    generation: 0,
                    life: Life::Free,
                    names,
                    since: now,
                    horizon: 0,
                });
                self.places.len() as u32 - 1
            }
            None => return Err(CookiesFull),
        };
        let (width, index_bits) = (self.width, self.index_bits);
        let generations = width.max() >> index_bits;
        let Some(place) = self.places.get_mut(at as usize) else {
            return Err(CookiesFull);
        };
        let mut value;
        loop {
            place.generation = (place.generation + 1) & generations;
            value = place.generation << index_bits | (at + 1);
            // At most the top generation's highest indexes are reserved; the next generation is not.
            if !width.is_reserved(value) {
                break;
            }
        }
        (place.life, place.names, place.since) = (Life::Installing, names, now);
        Ok(ShortCookie(value))
    }

    /// The NIC has the filter: installing becomes live. False, and counted, where the cookie is not being installed.
    pub fn installed(&mut self, short: ShortCookie, now: Instant) -> bool {
        self.step(short, &[Life::Installing], Life::Live, now)
    }

    /// The NIC will not have the filter: installing becomes free.
    pub fn refuse(&mut self, short: ShortCookie, now: Instant) -> bool {
        let done = self.step(short, &[Life::Installing], Life::Free, now);
        if done {
            self.free.push_back(self.at(short) as u32);
        }
        done
    }

    /// The NIC is asked to remove the filter: installing or live becomes draining.
    pub fn begin_removal(&mut self, short: ShortCookie, now: Instant) -> bool {
        self.step(short, &[Life::Installing, Life::Live], Life::Draining, now)
    }

    /// The filter is gone: draining, or live where the NIC removed it by itself, becomes quarantined. `horizon` is the number of
    /// the last packet that the NIC has taken in.
    pub fn removed(&mut self, short: ShortCookie, horizon: u64, now: Instant) -> bool {
        let from = &[Life::Draining, Life::Live, Life::Installing];
        if !self.step(short, from, Life::Quarantined, now) {
            return false;
        }
        let at = self.at(short);
        // Horizons do not go back, so that the queue is in their order.
        let least = self.quarantine.back().and_then(|last| {
            let last = self.places.get(*last as usize)?;
            Some(last.horizon)
        });
        if let Some(place) = self.places.get_mut(at) {
            place.horizon = horizon.max(least.unwrap_or(0));
        }
        self.quarantine.push_back(at as u32);
        true
    }

    /// Every packet up to number `passed` has been handled: frees those in quarantine until then, and says how many.
    ///
    /// Cost: O(1) for each.
    pub fn drained(&mut self, passed: u64) -> usize {
        let mut freed = 0;
        while let Some(&at) = self.quarantine.front() {
            let Some(place) = self.places.get_mut(at as usize) else {
                break;
            };
            if place.horizon > passed {
                break;
            }
            place.life = Life::Free;
            self.quarantine.pop_front();
            self.free.push_back(at);
            freed += 1;
        }
        freed
    }

    /// Looks at the next `budget` places and calls `each` with those that have waited for the NIC's answer for `patience`: a
    /// completion was lost, or the NIC is slow. Their wait begins anew. Cost: O(budget).
    pub fn overdue(
        &mut self,
        now: Instant,
        patience: Duration,
        budget: usize,
        mut each: impl FnMut(ShortCookie, Life),
    ) {
        for _ in 0..budget.min(self.places.len()) {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.places.len();
            let Some(place) = self.places.get_mut(at) else {
                continue;
            };
            let waits = matches!(place.life, Life::Installing | Life::Draining);
            if waits && now - place.since >= patience {
                place.since = now;
                let value = place.generation << self.index_bits | (at as u32 + 1);
                each(ShortCookie(value), place.life);
            }
        }
    }

    /// Whether the states add up.
    ///
    /// # Errors
    ///
    /// What does not.
    pub fn check(&self) -> Result<(), &'static str> {
        let count = |life| {
            self.places
                .iter()
                .filter(|place| place.life == life)
                .count()
        };
        if count(Life::Free) != self.free.len() {
            return Err("free cookies are not on the free list");
        }
        if count(Life::Quarantined) != self.quarantine.len() {
            return Err("quarantined cookies are not in the quarantine");
        }
        let horizons = self.quarantine.iter().map(|at| {
            let place = self.places.get(*at as usize);
            place.map_or(0, |place| place.horizon)
        });
        if !horizons.is_sorted() {
            return Err("the quarantine is out of order");
        }
        if self.places.len() > self.capacity {
            return Err("more cookies than the capacity");
        }
        Ok(())
    }

    fn step(&mut self, short: ShortCookie, from: &[Life], to: Life, now: Instant) -> bool {
        let (at, generation) = (self.at(short), self.generation(short));
        match self.places.get_mut(at) {
            Some(place) if place.generation == generation && from.contains(&place.life) => {
                (place.life, place.since) = (to, now);
                true
            }
            _ => {
                self.misplaced += 1;
                false
            }
        }
    }

    /// The place of a cookie; beyond all places for index 0.
    fn at(&self, short: ShortCookie) -> usize {
        let index = short.0 & ((1 << self.index_bits) - 1);
        (index as usize).wrapping_sub(1)
    }

    fn place(&self, short: ShortCookie) -> Option<&Place> {
        self.places.get(self.at(short))
    }

    fn generation(&self, short: ShortCookie) -> u32 {
        short.0 >> self.index_bits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    const NOW: Instant = Instant::START;

    fn entry(slot: u32) -> FlowCookie {
        FlowCookie {
            slot,
            generation: 1,
        }
    }

    #[test]
    fn no_reserved_value_is_ever_given() {
        for width in [Width::Bits16, Width::Bits24, Width::Bits32] {
            for capacity in [1, 14, 15, 16, 255, 256, 5_000, 20_000] {
                let mut cookies = Cookies::new(width, capacity);
                let capacity = cookies.capacity();
                for round in 0..9 {
                    let mut seen = alloc::vec::Vec::new();
                    while let Ok(short) = cookies.begin(entry(0), NOW) {
                        assert!(!width.is_reserved(short.0) && short.0 <= width.max());
                        seen.push(short);
                    }
                    assert_eq!(seen.len(), capacity);
                    for short in seen {
                        assert!(cookies.removed(short, round, NOW));
                    }
                    assert_eq!(cookies.drained(round), capacity);
                    assert_eq!(cookies.check(), Ok(()));
                }
            }
        }
    }

    #[test]
    fn every_value_of_a_narrow_cookie_resolves_to_what_it_was_given_for_or_is_refused() {
        let mut cookies = Cookies::new(Width::Bits16, 100);
        let mut given = BTreeMap::new();
        for slot in 0..60 {
            given.insert(cookies.begin(entry(slot), NOW).expect("room"), slot);
        }
        for value in 0..=0xffff {
            let expected = given.get(&ShortCookie(value)).map(|slot| entry(*slot));
            assert_eq!(
                cookies.resolve(ShortCookie(value)).ok(),
                expected,
                "{value:#x}"
            );
        }
        let refused: u64 = [
            Refusal::None,
            Refusal::Reserved,
            Refusal::Forged,
            Refusal::Recycled,
        ]
        .map(|why| cookies.refused(why))
        .iter()
        .sum();
        assert_eq!(refused, 0x1_0000 - 60);
        assert_eq!(
            (cookies.refused(Refusal::None), cookies.resolved()),
            (1, 60)
        );
        assert_eq!(cookies.refused(Refusal::Reserved), 16);
    }

    #[test]
    fn life_goes_one_way() {
        let mut cookies = Cookies::new(Width::Bits24, 2);
        let first = cookies.begin(entry(1), NOW).expect("room");
        assert_eq!(cookies.life(first), Life::Installing);
        assert!(cookies.installed(first, NOW) && !cookies.installed(first, NOW));
        assert!(cookies.begin_removal(first, NOW) && !cookies.begin_removal(first, NOW));
        assert!(cookies.removed(first, 9, NOW) && !cookies.removed(first, 9, NOW));
        let second = cookies.begin(entry(2), NOW).expect("room");
        assert_eq!(
            cookies.begin(entry(3), NOW),
            Err(CookiesFull),
            "quarantined is not free"
        );
        assert_eq!(cookies.drained(9), 1);
        assert!(!cookies.installed(first, NOW), "of a former tenant");
        let third = cookies.begin(entry(3), NOW).expect("room");
        assert_eq!(third.0 & 3, first.0 & 3, "the same place");
        assert_eq!(cookies.resolve(first), Err(Refusal::Recycled));
        assert_eq!(cookies.resolve(third), Ok(entry(3)));
        assert!(cookies.refuse(second, NOW));
        assert_eq!(cookies.misplaced(), 4);
        assert_eq!(cookies.check(), Ok(()));
    }

    #[test]
    fn who_waits_too_long_is_named_once() {
        let mut cookies = Cookies::new(Width::Bits32, 8);
        let waits = cookies.begin(entry(1), NOW).expect("room");
        let lives = cookies.begin(entry(2), NOW).expect("room");
        cookies.installed(lives, NOW);
        let later = NOW + Duration::from_secs(2);
        let mut named = alloc::vec::Vec::new();
        for _ in 0..3 {
            cookies.overdue(later, Duration::from_secs(1), 8, |short, life| {
                named.push((short, life))
            });
        }
        assert_eq!(named, [(waits, Life::Installing)]);
    }
}
