//! A linear walk over arrays: what answers while an index is small, or when its rules are crafted so that pairs do not help.
//!
//! Apart from the pair space because it is its opposite: it tests every rule, at three quarters of a nanosecond each, in the
//! order of priority, and owes nothing to what the rules say. An index keeps one beside the pairs while it has few rules
//! for the number of pairs of lengths among them, and drops it as it grows like other rule sets; see
//! [`Space`](super::space::Space).
//!
//! ```text
//!  chunks in order:   | up to 64 rules | up to 64 rules | ...      two neighbours hold more than 60
//!  a chunk:           each field of 64 rules side by side, in groups of 16 lanes that are tested at once
//! ```
//!
//! Cost of a lookup: O(n / 16) groups. Of an edit: O(log n) to find the chunk, up to 64 lanes moved, and O(n / 64) chunk
//! pointers when a chunk splits or two join.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::prefix::Bits;
use super::rule::{Flow, Rule};
use super::space::Prefix;

const LANES: usize = 16;
const GROUPS: usize = 4;
const CHUNK: usize = LANES * GROUPS;
/// Two neighbours with so few rules together are joined.
const JOIN: usize = 60;

type Row<T> = [[T; LANES]; GROUPS];

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
                    row.as_flattened_mut()[lane] = part(bits);
                }
            }
            let (source_first, source_width) = rule.source_ports();
            let (destination_first, destination_width) = rule.destination_ports();
            chunk.value.as_flattened_mut()[lane] = rule.value & rule.mask();
            chunk.mask.as_flattened_mut()[lane] = rule.mask();
            chunk.source_first.as_flattened_mut()[lane] = source_first;
            chunk.source_width.as_flattened_mut()[lane] = source_width;
            chunk.destination_first.as_flattened_mut()[lane] = destination_first;
            chunk.destination_width.as_flattened_mut()[lane] = destination_width;
            chunk.slot.as_flattened_mut()[lane] = rule.slot();
            chunk.priority.as_flattened_mut()[lane] = rule.priority;
            chunk.sequence.as_flattened_mut()[lane] = sequence;
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

    /// Gives priority and slot of every rule that admits the flow to `visit`, in order.
    pub(super) fn admitting(
        &self,
        source: A,
        destination: A,
        flow: &Flow,
        visit: &mut impl FnMut(u64, u32),
    ) {
        let (source, destination) = (source.aligned(), destination.aligned());
        let word = |bits: u128, at: usize| (bits >> (96 - 32 * at)) as u32;
        for chunk in &self.chunks {
            for group in 0..chunk.count.div_ceil(LANES).min(GROUPS) {
                let mut fails = [0u32; LANES];
                for (at, [s, s_mask, d, d_mask]) in chunk.address.iter().enumerate() {
                    let (source, destination) = (word(source, at), word(destination, at));
                    let (s, s_mask, d, d_mask) =
                        (&s[group], &s_mask[group], &d[group], &d_mask[group]);
                    for lane in 0..LANES {
                        fails[lane] |= ((source ^ s[lane]) & s_mask[lane])
                            | ((destination ^ d[lane]) & d_mask[lane]);
                    }
                }
                let (value, mask) = (&chunk.value[group], &chunk.mask[group]);
                for lane in 0..LANES {
                    fails[lane] |= (flow.value ^ value[lane]) & mask[lane];
                }
                let (s_first, s_width) = (&chunk.source_first[group], &chunk.source_width[group]);
                let (d_first, d_width) = (
                    &chunk.destination_first[group],
                    &chunk.destination_width[group],
                );
                let mut ports = [0u16; LANES];
                for lane in 0..LANES {
                    // Zero exactly when the port lies in the range.
                    ports[lane] = flow
                        .source_port
                        .wrapping_sub(s_first[lane])
                        .saturating_sub(s_width[lane])
                        | flow
                            .destination_port
                            .wrapping_sub(d_first[lane])
                            .saturating_sub(d_width[lane]);
                }
                let mut hits = [0u8; LANES];
                for lane in 0..LANES {
                    hits[lane] = u8::from((fails[lane] == 0) & (ports[lane] == 0));
                }
                let mut hits = u128::from_le_bytes(hits);
                while hits != 0 {
                    let lane = hits.trailing_zeros() as usize / 8 % LANES;
                    hits &= hits - 1;
                    if group * LANES + lane < chunk.count {
                        visit(chunk.priority[group][lane], chunk.slot[group][lane]);
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
                seen(chunk.slot.as_flattened()[lane], order.0, order.1);
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
            address: alloc::vec![[[[0; LANES]; GROUPS]; 4]; words],
            value: [[0; LANES]; GROUPS],
            mask: [[0; LANES]; GROUPS],
            source_first: [[0; LANES]; GROUPS],
            source_width: [[0; LANES]; GROUPS],
            destination_first: [[0; LANES]; GROUPS],
            destination_width: [[0; LANES]; GROUPS],
            slot: [[0; LANES]; GROUPS],
            priority: [[0; LANES]; GROUPS],
            sequence: [[0; LANES]; GROUPS],
        })
    }

    fn order(&self, lane: usize) -> Order {
        (
            self.priority.as_flattened()[lane % CHUNK],
            self.sequence.as_flattened()[lane % CHUNK],
        )
    }

    /// Moves the lanes from `from` on to `to` on.
    fn shift(&mut self, from: usize, to: usize) {
        fn row<T: Copy>(row: &mut Row<T>, lanes: core::ops::Range<usize>, to: usize) {
            row.as_flattened_mut().copy_within(lanes, to);
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
            to.as_flattened_mut()[at..end].copy_from_slice(&from.as_flattened()[lanes]);
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
