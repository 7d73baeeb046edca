//! A table of routes: the prefix index of each family, and targets as its numbers.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{GroupId, NextHopId, RouteError, Target};
use crate::key::{Cidr, Family};
use crate::trie::prefix::{Prefix, PrefixIndex, ReserveError};
use crate::verdict::Answer;

/// Routes of both families.
#[derive(Clone, Debug)]
pub(super) struct Table {
    v4: PrefixIndex<Ipv4Addr>,
    v6: PrefixIndex<Ipv6Addr>,
}

/// Next hops and groups that targets can name.
pub(super) const NUMBERS_MAX: u32 = 1 << 30;

const GROUP: u32 = 1 << 30;
const DENIAL: u32 = 2 << 30;

/// Denials by their numbers, from [`DENIAL`] on.
const DENIALS: [Target; 6] = [
    Target::Blackhole,
    Target::Unreachable(Answer::NoRoute),
    Target::Unreachable(Answer::HostUnreachable),
    Target::Unreachable(Answer::AdminProhibited),
    Target::Unreachable(Answer::PortUnreachable),
    Target::Unreachable(Answer::TcpReset),
];

/// A target as the number that the index holds; `None` for an answer that has none.
fn encode(target: Target) -> Option<u32> {
    match target {
        Target::Via(NextHopId(number)) => Some(number),
        Target::Group(GroupId(number)) => Some(GROUP | number),
        denial => {
            let at = DENIALS.iter().position(|other| *other == denial)?;
            Some(DENIAL | at as u32)
        }
    }
}

fn decode(number: u32) -> Target {
    let low = number & (GROUP - 1);
    match number >> 30 {
        0 => Target::Via(NextHopId(low)),
        1 => Target::Group(GroupId(low)),
        _ => DENIALS
            .get(low as usize)
            .copied()
            .unwrap_or(Target::Blackhole),
    }
}

impl Table {
    pub(super) fn try_new(v4: usize, v6: usize) -> Result<Self, ReserveError> {
        Ok(Self {
            v4: PrefixIndex::try_new(v4)?,
            v6: PrefixIndex::try_new(v6)?,
        })
    }

    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Adds or replaces; gives what was there.
    pub(super) fn insert(
        &mut self,
        prefix: Cidr,
        target: Target,
    ) -> Result<Option<Target>, RouteError> {
        let number = encode(target).ok_or(RouteError::NoSuchAnswer)?;
        let old = match split(prefix) {
            Either::V4(prefix) => self.v4.insert(prefix, number),
            Either::V6(prefix) => self.v6.insert(prefix, number),
        };
        Ok(old.map_err(|_| RouteError::Full)?.map(decode))
    }

    pub(super) fn remove(&mut self, prefix: Cidr) -> Option<Target> {
        let old = match split(prefix) {
            Either::V4(prefix) => self.v4.remove(prefix),
            Either::V6(prefix) => self.v6.remove(prefix),
        };
        old.map(decode)
    }

    pub(super) fn get(&self, prefix: Cidr) -> Option<Target> {
        let number = match split(prefix) {
            Either::V4(prefix) => self.v4.get(prefix),
            Either::V6(prefix) => self.v6.get(prefix),
        };
        number.map(decode)
    }

    pub(super) fn longest(&self, address: IpAddr) -> Option<(Cidr, Target)> {
        match address {
            IpAddr::V4(address) => {
                let (prefix, number) = self.v4.longest(address)?;
                Some((prefix.into(), decode(number)))
            }
            IpAddr::V6(address) => {
                let (prefix, number) = self.v6.longest(address)?;
                Some((prefix.into(), decode(number)))
            }
        }
    }

    /// The widest prefix around an address whose every address takes the same route, or none. Cost: O(bits) walks of the trie.
    pub(super) fn alike(&self, family: Family, bits: u128) -> Cidr {
        let host = Cidr::from_bits(family, bits, family.bits());
        let own = self.longest(host.address()).map(|(prefix, _)| prefix);
        let shortest = own.map_or(0, |own| own.len());
        let around = |len| Cidr::from_bits(family, bits, len);
        let mut prefixes = (shortest..=family.bits()).map(around);
        let free = prefixes.find(|prefix| match split(*prefix) {
            Either::V4(within) => {
                let inside = self.v4.within(within).map(|(prefix, _)| prefix.into());
                is_alone(inside, own)
            }
            Either::V6(within) => {
                let inside = self.v6.within(within).map(|(prefix, _)| prefix.into());
                is_alone(inside, own)
            }
        });
        free.unwrap_or(host)
    }

    /// All routes in the order of their prefixes, IPv4 first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Cidr, Target)> {
        let v4 = self
            .v4
            .iter()
            .map(|(prefix, number)| (prefix.into(), decode(number)));
        let v6 = self
            .v6
            .iter()
            .map(|(prefix, number)| (prefix.into(), decode(number)));
        v4.chain(v6)
    }

    pub(super) fn bytes(&self) -> usize {
        self.v4.stats().bytes_touched + self.v6.stats().bytes_touched
    }
}

/// Whether there is no prefix but one's own. Cost: two steps.
fn is_alone(mut inside: impl Iterator<Item = Cidr>, own: Option<Cidr>) -> bool {
    inside.all(|prefix| Some(prefix) == own)
}

enum Either {
    V4(Prefix<Ipv4Addr>),
    V6(Prefix<Ipv6Addr>),
}

fn split(prefix: Cidr) -> Either {
    let len = prefix.len();
    match (prefix.family(), prefix.address()) {
        (Family::V4, IpAddr::V4(address)) => {
            Prefix::new(address, len).map_or(Either::V4(Prefix::host(address)), Either::V4)
        }
        (_, IpAddr::V6(address)) => {
            Prefix::new(address, len).map_or(Either::V6(Prefix::host(address)), Either::V6)
        }
        (_, IpAddr::V4(address)) => Either::V4(Prefix::host(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_round_trip() {
        let most = NUMBERS_MAX - 1;
        let some = [
            Target::Via(NextHopId(most)),
            Target::Group(GroupId(most)),
            Target::Via(NextHopId(0)),
        ];
        for target in some.into_iter().chain(DENIALS) {
            assert_eq!(encode(target).map(decode), Some(target));
        }
        for (answer, _) in Answer::NAMES {
            assert!(encode(Target::Unreachable(answer)).is_some(), "{answer}");
        }
    }
}
