//! What a flow is called: fixed-width bit strings, the seven-tuple, prefixes and patterns.
//!
//! The lowest floor of the crate. Structures see a [`Key`] (bits); hooks see a [`FlowKey`] (fields); rules, interests
//! and regions are [`Pattern`]s over the fields.
//!
//! ```text
//!  SevenTuple<Ipv4Addr>, 128 bits
//!  0               32              64      80      96     104 106            128
//!  | source        | destination   | sport | dport | proto |LL| zone (22)     |
//!
//!  SevenTuple<Ipv6Addr>, 320 bits
//!  0              128             256     272     288     296 298            320
//!  | source        | destination   | sport | dport | proto |LL| zone (22)     |
//!
//!  LL: source is local, destination is local.   ICMP: sport = identifier, dport = type << 8 | code.
//! ```

mod cidr;
mod embedding;
mod field;
mod flow_key;
mod npt;
mod pattern;
pub mod portable;
mod protocol;
mod seven_tuple;
mod span;
mod tuple_text;

pub use cidr::{Cidr, ParseCidrError};
pub use embedding::{Embedding, ParseEmbeddingError, crossed, icmp_counterpart};
pub use field::{Field, tiles};
pub use flow_key::{Endpoint, Family, Fields, FlowKey, Locality, Zone};
pub use npt::PrefixTranslation;
pub use pattern::{Pattern, Ports};
pub use protocol::{Protocol, icmp_answer};
pub use seven_tuple::{Address, SevenTuple, Tuple};
pub use span::{Span, SpanOrder};
pub use tuple_text::ParseTupleError;

use core::fmt::Debug;
use core::hash::Hash;
use core::net::{Ipv4Addr, Ipv6Addr};

/// A fixed-width string of bits with named fields: what the [trie](crate::trie) stores.
///
/// Bit 0 is the most significant bit of the first word, as in a written address, so the order of keys is the order of
/// their bit strings and a prefix is a leading part.
///
/// # Laws
///
/// * `from_words(words(k)) == k`.
/// * `a < b` exactly when `words(a) < words(b)`, compared word by word.
/// * Bits from `BITS` on are zero.
/// * [`FIELDS`](Key::FIELDS) tile the `BITS` bits ([`tiles`]).
///
/// ```
/// use gufc::key::Key;
/// use core::net::Ipv4Addr;
///
/// let key = Ipv4Addr::new(192, 0, 2, 1);
/// assert_eq!(key.words(), [0xc000_0201_0000_0000]);
/// assert_eq!(key.bit(0), 1);
/// assert_eq!(key.bit(2), 0);
/// ```
pub trait Key: Copy + Eq + Ord + Hash + Debug + 'static {
    /// Bits in the key, at least 1.
    const BITS: u32;
    /// The fields in order, most significant first.
    const FIELDS: &'static [Field];
    /// The key as words, most significant first: `[u64; BITS.div_ceil(64)]`.
    type Words: Copy + Eq + Ord + Debug + AsRef<[u64]> + AsMut<[u64]> + Default;

    /// The words of the key. Cost: a copy.
    fn words(&self) -> Self::Words;

    /// The key with these words; bits from `BITS` on are ignored. Cost: a copy.
    fn from_words(words: Self::Words) -> Self;

    /// Bit `index`, counted from the most significant; 0 for an index past the end. Cost: one word.
    fn bit(&self, index: u32) -> u32 {
        let words = self.words();
        let word = words
            .as_ref()
            .get(index as usize / 64)
            .copied()
            .unwrap_or(0);
        (word >> (63 - index % 64)) as u32 & 1
    }
}

impl Key for Ipv4Addr {
    const BITS: u32 = 32;
    const FIELDS: &'static [Field] = &[Field {
        name: "address",
        offset: 0,
        width: 32,
    }];
    type Words = [u64; 1];

    fn words(&self) -> [u64; 1] {
        [u64::from(self.to_bits()) << 32]
    }

    fn from_words([word]: [u64; 1]) -> Self {
        Self::from_bits((word >> 32) as u32)
    }
}

impl Key for Ipv6Addr {
    const BITS: u32 = 128;
    const FIELDS: &'static [Field] = &[Field {
        name: "address",
        offset: 0,
        width: 128,
    }];
    type Words = [u64; 2];

    fn words(&self) -> [u64; 2] {
        let bits = self.to_bits();
        [(bits >> 64) as u64, bits as u64]
    }

    fn from_words([high, low]: [u64; 2]) -> Self {
        Self::from_bits(u128::from(high) << 64 | u128::from(low))
    }
}
