//! Numbers that nobody can guess who does not know the seed: SipHash-2-4 (Aumasson and Bernstein, 2012) of a counter.
//!
//! Apart because ports that can be guessed can be attacked (RFC 6056), while a run must be repeatable from its seed.

/// A source of numbers, and a keyed hash.
#[derive(Clone, Debug)]
pub(super) struct Dice {
    seed: [u64; 2],
    drawn: u64,
}

impl Dice {
    pub(super) const fn new(seed: [u64; 2]) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The next number. Cost: O(1).
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        self.hash(&[self.drawn])
    }

    /// The hash of some words; the empty last block says how many.
    pub(super) fn hash(&self, words: &[u64]) -> u64 {
        let [k0, k1] = self.seed;
        let mut state = [
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ];
        let length = (words.len() as u64 * 8) << 56;
        for word in words.iter().copied().chain([length]) {
            state[3] ^= word;
            round(&mut state);
            round(&mut state);
            state[0] ^= word;
        }
        state[2] ^= 0xff;
        for _ in 0..4 {
            round(&mut state);
        }
        let [a, b, c, d] = state;
        a ^ b ^ c ^ d
    }
}

fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_vector() {
        // Key 00..0f, message 00..07: the ninth vector of the authors' reference list.
        let dice = Dice::new([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        assert_eq!(dice.hash(&[0x0706_0504_0302_0100]), 0x93f5_f579_9a93_2462);
    }
}
