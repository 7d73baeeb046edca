//! A prefix of a key: the bits that its name begins with, and how many.

use core::fmt;

use super::bits::{Bits, Width};
use crate::key::Key;

/// A prefix of a [`Key`]: its first `len` bits. The others are zero.
///
/// Ordered as bit strings are: by bits, then the shorter first, so that a prefix stands before all that it covers.
///
/// ```
/// use gufc::trie::prefix::Prefix;
/// use core::net::Ipv4Addr;
///
/// let net = Prefix::new(Ipv4Addr::new(10, 1, 2, 3), 8).unwrap();
/// assert_eq!(net.to_string(), "10.0.0.0/8");
/// assert!(net.contains(Ipv4Addr::new(10, 9, 9, 9)));
/// assert!(Prefix::new(Ipv4Addr::UNSPECIFIED, 33).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix<K> {
    pub(super) first: K,
    pub(super) len: u8,
}

impl<K: Key> Prefix<K>
where
    K::Words: Width,
{
    /// The prefix of `len` bits that `key` has; `None` when `len` is above `K::BITS`.
    pub fn new(key: K, len: u8) -> Option<Self> {
        (u32::from(len) <= K::BITS).then(|| Self::of(bits(key), u32::from(len)))
    }

    /// The prefix that only `key` has.
    pub fn host(key: K) -> Self {
        Self {
            first: key,
            len: K::BITS as u8,
        }
    }

    /// The lowest key that has the prefix.
    pub fn first(&self) -> K {
        self.first
    }

    /// The highest key that has the prefix.
    pub fn last(&self) -> K {
        K::from_words(Width::words(self.bits().last(u32::from(self.len))))
    }

    /// Length in bits.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a prefix has a length and no contents"
    )]
    pub fn len(&self) -> u8 {
        self.len
    }

    /// Whether `key` begins with the prefix.
    pub fn contains(&self, key: K) -> bool {
        self.bits().common(bits(key)) >= u32::from(self.len)
    }

    /// Whether every key that has `other` has this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.len <= other.len && self.contains(other.first)
    }

    pub(super) fn of(bits: BitsOf<K>, len: u32) -> Self {
        Self {
            first: K::from_words(Width::words(bits.first(len))),
            len: len as u8,
        }
    }

    pub(super) fn bits(&self) -> BitsOf<K> {
        bits(self.first)
    }
}

impl<K: fmt::Display> fmt::Display for Prefix<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.len)
    }
}

pub(super) type BitsOf<K> = <<K as Key>::Words as Width>::Bits;

pub(super) fn bits<K: Key>(key: K) -> BitsOf<K>
where
    K::Words: Width,
{
    key.words().bits()
}
