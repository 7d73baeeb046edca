//! What a NIC may carry for us: an opaque name of a cached entry, or of the part of the index that it is in.

use core::fmt;

/// Names one direction of one cached session: a slot and the generation of its tenant.
///
/// A NIC, a socket or a peer queue keeps it and gives it back with a packet; the cache then skips the lookup. It is a hint:
/// slot, generation and key are verified on use, and a stale, forged or recycled cookie falls back to the lookup.
///
/// ```
/// use gufc::cookie::FlowCookie;
///
/// let cookie = FlowCookie { slot: 7, generation: 3 };
/// assert_eq!(FlowCookie::from_bits(cookie.to_bits()), cookie);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowCookie {
    /// Slot index times two, plus the direction (0 original, 1 reply).
    pub slot: u32,
    /// Generation of the slot's tenant, compared for equality only.
    pub generation: u32,
}

impl FlowCookie {
    /// The slot number of cookies that name no entry but a subtree; beyond every slot that a cache can have.
    const SUBTREE: u32 = u32::MAX;

    /// The cookie of a part of the index's header space ([`Subtree`](crate::trie::Subtree), as its bits): where the lookup may
    /// begin without hashing. It never goes stale, and a wrong one costs a second lookup.
    pub const fn of_subtree(bits: u32) -> Self {
        Self {
            slot: Self::SUBTREE,
            generation: bits,
        }
    }

    /// The subtree that it names, if that is what it names.
    pub const fn subtree(self) -> Option<u32> {
        if self.slot == Self::SUBTREE {
            Some(self.generation)
        } else {
            None
        }
    }

    /// The cookie as one number: generation in the high half.
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.slot as u64
    }

    /// The reverse of [`to_bits`](Self::to_bits); every number is a cookie, if perhaps one that names nothing.
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            slot: bits as u32,
            generation: (bits >> 32) as u32,
        }
    }
}

impl fmt::Display for FlowCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}
