//! Both families in one: prefixes as [`Cidr`], addresses as [`IpAddr`].

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::map::{Handle, PrefixTrie};
use super::prefix_type::Prefix;
use super::{Full, ReserveError};
use crate::key::{Cidr, Family};

/// Prefixes of both families, each with a value. Each family has a [`PrefixTrie`] of its own.
///
/// ```
/// use gufc::trie::prefix::PrefixMap;
///
/// let mut map = PrefixMap::try_new(1_000, 1_000)?;
/// map.insert("10.0.0.0/8".parse()?, 'a')?;
/// map.insert("2001:db8::/32".parse()?, 'b')?;
/// let (prefix, value) = map.longest("2001:db8::1".parse()?).unwrap();
/// assert_eq!((prefix.to_string().as_str(), *value), ("2001:db8::/32", 'b'));
/// assert_eq!(map.within("0.0.0.0/0".parse()?).count(), 1);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PrefixMap<V> {
    /// IPv4.
    pub v4: PrefixTrie<Ipv4Addr, V>,
    /// IPv6.
    pub v6: PrefixTrie<Ipv6Addr, V>,
}

/// A handle of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DualHandle {
    family: Family,
    handle: Handle,
}

impl<V> PrefixMap<V> {
    /// A map for so many prefixes of IPv4 and of IPv6.
    ///
    /// # Errors
    ///
    /// As [`PrefixTrie::try_new`].
    pub fn try_new(capacity_v4: usize, capacity_v6: usize) -> Result<Self, ReserveError> {
        Ok(Self {
            v4: PrefixTrie::try_new(capacity_v4)?,
            v6: PrefixTrie::try_new(capacity_v6)?,
        })
    }

    /// How many prefixes there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`PrefixTrie::insert`].
    ///
    /// # Errors
    ///
    /// [`Full`], when the family's part is.
    pub fn insert(&mut self, prefix: Cidr, value: V) -> Result<Option<V>, Full> {
        match split(prefix) {
            Either::V4(prefix) => self.v4.insert(prefix, value),
            Either::V6(prefix) => self.v6.insert(prefix, value),
        }
    }

    /// As [`PrefixTrie::remove`].
    pub fn remove(&mut self, prefix: Cidr) -> Option<V> {
        match split(prefix) {
            Either::V4(prefix) => self.v4.remove(prefix),
            Either::V6(prefix) => self.v6.remove(prefix),
        }
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
    }

    /// As [`PrefixTrie::get`].
    pub fn get(&self, prefix: Cidr) -> Option<&V> {
        match split(prefix) {
            Either::V4(prefix) => self.v4.get(prefix),
            Either::V6(prefix) => self.v6.get(prefix),
        }
    }

    /// As [`PrefixTrie::get_mut`].
    pub fn get_mut(&mut self, prefix: Cidr) -> Option<&mut V> {
        match split(prefix) {
            Either::V4(prefix) => self.v4.get_mut(prefix),
            Either::V6(prefix) => self.v6.get_mut(prefix),
        }
    }

    /// As [`PrefixTrie::longest`].
    #[inline]
    pub fn longest(&self, address: IpAddr) -> Option<(Cidr, &V)> {
        match address {
            IpAddr::V4(address) => self.v4.longest(address).map(to_cidr),
            IpAddr::V6(address) => self.v6.longest(address).map(to_cidr),
        }
    }

    /// As [`PrefixTrie::covering`]: the shortest first, from the back the longest first.
    pub fn covering(&self, prefix: Cidr) -> impl DoubleEndedIterator<Item = (Cidr, &V)> {
        let (v4, v6) = match split(prefix) {
            Either::V4(prefix) => (Some(self.v4.covering(prefix)), None),
            Either::V6(prefix) => (None, Some(self.v6.covering(prefix))),
        };
        let v4 = v4.into_iter().flatten().map(to_cidr);
        v4.chain(v6.into_iter().flatten().map(to_cidr))
    }

    /// As [`PrefixTrie::within`].
    pub fn within(&self, prefix: Cidr) -> impl Iterator<Item = (Cidr, &V)> {
        let (v4, v6) = match split(prefix) {
            Either::V4(prefix) => (Some(self.v4.within(prefix)), None),
            Either::V6(prefix) => (None, Some(self.v6.within(prefix))),
        };
        let v4 = v4.into_iter().flatten().map(to_cidr);
        v4.chain(v6.into_iter().flatten().map(to_cidr))
    }

    /// All prefixes in order, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = (Cidr, &V)> {
        let v4 = self.v4.iter().map(to_cidr);
        v4.chain(self.v6.iter().map(to_cidr))
    }

    /// As [`PrefixTrie::handle`].
    pub fn handle(&self, prefix: Cidr) -> Option<DualHandle> {
        let handle = match split(prefix) {
            Either::V4(prefix) => self.v4.handle(prefix)?,
            Either::V6(prefix) => self.v6.handle(prefix)?,
        };
        Some(DualHandle {
            family: prefix.family(),
            handle,
        })
    }

    /// As [`PrefixTrie::get_by`].
    pub fn get_by(&self, handle: DualHandle) -> Option<(Cidr, &V)> {
        match handle.family {
            Family::V4 => self.v4.get_by(handle.handle).map(to_cidr),
            Family::V6 => self.v6.get_by(handle.handle).map(to_cidr),
        }
    }
}

enum Either {
    V4(Prefix<Ipv4Addr>),
    V6(Prefix<Ipv6Addr>),
}

fn split(prefix: Cidr) -> Either {
    let len = u32::from(prefix.len());
    match prefix.family() {
        Family::V4 => Either::V4(Prefix::of((prefix.bits() >> 64) as u64, len)),
        Family::V6 => Either::V6(Prefix::of(prefix.bits(), len)),
    }
}

fn to_cidr<K, T>((prefix, value): (Prefix<K>, T)) -> (Cidr, T)
where
    Cidr: From<Prefix<K>>,
{
    (prefix.into(), value)
}

impl From<Prefix<Ipv4Addr>> for Cidr {
    fn from(prefix: Prefix<Ipv4Addr>) -> Self {
        let bits = u128::from(prefix.bits()) << 64;
        Self::from_bits(Family::V4, bits, prefix.len)
    }
}

impl From<Prefix<Ipv6Addr>> for Cidr {
    fn from(prefix: Prefix<Ipv6Addr>) -> Self {
        Self::from_bits(Family::V6, prefix.bits(), prefix.len)
    }
}
