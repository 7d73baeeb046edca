//! The proof kit's only source of chance: SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), one word of state.

/// A generator, reproducible from its seed.
#[derive(Clone, Debug)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next 64 bits.
    #[expect(
        clippy::should_implement_trait,
        reason = "an endless sequence that is not an iterator"
    )]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound.max(1))) >> 64) as u64
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> alloc::vec::Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}
