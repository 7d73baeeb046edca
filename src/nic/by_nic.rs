//! A key whose index takes the NIC's hash for its header.

use core::fmt;

use super::rss::RssHeader;
use crate::key::{Address, Endpoint, Field, Fields, FlowKey, Key, SevenTuple};
use crate::trie::{Indexed, LcIndex};

/// A seven-tuple that is indexed by the NIC's hash: a cache over it computes no hash for a packet that
/// [brings one](crate::packet::Packet::hash), as long as it is found.
///
/// The NIC's key has to be [`RssKey::from_seed`](super::RssKey::from_seed) of the cache's seed. What that means when the key is
/// known or guessed: see [`RssHeader`]. A packet whose hash is wrong is found all the same, by hashing its key.
///
/// ```
/// use gufc::cache::{Config, FlowCache};
/// use gufc::hooks::filter::{Filter, Policy};
/// use gufc::nic::ByNic;
/// use core::net::Ipv4Addr;
///
/// let filter = Filter::new("filter", 10, 1, Policy::Accept);
/// let cache: FlowCache<ByNic<Ipv4Addr>, (Filter,)> = FlowCache::new(Config::new([1, 2]), (filter,))?;
/// # assert!(cache.is_empty());
/// # Ok::<(), gufc::cache::ConfigError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByNic<A: Address>(pub SevenTuple<A>);

impl<A: Address> Key for ByNic<A> {
    const BITS: u32 = SevenTuple::<A>::BITS;
    const FIELDS: &'static [Field] = SevenTuple::<A>::FIELDS;
    type Words = <SevenTuple<A> as Key>::Words;

    fn words(&self) -> Self::Words {
        self.0.words()
    }

    fn from_words(words: Self::Words) -> Self {
        Self(SevenTuple::from_words(words))
    }
}

impl<A: Address> FlowKey for ByNic<A> {
    fn fields(&self) -> Fields {
        self.0.fields()
    }

    fn inverse(&self) -> Option<Self> {
        self.0.inverse().map(Self)
    }

    fn with(&self, source: Endpoint, destination: Endpoint) -> Option<Self> {
        self.0.with(source, destination).map(Self)
    }
}

impl<A: Address> Indexed for ByNic<A> {
    type Index = LcIndex<Self, RssHeader>;
}

impl<A: Address> fmt::Debug for ByNic<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
