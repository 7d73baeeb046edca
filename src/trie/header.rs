//! Headers: the 64 bits put in front of a key so that the trie's shape no longer depends on the keys.
//!
//! Apart from the trie because a user may bring a hash of their own: one that a NIC already computed, SipHash for a
//! hostile crowd, a constant to see what a flood does.
//!
//! ```text
//!  bit string that the trie stores
//!  0                            64                                  64 + K::BITS
//!  | header, first bit lowest   | the key, first bit highest        |
//!
//!  header   63      57 56                                           0
//!          | 7-bit tag | ..................................... walk <- |
//! ```

use core::fmt::Debug;

use crate::key::Key;

/// A keyed hash from keys to 64-bit headers.
///
/// The trie stays correct for any function, and its depth stays bounded by the key's length for any function; only its
/// shape is better the more evenly the headers fall. The lowest bits choose the slot, the highest seven tell the entries of
/// one slot apart, so both ends must be mixed well.
///
/// # Laws
///
/// * The header of a key never changes during the life of the value.
///
/// ```
/// use gufc::trie::{HeaderHash, LcIndex};
/// use gufc::key::Key;
/// use core::net::Ipv4Addr;
///
/// /// All keys collide: the trie must tell them apart by their own bits.
/// #[derive(Clone, Copy, Debug)]
/// struct Flood;
/// impl HeaderHash for Flood {
///     fn header<K: Key>(&self, _: &K) -> u64 {
///         7
///     }
/// }
///
/// let mut index = LcIndex::try_with_hash(Flood, 100)?;
/// for host in 0..100 {
///     index.insert(&Ipv4Addr::from_bits(host), host)?;
/// }
/// assert_eq!(index.find(&Ipv4Addr::from_bits(42)), Some(42));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub trait HeaderHash: Clone + Debug {
    /// The header of `key`. Cost: O(words of the key).
    fn header<K: Key>(&self, key: &K) -> u64;

    /// The header of all keys of which a NIC's hash is `hash`, where headers are made of such hashes; `None` where they are not.
    #[inline]
    fn header_of_nic(&self, hash: u32) -> Option<u64> {
        let _ = hash;
        None
    }
}

/// A header hash that can be made of a seed alone, as [`KeyIndex::with_seed`](super::KeyIndex::with_seed) does.
pub trait Seeded: HeaderHash {
    /// The hash under `seed`: equal seeds, equal headers.
    fn from_seed(seed: [u64; 2]) -> Self;
}

impl Seeded for Folded {
    fn from_seed(seed: [u64; 2]) -> Self {
        Self::new(seed)
    }
}

/// Sum of folded products under eight secrets, folded once more: the default.
///
/// Words are taken in pairs; each word is masked by a secret of its own, the pair multiplied to 128 bits and both halves
/// XORed. The sum over the pairs is multiplied again, so that the lowest and the highest bits both depend on every word.
/// One multiplication for an IPv4 tuple's pair, three for an IPv6 tuple's five words, one to finish.
///
/// Fast and keyed, not cryptographic: whoever can both choose packets and time single lookups may learn about the secrets
/// in the end. The cost of that is depth along the key's own bits, never a chain; bring SipHash as a [`HeaderHash`] where
/// even that is too much.
#[derive(Clone, Debug)]
pub struct Folded {
    secrets: [u64; SECRETS],
    finish: u64,
}

const SECRETS: usize = 8;

impl Folded {
    /// The hash under `seed`; take it from the machine's random source, once, at start.
    ///
    /// Equal seeds give equal headers, and so equal tries: that is what makes runs repeatable.
    pub fn new(seed: [u64; 2]) -> Self {
        let mut state = Stream(seed);
        let mut secrets = [0; SECRETS];
        for secret in &mut secrets {
            *secret = state.draw();
        }
        Self {
            secrets,
            finish: state.draw(),
        }
    }
}

impl HeaderHash for Folded {
    #[inline]
    fn header<K: Key>(&self, key: &K) -> u64 {
        let words = key.words();
        let mut sum = 0u64;
        let mut at = 0;
        for pair in words.as_ref().chunks(2) {
            let high = pair.first().copied().unwrap_or(0);
            let low = pair.get(1).copied().unwrap_or(0);
            // Keys past eight words reuse the secrets, turned by how often they were used.
            let (index, turn) = (at % SECRETS, (at / SECRETS) as u32);
            let masks = [
                self.secrets[index].rotate_left(turn),
                self.secrets[(index + 1) % SECRETS].rotate_left(turn),
            ];
            sum = sum.wrapping_add(fold(high ^ masks[0], low ^ masks[1]));
            at += 2;
        }
        fold(sum, self.finish)
    }
}

/// Both halves of the 128-bit product, XORed.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// SplitMix64 (Steele, Lea, Flood 2014) over two seeds: spreads few good bits over many secrets.
struct Stream([u64; 2]);

impl Stream {
    /// Never 0 in the low bit: an even factor would throw bits away.
    fn draw(&mut self) -> u64 {
        self.0[0] = self.0[0].wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0[1] = self.0[1].wrapping_add(0xd1b5_4a32_d192_ed03);
        (mix(self.0[0]) ^ mix(self.0[1]).rotate_left(32)) | 1
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    #[test]
    fn both_ends_of_the_header_are_even() {
        // Goal: sequential keys fall evenly over the low bits (slots) and the high bits (tags).
        // Method: chi-square over 64 buckets at either end, loose bound.
        let hash = Folded::new([1, 2]);
        for shift in [0, 58] {
            let mut counts = [0u32; 64];
            for n in 0..64_000u32 {
                let header = hash.header(&Ipv4Addr::from_bits(n));
                counts[(header >> shift & 63) as usize] += 1;
            }
            let chi: f64 = counts
                .iter()
                .map(|&c| (f64::from(c) - 1000.0).powi(2) / 1000.0)
                .sum();
            assert!(chi < 130.0, "shift {shift}: {chi}");
        }
    }

    #[test]
    fn seeds_matter_and_repeat() {
        let key = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(
            Folded::new([1, 2]).header(&key),
            Folded::new([1, 2]).header(&key)
        );
        assert_ne!(
            Folded::new([1, 2]).header(&key),
            Folded::new([2, 1]).header(&key)
        );
    }
}
