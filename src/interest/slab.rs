//! Slots: what an id names.
//!
//! Apart from the spaces because lookups read only the generation of a slot, four bytes, and edits the rest.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::index::{InterestId, holds_flows};
use super::pool::{NONE, Pool, Pooled};
use crate::key::{Cidr, Family, Pattern};

/// Payloads by slot, each with its pattern's prefixes and age.
#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<Held<T>>>,
    #[expect(
        clippy::vec_box,
        reason = "growth moves pointers, not two kilobytes for each"
    )]
    generations: Vec<Box<[u32; GENERATIONS]>>,
    /// Addresses of patterns of IPv6.
    wide: Pool<Wide>,
    /// First vacant slot.
    vacant: u32,
    len: usize,
}

#[derive(Debug)]
struct Held<T> {
    /// Age; of a vacant slot, the next vacant one.
    sequence: u64,
    /// Address bits of IPv4, or the place of those of IPv6 in `source`.
    source: u32,
    destination: u32,
    lens: [u8; 2],
    marks: Marks,
    value: Option<T>,
}

/// Slots in a chunk.
const CHUNK: usize = 128;
const GENERATIONS: usize = 512;

#[derive(Clone, Copy, Debug)]
struct Wide([u128; 2]);

impl Pooled for Wide {
    const BLANK: Self = Self([0; 2]);
}

/// A pattern's prefix on one side, left-aligned, and its length.
type Side = (u128, u32);

impl<T> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            generations: Vec::new(),
            wide: Pool::new(),
            vacant: NONE,
            len: 0,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn bytes(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::capacity);
        let slots = self.chunks.len().saturating_sub(1) * CHUNK + last;
        slots * size_of::<Held<T>>()
            + self.chunks.capacity() * size_of::<Vec<Held<T>>>()
            + self.generations.len() * size_of::<[u32; GENERATIONS]>()
            + self.generations.capacity() * size_of::<usize>()
            + self.wide.bytes()
    }

    pub(super) fn insert(
        &mut self,
        marks: Marks,
        sides: [Side; 2],
        sequence: u64,
        value: T,
    ) -> InterestId {
        let [(source, source_len), (destination, destination_len)] = sides;
        let mut place = NONE;
        let (source, destination) = if marks.is_wide() {
            self.wide
                .insert(&mut place, 0, 0, Wide([source, destination]));
            (place, 0)
        } else {
            ((source >> 96) as u32, (destination >> 96) as u32)
        };
        let held = Held {
            sequence,
            source,
            destination,
            lens: [source_len as u8, destination_len as u8],
            marks,
            value: Some(value),
        };
        self.len += 1;
        let slot = self.vacant;
        if let Some(place) = self.held_mut(slot) {
            let next = place.sequence as u32;
            *place = held;
            self.vacant = next;
            return self.id(slot);
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            // The first chunk grows as it fills, so that a small index stays small.
            self.chunks.push(if self.chunks.is_empty() {
                Vec::new()
            } else {
                Vec::with_capacity(CHUNK)
            });
        }
        let before = (self.chunks.len() - 1) * CHUNK;
        let mut slot = before as u32;
        if let Some(chunk) = self.chunks.last_mut() {
            slot += chunk.len() as u32;
            chunk.push(held);
        }
        if self.generations.len() * GENERATIONS <= slot as usize {
            self.generations.push(Box::new([0; GENERATIONS]));
        }
        self.id(slot)
    }

    pub(super) fn remove(&mut self, id: InterestId) -> Option<(Marks, [Side; 2], T)> {
        self.get(id)?;
        let (marks, sides) = self.sides(id.slot)?;
        let vacant = self.vacant;
        let held = self.held_mut(id.slot)?;
        let value = held.value.take()?;
        held.sequence = vacant.into();
        let place = held.source;
        if marks.is_wide() {
            self.wide.discard(place, 1);
        }
        self.vacant = id.slot;
        self.len -= 1;
        self.turn(id.slot);
        Some((marks, sides, value))
    }

    pub(super) fn clear(&mut self) {
        for slot in 0..self.slots() {
            let vacant = self.vacant;
            if let Some(held) = self.held_mut(slot) {
                if held.value.take().is_some() {
                    held.sequence = vacant.into();
                    self.vacant = slot;
                    self.turn(slot);
                }
            }
        }
        self.wide = Pool::new();
        self.len = 0;
    }

    pub(super) fn get(&self, id: InterestId) -> Option<&T> {
        if self.id(id.slot) != id {
            return None;
        }
        self.at(id.slot)?.value.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: InterestId) -> Option<&mut T> {
        if self.id(id.slot) != id {
            return None;
        }
        self.held_mut(id.slot)?.value.as_mut()
    }

    /// The id of the tenant of a slot.
    #[inline]
    pub(super) fn id(&self, slot: u32) -> InterestId {
        let chunk = self.generations.get(slot as usize / GENERATIONS);
        InterestId {
            slot,
            generation: chunk.map_or(0, |chunk| chunk[slot as usize % GENERATIONS]),
        }
    }

    pub(super) fn sequence(&self, slot: u32) -> u64 {
        self.at(slot).map_or(0, |held| held.sequence)
    }

    pub(super) fn marks(&self, slot: u32) -> Marks {
        self.at(slot).map_or(Marks(0), |held| held.marks)
    }

    pub(super) fn sides(&self, slot: u32) -> Option<(Marks, [Side; 2])> {
        let held = self.at(slot)?;
        let bits = if held.marks.is_wide() {
            self.wide.at(held.source).0
        } else {
            [held.source, held.destination].map(|bits| u128::from(bits) << 96)
        };
        let [source, destination] = held.lens;
        Some((
            held.marks,
            [(bits[0], source.into()), (bits[1], destination.into())],
        ))
    }

    /// The parts of a pattern that the slab knows: family and prefixes.
    pub(super) fn pattern(&self, slot: u32) -> Pattern {
        let Some((marks, [source, destination])) = self.sides(slot) else {
            return Pattern::ANY;
        };
        let family = if marks.in_v4() {
            Family::V4
        } else {
            Family::V6
        };
        let side = |mark: u8, (bits, len): Side| {
            (marks.0 & mark != 0).then(|| Cidr::from_bits(family, bits, len as u8))
        };
        Pattern {
            family: marks.family(),
            source: side(SOURCE, source),
            destination: side(DESTINATION, destination),
            ..Pattern::ANY
        }
    }

    /// Whether a slot has a tenant.
    pub(super) fn is_held(&self, slot: u32) -> bool {
        self.at(slot).is_some_and(|held| held.value.is_some())
    }

    /// Slots that have a tenant. For `check`.
    pub(super) fn held(&self) -> impl Iterator<Item = u32> {
        let slots = 0..self.slots();
        slots.filter(|&slot| self.is_held(slot))
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.held().count() != self.len {
            return Err("slab: count of slots held");
        }
        let mut vacant = 0;
        let mut at = self.vacant;
        while let Some(held) = self.at(at) {
            vacant += 1;
            if held.value.is_some() || vacant > self.slots() as usize {
                return Err("slab: list of vacant slots");
            }
            at = held.sequence as u32;
        }
        if vacant + self.len != self.slots() as usize {
            return Err("slab: count of vacant slots");
        }
        let wide = self.held().filter(|&slot| self.marks(slot).is_wide());
        if self.wide.in_use() != wide.count() {
            return Err("slab: addresses leaked");
        }
        Ok(())
    }

    /// Slots ever used at once.
    pub(super) fn slots(&self) -> u32 {
        let last = self.chunks.last().map_or(0, Vec::len);
        (self.chunks.len().saturating_sub(1) * CHUNK + last) as u32
    }

    fn at(&self, slot: u32) -> Option<&Held<T>> {
        let chunk = self.chunks.get(slot as usize / CHUNK)?;
        chunk.get(slot as usize % CHUNK)
    }

    fn held_mut(&mut self, slot: u32) -> Option<&mut Held<T>> {
        let chunk = self.chunks.get_mut(slot as usize / CHUNK)?;
        chunk.get_mut(slot as usize % CHUNK)
    }

    /// The slot's next tenant is another.
    fn turn(&mut self, slot: u32) {
        if let Some(chunk) = self.generations.get_mut(slot as usize / GENERATIONS) {
            let generation = &mut chunk[slot as usize % GENERATIONS];
            *generation = generation.wrapping_add(1);
        }
    }
}

/// Which parts a pattern names, and which spaces hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks(u8);

const FAMILY_V4: u8 = 1;
const FAMILY_V6: u8 = 2;
const SOURCE: u8 = 4;
const DESTINATION: u8 = 8;
const IN_V4: u8 = 16;
const IN_V6: u8 = 32;

impl Marks {
    pub(super) fn of(pattern: &Pattern) -> Self {
        let mut marks = match pattern.family {
            Some(Family::V4) => FAMILY_V4,
            Some(Family::V6) => FAMILY_V6,
            None => 0,
        };
        if pattern.source.is_some() {
            marks |= SOURCE;
        }
        if pattern.destination.is_some() {
            marks |= DESTINATION;
        }
        if holds_flows(pattern) {
            marks |= match pattern.implied_family() {
                Some(Family::V4) => IN_V4,
                Some(Family::V6) => IN_V6,
                None => IN_V4 | IN_V6,
            };
        }
        Self(marks)
    }

    /// In neither space: no flow can match.
    pub(super) fn is_void(self) -> bool {
        self.0 & (IN_V4 | IN_V6) == 0
    }

    pub(super) fn in_v4(self) -> bool {
        self.0 & IN_V4 != 0
    }

    pub(super) fn in_v6(self) -> bool {
        self.0 & IN_V6 != 0
    }

    /// Whether its addresses are kept apart: those of IPv6, where they are not zero anyway.
    fn is_wide(self) -> bool {
        self.in_v6() && self.0 & (SOURCE | DESTINATION) != 0
    }

    fn family(self) -> Option<Family> {
        match self.0 & (FAMILY_V4 | FAMILY_V6) {
            FAMILY_V4 => Some(Family::V4),
            FAMILY_V6 => Some(Family::V6),
            _ => None,
        }
    }
}
