//! The yardstick for the index: a linear walk written to be fast.
//!
//! Apart from the obvious twin, which is written to be right. Rules lie in the order of priority as a structure of arrays,
//! and are tested 64 at a time by loops that the compiler turns into vector instructions; the walk finds all matches, in
//! order, and needs no sorting.

use alloc::vec::Vec;

use crate::key::{Family, Fields, Pattern};

/// Rules of one family as arrays.
#[derive(Debug, Default)]
pub struct TightWalk {
    blocks: Vec<Block>,
    len: usize,
    wide: bool,
}

const LANES: usize = 64;

/// Fields of 64 rules. Unused lanes match nothing: a port range cannot be met.
#[derive(Clone, Debug)]
struct Block {
    source: [u32; LANES],
    source_mask: [u32; LANES],
    destination: [u32; LANES],
    destination_mask: [u32; LANES],
    value: [u32; LANES],
    value_mask: [u32; LANES],
    source_first: [u16; LANES],
    source_width: [u16; LANES],
    destination_first: [u16; LANES],
    destination_width: [u16; LANES],
    dead: [u16; LANES],
    rest: Vec<Rest>,
}

/// The lower 96 bits of IPv6 addresses.
#[derive(Clone, Debug)]
struct Rest {
    source: [[u32; LANES]; 3],
    source_mask: [[u32; LANES]; 3],
    destination: [[u32; LANES]; 3],
    destination_mask: [[u32; LANES]; 3],
}

impl TightWalk {
    /// The walk over these patterns, in this order; those of the other family are left out.
    pub fn new<'a>(family: Family, patterns: impl IntoIterator<Item = &'a Pattern>) -> Self {
        let mut walk = Self {
            wide: family == Family::V6,
            ..Self::default()
        };
        for pattern in patterns {
            walk.push(pattern);
        }
        walk
    }

    /// Bytes that the arrays take.
    pub fn bytes(&self) -> usize {
        let rest = if self.wide { size_of::<Rest>() } else { 0 };
        self.blocks.len() * (size_of::<Block>() + rest)
    }

    fn push(&mut self, pattern: &Pattern) {
        let lane = self.len % LANES;
        if lane == 0 {
            let rest = Rest {
                source: [[0; LANES]; 3],
                source_mask: [[0; LANES]; 3],
                destination: [[0; LANES]; 3],
                destination_mask: [[0; LANES]; 3],
            };
            self.blocks.push(Block {
                source: [0; LANES],
                source_mask: [0; LANES],
                destination: [0; LANES],
                destination_mask: [0; LANES],
                value: [0; LANES],
                value_mask: [0; LANES],
                source_first: [0; LANES],
                source_width: [0; LANES],
                destination_first: [0; LANES],
                destination_width: [0; LANES],
                dead: [1; LANES],
                rest: if self.wide {
                    alloc::vec![rest]
                } else {
                    Vec::new()
                },
            });
        }
        self.len += 1;
        let Some(block) = self.blocks.last_mut() else {
            return;
        };
        let side =
            |cidr: Option<crate::key::Cidr>| cidr.map_or((0, 0), |cidr| (cidr.bits(), cidr.mask()));
        let word = |bits: u128, at: usize| (bits >> (96 - 32 * at)) as u32;
        let ((source, source_mask), (destination, destination_mask)) =
            (side(pattern.source), side(pattern.destination));
        block.source[lane] = word(source, 0);
        block.source_mask[lane] = word(source_mask, 0);
        block.destination[lane] = word(destination, 0);
        block.destination_mask[lane] = word(destination_mask, 0);
        for rest in &mut block.rest {
            for at in 0..3 {
                rest.source[at][lane] = word(source, at + 1);
                rest.source_mask[at][lane] = word(source_mask, at + 1);
                rest.destination[at][lane] = word(destination, at + 1);
                rest.destination_mask[at][lane] = word(destination_mask, at + 1);
            }
        }
        let mut put = |part: Option<u32>, shift: u32, mask: u32| {
            if let Some(value) = part {
                block.value[lane] |= value << shift;
                block.value_mask[lane] |= mask << shift;
            }
        };
        put(pattern.protocol.map(|p| p.0.into()), 24, 0xff);
        put(pattern.source_local.map(u32::from), 23, 1);
        put(pattern.destination_local.map(u32::from), 22, 1);
        put(pattern.zone.map(|z| z.id()), 0, 0x3f_ffff);
        block.source_first[lane] = pattern.source_ports.first;
        block.source_width[lane] = pattern.source_ports.last - pattern.source_ports.first;
        block.destination_first[lane] = pattern.destination_ports.first;
        block.destination_width[lane] =
            pattern.destination_ports.last - pattern.destination_ports.first;
        block.dead[lane] = 0;
    }

    /// Positions of the patterns that match, in order, put into `found`.
    #[expect(
        clippy::needless_range_loop,
        reason = "one index over many arrays is what the compiler turns into vector instructions"
    )]
    pub fn matches(&self, flow: &Fields, found: &mut Vec<u32>) {
        found.clear();
        let word = |bits: u128, at: usize| (bits >> (96 - 32 * at)) as u32;
        let value = u32::from(flow.protocol.0) << 24
            | u32::from(flow.locality.source) << 23
            | u32::from(flow.locality.destination) << 22
            | flow.zone.id();
        let (source, destination) = (word(flow.source, 0), word(flow.destination, 0));
        for (index, block) in self.blocks.iter().enumerate() {
            let mut fails = [0u32; LANES];
            for lane in 0..LANES {
                fails[lane] = (source ^ block.source[lane]) & block.source_mask[lane]
                    | (destination ^ block.destination[lane]) & block.destination_mask[lane]
                    | (value ^ block.value[lane]) & block.value_mask[lane];
            }
            for rest in &block.rest {
                for at in 0..3 {
                    let (source, destination) =
                        (word(flow.source, at + 1), word(flow.destination, at + 1));
                    for lane in 0..LANES {
                        fails[lane] |= (source ^ rest.source[at][lane])
                            & rest.source_mask[at][lane]
                            | (destination ^ rest.destination[at][lane])
                                & rest.destination_mask[at][lane];
                    }
                }
            }
            let mut ports = [0u16; LANES];
            for lane in 0..LANES {
                ports[lane] = block.dead[lane]
                    | flow
                        .source_port
                        .wrapping_sub(block.source_first[lane])
                        .saturating_sub(block.source_width[lane])
                    | flow
                        .destination_port
                        .wrapping_sub(block.destination_first[lane])
                        .saturating_sub(block.destination_width[lane]);
            }
            // One octet a lane, eight lanes a word: words without a match are passed at once.
            let mut hits = [0u8; LANES];
            for lane in 0..LANES {
                hits[lane] = u8::from((fails[lane] == 0) & (ports[lane] == 0));
            }
            for (at, octets) in hits.chunks_exact(8).enumerate() {
                let mut word = octets
                    .try_into()
                    .map_or(0, |octets: [u8; 8]| u64::from_le_bytes(octets));
                while word != 0 {
                    let lane = at * 8 + word.trailing_zeros() as usize / 8;
                    found.push((index * LANES + lane) as u32);
                    word &= word - 1;
                }
            }
        }
    }
}
