//! The choice of a tuple: what a connection becomes on the wire, so that no two look the same there.
//!
//! Apart because it is the algorithm of Linux 6.18, step by step, and reads nothing but the tracker and a [`Range`].
//!
//! ```text
//!  1  source end, not random: the tuple is in the range already and free      ─► it stays
//!                             another connection of the same client end       ─► the same outside end, if free
//!  2  address: the only one, or one by a hash of the ends
//!  3  not random: the port is in the range, or no range is given, and free    ─► it stays
//!  4  probe from a drawn start: 128 places, then 64, 32, 16, 8 from new ones  ─► the first that is free
//! ```

use core::net::IpAddr;

use super::action::{End, Range};
use super::dice::Dice;
use super::homing::{Homed, Homing};
use super::side::Sides;
use crate::hook::Direction;
use crate::hooks::conntrack::{ConnId, Conntrack, Status, TcpPhase, Trackable};
use crate::key::{Endpoint, Family, FlowKey, Ports, Protocol};
use crate::time::Instant;

/// Places probed in the first round.
const PROBES: u32 = 128;
/// Rounds with fewer places are not begun.
const PROBES_MIN: u32 = 16;
/// From so many places before the end of a round on, a connection that is over may be put out.
const INSIST: u32 = 32;

/// A choice that is made for the selection rather than drawn, in a test that follows a recording.
#[derive(Clone, Copy, Debug, Default)]
#[doc(hidden)]
pub struct Foretold {
    /// The source port or ICMP identifier.
    pub port: Option<u16>,
    /// The address of the source.
    pub source: Option<IpAddr>,
    /// The address of the destination.
    pub destination: Option<IpAddr>,
}

/// What a choice came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selected<K> {
    pub(super) tuple: K,
    /// Places that were looked at.
    pub(super) probes: u32,
}

/// Everything that a choice reads.
pub(super) struct Selection<'a, K: Trackable> {
    pub(super) tracker: &'a mut Conntrack<K>,
    pub(super) sides: &'a Sides<K>,
    pub(super) dice: &'a mut Dice,
    pub(super) foretold: Foretold,
    pub(super) id: ConnId,
    pub(super) now: Instant,
}

impl<K: Trackable> Selection<'_, K> {
    /// The tuple that `current` becomes. Cost: at most 250 look-ups.
    pub(super) fn select(&mut self, current: &K, range: &Range, end: End) -> Selected<K> {
        let found = |tuple, probes| Selected { tuple, probes };
        if end == End::Source && !range.random {
            if in_range(current, range) {
                if !self.is_taken(current) {
                    return found(*current, 1);
                }
            } else if let Some(tuple) = self.same_client(current, range) {
                if !self.is_taken(&tuple) {
                    return found(tuple, 1);
                }
            }
        }
        let tuple = self.choose_address(current, range, end);
        if !range.random {
            let stays = match range.ports {
                Some(ports) => {
                    range.base.is_none()
                        && port_in(&tuple, end, ports)
                        && (ports.first == ports.last || !self.is_taken(&tuple))
                }
                None => !self.is_taken(&tuple),
            };
            if stays {
                return found(tuple, 2);
            }
        }
        self.choose_port(&tuple, range, end)
    }

    /// The tuple that `current` becomes, its source port chosen by where answers arrive.
    pub(super) fn select_home(
        &self,
        current: &K,
        range: &Range,
        turn: u32,
        homing: &mut dyn Homing,
    ) -> (Homed, Selected<K>) {
        let tuple = self.choose_address(current, range, End::Source);
        let ports = range.ports.unwrap_or(Ports::ALL);
        let with = |port| put_port(&tuple, End::Source, port);
        let mut probes = 0;
        let homed = match tuple.inverse() {
            Some(reply) => homing.choose(&reply.fields(), turn, &mut |port| {
                probes += 1;
                (ports.first..=ports.last).contains(&port) && !self.is_taken(&with(port))
            }),
            None => Homed::Full,
        };
        let tuple = match homed {
            Homed::Home(port) | Homed::Away(port) => with(port),
            Homed::Full => *current,
        };
        (homed, Selected { tuple, probes })
    }

    /// Whether answers to this tuple would be another connection's.
    fn is_taken(&self, tuple: &K) -> bool {
        tuple
            .inverse()
            .is_none_or(|reply| self.tracker.is_taken(&reply, self.id, self.now))
    }

    /// As what another connection of the same client end is seen outside, if that is in the range.
    fn same_client(&self, current: &K, range: &Range) -> Option<K> {
        self.sides.of_client(current).find_map(|id| {
            let other = self.tracker.connection(id)?;
            let outside = other.tuple(Direction::Reply).inverse()?.source();
            let tuple = current.with(outside, current.destination())?;
            in_range(&tuple, range).then_some(tuple)
        })
    }

    fn choose_address(&self, current: &K, range: &Range, end: End) -> K {
        let Some((first, last)) = range.addresses else {
            return *current;
        };
        let foretold = match end {
            End::Source => self.foretold.source,
            End::Destination => self.foretold.destination,
        };
        let address = if first == last {
            first
        } else {
            foretold
                .filter(|address| range.has_address(*address))
                .unwrap_or_else(|| self.one_of(current, first, last, range.persistent))
        };
        put_address(current, end, address)
    }

    /// One address of several: the same for the same ends, or for the same client.
    fn one_of(&self, current: &K, first: IpAddr, last: IpAddr, persistent: bool) -> IpAddr {
        let fields = current.fields();
        let words = |bits: u128| [(bits >> 64) as u64, bits as u64];
        let [s0, s1] = words(fields.source);
        let [d0, d1] = if persistent {
            [0, 0]
        } else {
            words(fields.destination)
        };
        let hash = self
            .dice
            .hash(&[s0, s1, d0, d1, u64::from(fields.zone.id())]);
        let (family, low) = Family::align(first);
        let high = Family::align(last).1;
        let shift = u32::from(128 - family.bits());
        let distance = high.saturating_sub(low) >> shift;
        let offset = match distance.checked_add(1) {
            // The scaled hash for ranges up to 2^64, the rest of the 128 bits by a second hash.
            Some(count) if count <= 1 << 64 => (u128::from(hash) * count) >> 64,
            count => {
                let wide = u128::from(hash) << 64 | u128::from(self.dice.hash(&[hash]));
                count.map_or(wide, |count| wide % count)
            }
        };
        family.address(low + (offset << shift))
    }

    fn choose_port(&mut self, tuple: &K, range: &Range, end: End) -> Selected<K> {
        let protocol = tuple.protocol();
        let stuck = Selected {
            tuple: *tuple,
            probes: 0,
        };
        let old = port_of(tuple, end);
        let ports = match range.ports {
            Some(ports) => ports,
            None if protocol.is_icmp() => Ports::ALL,
            None if end == End::Destination => return stuck,
            None => class_of(old),
        };
        if !protocol.has_ports() && !protocol.is_icmp() {
            return stuck;
        }
        let size = u32::from(ports.last) - u32::from(ports.first) + 1;
        let mut offset = if let Some(base) = range.base {
            u32::from(old.wrapping_sub(base))
        } else if range.random || end == End::Source {
            match self.foretold.port {
                Some(port) => u32::from(port.wrapping_sub(ports.first)),
                None => self.dice.draw() as u16 as u32,
            }
        } else {
            0
        };
        let mut attempts = size.min(PROBES);
        let mut probes = 0;
        let mut tuple = *tuple;
        loop {
            for left in (1..=attempts).rev() {
                let port = u32::from(ports.first) + offset % size;
                tuple = put_port(&tuple, end, port as u16);
                probes += 1;
                if !self.is_taken_still(&tuple, left) {
                    return Selected { tuple, probes };
                }
                offset = offset.wrapping_add(1);
            }
            if attempts >= size || attempts < PROBES_MIN {
                return Selected { tuple, probes };
            }
            attempts /= 2;
            offset = self.dice.draw() as u16 as u32;
        }
    }

    /// [`is_taken`](Self::is_taken), except that near the end of a round a TCP connection that is over is put out for a new
    /// one whose sequence numbers are ahead of it.
    fn is_taken_still(&mut self, tuple: &K, left: u32) -> bool {
        if !self.is_taken(tuple) {
            return false;
        }
        if left > INSIST || tuple.protocol() != Protocol::TCP {
            return true;
        }
        match self.over(tuple) {
            Some(old) => !self.tracker.delete(old),
            None => true,
        }
    }

    /// The connection that has this tuple, if it may be put out for ours.
    fn over(&self, tuple: &K) -> Option<ConnId> {
        let own = self.tracker.connection(self.id)?;
        if own.tcp_phase() != Some(TcpPhase::SynSent) {
            return None;
        }
        let (id, direction) = self.tracker.find(&tuple.inverse()?, self.now)?;
        let old = self.tracker.connection(id)?;
        let ended = matches!(
            old.tcp_phase(),
            Some(TcpPhase::TimeWait | TcpPhase::Close | TcpPhase::SynSent2)
        );
        let refuses = Status::FIXED_TIMEOUT.union(Status::DYING);
        let (own_end, old_end) = (
            own.tcp_side(Direction::Original)?.end,
            old.tcp_side(Direction::Original)?.end,
        );
        let ahead = (own_end.wrapping_sub(old_end) as i32) > 0;
        (direction == Direction::Reply
            && ended
            && ahead
            && old.status().contains(Status::SRC_NAT)
            && !old.status().intersects(refuses))
        .then_some(id)
    }
}

/// The class of ports that a port is kept in.
const fn class_of(port: u16) -> Ports {
    let (first, last) = match port {
        0..512 => (1, 511),
        512..1024 => (600, 1023),
        _ => (1024, 65_535),
    };
    Ports { first, last }
}

/// Whether the source is what the range asks for.
fn in_range<K: FlowKey>(tuple: &K, range: &Range) -> bool {
    range.has_address(tuple.source().address)
        && range
            .ports
            .is_none_or(|ports| port_in(tuple, End::Source, ports))
}

/// Whether the port of an end, or the ICMP identifier, is one of these; true where there is none.
fn port_in<K: FlowKey>(tuple: &K, end: End, ports: Ports) -> bool {
    let protocol = tuple.protocol();
    !(protocol.has_ports() || protocol.is_icmp())
        || (ports.first..=ports.last).contains(&port_of(tuple, end))
}

/// The port of an end. An ICMP identifier stands on the source's side, whichever end is changed.
fn port_of<K: FlowKey>(tuple: &K, end: End) -> u16 {
    match end {
        End::Destination if !tuple.protocol().is_icmp() => tuple.destination().port,
        _ => tuple.source().port,
    }
}

fn put_port<K: FlowKey>(tuple: &K, end: End, port: u16) -> K {
    let (mut source, mut destination) = (tuple.source(), tuple.destination());
    match end {
        End::Destination if !tuple.protocol().is_icmp() => destination.port = port,
        _ => source.port = port,
    }
    tuple.with(source, destination).unwrap_or(*tuple)
}

pub(super) fn put_address<K: FlowKey>(tuple: &K, end: End, address: IpAddr) -> K {
    let (mut source, mut destination) = (tuple.source(), tuple.destination());
    match end {
        End::Source => source.address = address,
        End::Destination => destination.address = address,
    }
    tuple.with(source, destination).unwrap_or(*tuple)
}

/// `from` with one end of `target`: the address, and with `ports` the port or ICMP identifier too.
pub(super) fn moved<K: FlowKey>(from: &K, end: End, target: &K, ports: bool) -> K {
    let protocol = from.protocol();
    let (mut source, mut destination) = (from.source(), from.destination());
    let (new_source, new_destination): (Endpoint, Endpoint) =
        (target.source(), target.destination());
    match end {
        End::Source => source.address = new_source.address,
        End::Destination => destination.address = new_destination.address,
    }
    if ports && protocol.is_icmp() {
        source.port = new_source.port;
    } else if ports && protocol.has_ports() {
        match end {
            End::Source => source.port = new_source.port,
            End::Destination => destination.port = new_destination.port,
        }
    }
    from.with(source, destination).unwrap_or(*from)
}
