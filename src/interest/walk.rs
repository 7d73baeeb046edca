//! A linear walk over arrays: what answers while an index is small, or when its rules are crafted so that pairs do not help.
//!
//! Apart from the pair space because it is its opposite: it tests every rule, at three quarters of a nanosecond each, in the
//! order of priority, and owes nothing to what the rules say. An index keeps one beside the pairs while it has few rules
//! for the number of pairs of lengths among them, and drops it as it grows like other rule sets; see
//! [`Space`](super::space::Space).
//!
//! ```text
//!  chunks in order:   | up to 64 rules | up to 64 rules | ...      two neighbours hold more than 60
//!  a chunk:           each field of 64 rules side by side, tested at once
//! ```
//!
//! Cost of a lookup: O(n / 64) chunks. Of an edit: O(log n) to find the chunk, up to 64 lanes moved, and O(n / 64) chunk
//! pointers when a chunk splits or two join.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::prefix::Bits;
use super::rule::{Flow, Rule};
use super::space::Prefix;
use super::visit::Visit;

const CHUNK: usize = 64;
/// Of a chunk with no more rules, only so many lanes are tested.
const FEW: usize = 16;
/// Two neighbours with so few rules together are joined.
const JOIN: usize = 60;

type Row<T> = [T; CHUNK];

/// Rules in the order of priority, equals in that of age.
#[derive(Debug)]
pub(super) struct Walk<A> {
    #[expect(clippy::vec_box, reason = "growth moves pointers, not chunks")]
    chunks: Vec<Box<Chunk>>,
    len: usize,
    family: core::marker::PhantomData<A>,
}

#[derive(Clone, Debug)]
struct Chunk {
    count: usize,
    /// For each word of an address: source, its mask, destination, its mask.
    address: Vec<[Row<u32>; 4]>,
    value: Row<u32>,
    mask: Row<u32>,
    source_first: Row<u16>,
    source_width: Row<u16>,
    destination_first: Row<u16>,
    destination_width: Row<u16>,
    slot: Row<u32>,
    priority: Row<u64>,
    sequence: Row<u64>,
}

/// What orders rules: priority, then age.
type Order = (u64, u64);

impl<A: Bits> Walk<A> {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
            family: core::marker::PhantomData,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let chunk = size_of::<Chunk>() + A::WORDS * size_of::<[Row<u32>; 4]>();
        self.chunks.len() * chunk + self.chunks.capacity() * size_of::<usize>()
    }

    pub(super) fn insert(
        &mut self,
        source: Prefix<A>,
        destination: Prefix<A>,
        rule: &Rule,
        sequence: u64,
    ) {
        let order = (rule.priority, sequence);
        let mut at = self.chunk_of(order);
        let is_last = at + 1 >= self.chunks.len();
        match self.chunks.get_mut(at) {
            None => self.chunks.push(Chunk::new(A::WORDS)),
            Some(chunk) if chunk.count == CHUNK => {
                if is_last && chunk.order(CHUNK - 1) < order {
                    self.chunks.push(Chunk::new(A::WORDS));
                    at += 1;
                } else {
                    let upper = chunk.split();
                    let goes_up = upper.order(0) < order;
                    self.chunks.insert(at + 1, upper);
                    at += usize::from(goes_up);
                }
            }
            Some(_) => {}
        }
        self.len += 1;
        if let Some(chunk) = self.chunks.get_mut(at) {
            let lane = (0..chunk.count)
                .find(|&lane| chunk.order(lane) > order)
                .unwrap_or(chunk.count);
            chunk.open(lane);
            let ones = |len: u32| u128::MAX.checked_shl(128 - len).unwrap_or(0);
            for (word, rows) in chunk.address.iter_mut().enumerate() {
                let part = |bits: u128| (bits >> (96 - 32 * word)) as u32;
                let parts = [
                    source.0.aligned(),
                    ones(source.1),
                    destination.0.aligned(),
                    ones(destination.1),
                ];
                for (row, bits) in rows.iter_mut().zip(parts) {
                    row[lane] = part(bits);
                }
            }
            let (source_first, source_width) = rule.source_ports();
            let (destination_first, destination_width) = rule.destination_ports();
            chunk.value[lane] = rule.value & rule.mask();
            chunk.mask[lane] = rule.mask();
            chunk.source_first[lane] = source_first;
            chunk.source_width[lane] = source_width;
            chunk.destination_first[lane] = destination_first;
            chunk.destination_width[lane] = destination_width;
            chunk.slot[lane] = rule.slot();
            chunk.priority[lane] = rule.priority;
            chunk.sequence[lane] = sequence;
        }
    }

    pub(super) fn remove(&mut self, priority: u64, sequence: u64) {
        let at = self.chunk_of((priority, sequence));
        let Some(chunk) = self.chunks.get_mut(at) else {
            return;
        };
        let Some(lane) = (0..chunk.count).find(|&l| chunk.order(l) == (priority, sequence)) else {
            return;
        };
        chunk.close(lane);
        self.len -= 1;
        if chunk.count == 0 {
            self.chunks.remove(at);
            // Its neighbours are neighbours now.
            self.join(at.wrapping_sub(1));
        } else {
            self.join(at);
            self.join(at.wrapping_sub(1));
        }
    }

    /// Joins a chunk with the next if both are small.
    fn join(&mut self, at: usize) {
        let Some([lower, upper]) = self.chunks.get(at..).and_then(|rest| rest.get(..2)) else {
            return;
        };
        if lower.count + upper.count <= JOIN {
            let upper = self.chunks.remove(at + 1);
            if let Some(lower) = self.chunks.get_mut(at) {
                lower.append(&upper, 0..upper.count);
            }
        }
    }

    /// The last chunk that does not begin behind `order`.
    fn chunk_of(&self, order: Order) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.order(0) <= order)
            .saturating_sub(1)
    }

    /// Gives priority and slot of every rule that admits the flow to `visit`, in order, until it is done.
    pub(super) fn admitting(&self, source: A, destination: A, flow: &Flow, visit: &mut impl Visit) {
        let address = (source.aligned(), destination.aligned());
        for chunk in &self.chunks {
            let hits = match chunk.count {
                0..=FEW => chunk.hits::<FEW>(address, flow),
                _ => chunk.hits::<CHUNK>(address, flow),
            };
            for (at, octets) in hits.chunks_exact(8).enumerate() {
                let mut word = u64::from_le_bytes(octets.try_into().unwrap_or([0; 8]));
                while word != 0 {
                    let lane = (at * 8 + word.trailing_zeros() as usize / 8) % CHUNK;
                    word &= word - 1;
                    if lane < chunk.count {
                        visit.visit(chunk.priority[lane], chunk.slot[lane]);
                        if visit.is_done() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Tests order and fill; gives slot, order and fields of each rule to `seen`.
    pub(super) fn check(&self, mut seen: impl FnMut(u32, u64, u64)) -> Result<(), &'static str> {
        let mut last = None;
        let mut total = 0;
        for chunk in &self.chunks {
            if !(1..=CHUNK).contains(&chunk.count) || chunk.address.len() != A::WORDS {
                return Err("walk: shape of a chunk");
            }
            for lane in 0..chunk.count {
                let order = chunk.order(lane);
                if last.is_some_and(|last| last >= order) {
                    return Err("walk: out of order");
                }
                last = Some(order);
                seen(chunk.slot[lane], order.0, order.1);
            }
            total += chunk.count;
        }
        if total != self.len {
            return Err("walk: count of rules");
        }
        Ok(())
    }
}

impl Chunk {
    fn new(words: usize) -> Box<Self> {
        Box::new(Self {
            count: 0,
            address: alloc::vec![[[0; CHUNK]; 4]; words],
            value: [0; CHUNK],
            mask: [0; CHUNK],
            source_first: [0; CHUNK],
            source_width: [0; CHUNK],
            destination_first: [0; CHUNK],
            destination_width: [0; CHUNK],
            slot: [0; CHUNK],
            priority: [0; CHUNK],
            sequence: [0; CHUNK],
        })
    }

    /// One for each of the first lanes whose rule admits the flow; what lanes without a rule give means nothing.
    ///
    /// The loops are written for vector instructions: no branch, one width of lane each.
    #[inline(never)]
    fn hits<const LANES: usize>(
        &self,
        (source, destination): (u128, u128),
        flow: &Flow,
    ) -> [u8; CHUNK] {
        let word = |bits: u128, at: usize| (bits >> (96 - 32 * at)) as u32;
        let mut fails = [0u32; LANES];
        let rows = self.value.iter().zip(&self.mask);
        for (fail, (value, mask)) in fails.iter_mut().zip(rows) {
            *fail = (flow.value ^ value) & mask;
        }
        for (at, [s, s_mask, d, d_mask]) in self.address.iter().enumerate() {
            let (source, destination) = (word(source, at), word(destination, at));
            let rows = s.iter().zip(s_mask).zip(d.iter().zip(d_mask));
            for (fail, ((s, s_mask), (d, d_mask))) in fails.iter_mut().zip(rows) {
                *fail |= ((source ^ s) & s_mask) | ((destination ^ d) & d_mask);
            }
        }
        let mut ports = [0u16; LANES];
        let s = self.source_first.iter().zip(&self.source_width);
        let d = self.destination_first.iter().zip(&self.destination_width);
        for (ports, ((s_first, s_width), (d_first, d_width))) in ports.iter_mut().zip(s.zip(d)) {
            // Zero exactly when both ports lie in their ranges.
            *ports = flow
                .source_port
                .wrapping_sub(*s_first)
                .saturating_sub(*s_width)
                | flow
                    .destination_port
                    .wrapping_sub(*d_first)
                    .saturating_sub(*d_width);
        }
        let mut hits = [0u8; CHUNK];
        for (hit, (fail, ports)) in hits.iter_mut().zip(fails.iter().zip(&ports)) {
            *hit = u8::from((*fail == 0) & (*ports == 0));
        }
        hits
    }

    fn order(&self, lane: usize) -> Order {
        (self.priority[lane % CHUNK], self.sequence[lane % CHUNK])
    }

    /// Moves the lanes from `from` on to `to` on.
    fn shift(&mut self, from: usize, to: usize) {
        fn row<T: Copy>(row: &mut Row<T>, lanes: core::ops::Range<usize>, to: usize) {
            row.copy_within(lanes, to);
        }
        let lanes = from..self.count;
        for part in self.address.iter_mut().flatten() {
            row(part, lanes.clone(), to);
        }
        for part in [&mut self.value, &mut self.mask, &mut self.slot] {
            row(part, lanes.clone(), to);
        }
        for part in [
            &mut self.source_first,
            &mut self.source_width,
            &mut self.destination_first,
            &mut self.destination_width,
        ] {
            row(part, lanes.clone(), to);
        }
        for part in [&mut self.priority, &mut self.sequence] {
            row(part, lanes.clone(), to);
        }
    }

    /// Makes room for a rule at `lane`.
    fn open(&mut self, lane: usize) {
        self.shift(lane, lane + 1);
        self.count += 1;
    }

    fn close(&mut self, lane: usize) {
        self.shift(lane + 1, lane);
        self.count -= 1;
    }

    /// Takes the upper half out.
    fn split(&mut self) -> Box<Self> {
        let mut upper = Self::new(self.address.len());
        upper.append(self, CHUNK / 2..CHUNK);
        self.count = CHUNK / 2;
        upper
    }

    fn append(&mut self, other: &Self, lanes: core::ops::Range<usize>) {
        fn row<T: Copy>(to: &mut Row<T>, from: &Row<T>, lanes: core::ops::Range<usize>, at: usize) {
            let end = at + lanes.len();
            to[at..end].copy_from_slice(&from[lanes]);
        }
        let at = self.count;
        for (to, from) in self.address.iter_mut().zip(&other.address) {
            for (to, from) in to.iter_mut().zip(from) {
                row(to, from, lanes.clone(), at);
            }
        }
        row(&mut self.value, &other.value, lanes.clone(), at);
        row(&mut self.mask, &other.mask, lanes.clone(), at);
        row(&mut self.slot, &other.slot, lanes.clone(), at);
        row(
            &mut self.source_first,
            &other.source_first,
            lanes.clone(),
            at,
        );
        row(
            &mut self.source_width,
            &other.source_width,
            lanes.clone(),
            at,
        );
        row(
            &mut self.destination_first,
            &other.destination_first,
            lanes.clone(),
            at,
        );
        row(
            &mut self.destination_width,
            &other.destination_width,
            lanes.clone(),
            at,
        );
        row(&mut self.priority, &other.priority, lanes.clone(), at);
        row(&mut self.sequence, &other.sequence, lanes.clone(), at);
        self.count += lanes.len();
    }
}
