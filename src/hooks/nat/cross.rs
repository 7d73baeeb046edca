//! Stateful translation between IPv6 and IPv4 (NAT64, RFC 6146): connections whose two tuples are of different families.
//!
//! Apart from other translation because the packet's family changes, so that both ends are translated at once, and because what
//! the one family says the other may not be able to.
//!
//! ```text
//!  original   2001:db8::7 4000 > 64:ff9b::192.0.2.53 53     as it arrives, of IPv6
//!  reply      192.0.2.53 53 > 198.51.100.1 4000             as the answer arrives, of IPv4: its inverse is what goes out
//!
//!  binding (BIB)     a mapping of a pool that has a prefix: inside end of IPv6, outside end of IPv4
//!  session           the tracker's connection; it keeps the binding, the last one takes it along
//! ```
//!
//! | RFC 6146 | here |
//! |---|---|
//! | 3.1 binding tables | [`Mapping`](super::Mapping), made by the first packet from inside, or fixed ([`Nat::forward`]) |
//! | 3.5 filtering | the pool's [`Filtering`](super::Filtering): by endpoint, address, or not at all |
//! | 3.5.1, 3.5.3 UDP, ICMP queries | the tracker's lifetimes; [`Timeouts::RFC`](crate::hooks::conntrack::Timeouts::RFC) are those asked for |
//! | 3.5.2 TCP | the tracker's states, which check windows too; a SYN from outside that nobody waits for is dropped, not kept for six seconds |
//! | 3.5.4 addresses | the prefix of the pool (RFC 6052); what must not be reached by it is refused |
//! | 3.7 packets | [`Packet::translate`](crate::packet::Packet::translate) (RFC 7915), ICMP errors with what they quote |
//! | 3.8 hairpinning | TCP and UDP: the packet stays IPv6, between the two outside ends |
//! | FTP (RFC 6384) | the tracker's [helper](crate::hooks::conntrack::Helper), where its owner assigns it; data connections follow |
//! | 3.4 fragments | reassembled before ([`Reassembler`](crate::wire::Reassembler)), for the tracker takes no parts, and cut again behind ([`Cut`](crate::wire::Cut)) |
//!
//! Row by row: [the manual](crate::manual::nat).

use core::net::{IpAddr, Ipv4Addr};

use super::action::End;
use super::mapping::PoolId;
use super::pool::{Filtering, PoolError};
use super::rules::RuleId;
use super::{Nat, Refusal, Refused};
use crate::hook::Direction;
use crate::hooks::conntrack::{ConnId, Trackable};
use crate::key::{Embedding, Endpoint, Family, Locality, crossed};
use crate::packet::{Mtus, Packet, Rewrite, Translation, Untranslatable};
use crate::time::Instant;
use crate::verdict::{Answer, Verdict};

impl<K: Trackable> Nat<K> {
    /// Says how long packets may be on either side of a translation between the families. What is longer is refused, and its
    /// sender is to be told ([`Answer::TooBig`]). Packets from now on are held to it, cached flows' too.
    pub fn set_mtus(&mut self, mtus: Mtus) {
        self.mtus = mtus;
    }

    /// Whether packets of a connection change their family.
    pub(super) fn crosses(&self, id: ConnId) -> bool {
        self.tracker.connection(id).is_some_and(|connection| {
            let family = |direction| connection.tuple(direction).fields().family;
            family(Direction::Original) != family(Direction::Reply)
        })
    }

    /// The pool whose prefix translates a mapping's packets, if its ends are of different families.
    fn embedding_of(&self, number: u32) -> Option<Embedding> {
        self.mappings
            .pool(self.mappings.get(number)?.pool)?
            .config()
            .prefix64
    }

    /// Decides both ends of a pending connection from inside whose destination has an IPv4 address in it.
    pub(super) fn cross_out(
        &mut self,
        id: ConnId,
        pool: PoolId,
        rule: RuleId,
        now: Instant,
    ) -> Result<(), Refusal> {
        let connection = self.tracker.connection(id);
        let current = connection.and_then(|one| one.tuple(Direction::Reply).inverse());
        let own = self.mappings.pool(pool).map(|pool| pool.config());
        let (Some(current), Some(own)) = (current, own) else {
            return Ok(());
        };
        let filtering = own.filtering;
        let embedding = own.prefix64.ok_or(Refusal::Untranslatable)?;
        let IpAddr::V6(destination) = current.destination().address else {
            return Err(Refusal::Untranslatable);
        };
        // One that came from a translator must not go through it again (RFC 6146 section 3.5).
        if embedding.cross(current.source().address).is_some() {
            return Err(Refusal::Untranslatable);
        }
        let server = embedding.extract(destination);
        let server = server.filter(|server| is_reachable(*server, &embedding));
        let server = server.ok_or(Refusal::Untranslatable)?;
        let is_outside = own.addresses.contains(&IpAddr::V4(server));
        let tracker = &self.tracker;
        let is_of_use = |outside| {
            let answer = sent_as(&current, outside, server).and_then(|tuple| tuple.inverse());
            answer.is_some_and(|answer| !tracker.is_taken(&answer, id, now))
        };
        let number = match self.mappings.of_inside(pool, &current, now, is_of_use) {
            Ok(number) => number,
            Err(PoolError::Protocol) => return Err(Refusal::Untranslatable),
            Err(_) => return Err(Refusal::Unlent),
        };
        let target = self.target_out(number, &current, server, &embedding, is_outside);
        let answer = target.and_then(|(target, turned)| {
            let answer = target.inverse().ok_or(Refusal::Untranslatable)?;
            if self.tracker.is_taken(&answer, id, now) {
                return Err(Refusal::Exhausted);
            }
            Ok((answer, turned))
        });
        let (answer, turned) = match answer {
            Ok(found) => found,
            Err(refusal) => {
                self.mappings.end_if_unused(number, now);
                return Err(refusal);
            }
        };
        let peer = (filtering == Filtering::AddressDependent).then_some(IpAddr::V4(server));
        self.bind(id, &current, answer, [Some(number), turned], peer, now);
        if let Some(side) = self.sides.side_mut(id) {
            side.rules = [None, Some(rule)];
        }
        Ok(())
    }

    /// What a packet from inside becomes, and the mapping that it is turned back to.
    fn target_out(
        &self,
        number: u32,
        current: &K,
        server: Ipv4Addr,
        embedding: &Embedding,
        is_outside: bool,
    ) -> Result<(K, Option<u32>), Refusal> {
        let outside = self.mappings.get(number).map(|mapping| mapping.outside);
        let outside = outside.ok_or(Refusal::Unlent)?;
        let tuple = sent_as(current, outside, server).ok_or(Refusal::Untranslatable)?;
        if !is_outside {
            return Ok((tuple, None));
        }
        // To an outside end of the pool: turned back without ever being IPv4 on a wire.
        let turned = self.mappings.of_outside(&tuple).ok_or(Refusal::Filtered)?;
        if !self.mappings.lets_in(turned, outside.address) {
            return Err(Refusal::Filtered);
        }
        let (IpAddr::V4(address), Some(other)) = (outside.address, self.mappings.get(turned))
        else {
            return Err(Refusal::Untranslatable);
        };
        let source = Endpoint::new(embedding.embed(address).into(), outside.port);
        let target = current.with(source, other.inside.source());
        Ok((target.ok_or(Refusal::Untranslatable)?, Some(turned)))
    }

    /// Decides both ends of a pending connection from outside to a mapping whose inside end is of IPv6; false where it is not.
    pub(super) fn cross_in(
        &mut self,
        id: ConnId,
        number: u32,
        now: Instant,
    ) -> Result<bool, Refusal> {
        let connection = self.tracker.connection(id);
        let current = connection.and_then(|one| one.tuple(Direction::Reply).inverse());
        let inside = self.mappings.get(number).map(|one| one.inside.source());
        let (Some(current), Some(inside)) = (current, inside) else {
            return Ok(false);
        };
        let IpAddr::V4(client) = current.source().address else {
            return Ok(false);
        };
        if inside.address.is_ipv4() {
            return Ok(false);
        }
        let embedding = self.embedding_of(number).ok_or(Refusal::Untranslatable)?;
        if !is_reachable(client, &embedding) {
            return Err(Refusal::Untranslatable);
        }
        let client = embedding.embed(client).into();
        let target = crossed(&current, client, inside.address)
            .and_then(|tuple| tuple.with(tuple.source(), inside));
        let answer = target.and_then(|target| target.inverse());
        let answer = answer.ok_or(Refusal::Untranslatable)?;
        if self.tracker.is_taken(&answer, id, now) {
            return Err(Refusal::Exhausted);
        }
        self.bind(id, &current, answer, [None, Some(number)], None, now);
        Ok(true)
    }

    /// Decides both ends of a pending connection that one between the families has announced, as for that one; `None` where
    /// none has.
    pub(super) fn follow_across(
        &mut self,
        id: ConnId,
        now: Instant,
    ) -> Option<Result<(), Refused>> {
        let child = self.tracker.connection(id)?;
        let (original, master) = (*child.tuple(Direction::Original), child.master()?);
        if !self.crosses(master) {
            return None;
        }
        if original.fields().family == Family::V4 {
            // To the end that was lent, whomever it lets in otherwise: the peer was told it.
            let number = self.mappings.of_outside(&original)?;
            let opened = self.cross_in(id, number, now);
            return Some(opened.map(|_| ()).map_err(Refused::from));
        }
        let side = self.sides.side(master)?;
        let pool = self.mappings.get(side.mappings[0]?)?.pool;
        let opened = self.cross_out(id, pool, side.rules[1]?, now);
        Some(opened.map_err(|why| why.by(pool)))
    }

    /// Gives a pending connection its reply tuple, and lets it keep its mappings.
    fn bind(
        &mut self,
        id: ConnId,
        current: &K,
        answer: K,
        mappings: [Option<u32>; 2],
        peer: Option<IpAddr>,
        now: Instant,
    ) {
        self.tracker.set_reply(id, answer);
        for end in [End::Source, End::Destination] {
            self.tracker.set_status(id, end.done().union(end.bit()));
        }
        self.sides.begin(id, current);
        let kept = match self.sides.side_mut(id) {
            Some(side) => {
                side.mappings = mappings;
                side.peer = peer;
                true
            }
            None => false,
        };
        for (number, peer) in mappings.into_iter().zip([peer, None]) {
            match number {
                Some(number) if kept => self.mappings.join(number, peer),
                Some(number) => self.mappings.end_if_unused(number, now),
                None => {}
            }
        }
    }

    /// What packets of one direction become.
    pub(super) fn crossing(&self, key: &K, id: ConnId, direction: Direction) -> Option<Rewrite<K>> {
        let connection = self.tracker.connection(id)?;
        let target = connection.tuple(direction.reverse()).inverse()?;
        Some(Rewrite::between(key, &self.located(target)))
    }

    fn located(&self, key: K) -> K {
        key.at(Locality {
            source: self.is_local(key.source().address),
            destination: self.is_local(key.destination().address),
        })
    }

    /// Translates a packet; the verdict where it cannot be.
    pub(super) fn cross<P: Packet<Key = K>>(
        &mut self,
        packet: &mut P,
        rewrite: &Rewrite<K>,
        quoted: Option<K>,
    ) -> Option<Verdict> {
        let mut translation = Translation {
            rewrite: *rewrite,
            quoted,
            identification: 0,
            mtu: self.mtus,
        };
        if rewrite.to.fields().family == Family::V4 {
            self.identification = self.identification.wrapping_add(1);
            translation.identification = self.identification;
        }
        let why = packet.translate(&translation).err()?;
        self.counters.untranslated += 1;
        Some(match why {
            Untranslatable::TooBig { .. } => Verdict::Reject(Answer::TooBig),
            _ => Verdict::Drop,
        })
    }

    /// Translates an ICMP error about a packet of a connection that crosses; the verdict where it must not pass.
    pub(super) fn cross_error<P: Packet<Key = K>>(
        &mut self,
        packet: &mut P,
        id: ConnId,
        direction: Direction,
    ) -> Option<Verdict> {
        let key = packet.key();
        let Some((to, quoted)) = self.crossed_error(&key, id, direction) else {
            self.counters.untranslated += 1;
            return Some(Verdict::Drop);
        };
        self.cross(packet, &Rewrite::between(&key, &to), Some(quoted))
    }

    /// The keys that an error and the packet in it get.
    fn crossed_error(&self, key: &K, id: ConnId, direction: Direction) -> Option<(K, K)> {
        let connection = self.tracker.connection(id)?;
        let (own, other) = (
            connection.tuple(direction),
            *connection.tuple(direction.reverse()),
        );
        let target = other.inverse()?;
        let from = key.source().address;
        let source = match from {
            // The peer itself.
            from if from == own.source().address => target.source().address,
            // A router on the way of which IPv6 can speak.
            IpAddr::V4(router) => {
                let mappings = self.sides.side(id)?.mappings;
                let number = mappings.into_iter().flatten().next()?;
                self.embedding_of(number)?.embed(router).into()
            }
            // One that IPv4 cannot: the translator speaks for it (RFC 7915 section 5.2).
            IpAddr::V6(_) => target.source().address,
        };
        let to = crossed(key, source, target.destination().address)?;
        Some((self.located(to), other))
    }
}

/// The tuple of IPv4 that a packet from inside has outside.
fn sent_as<K: Trackable>(current: &K, outside: Endpoint, server: Ipv4Addr) -> Option<K> {
    let tuple = crossed(current, outside.address, server.into())?.at(Locality::default());
    tuple.with(outside, tuple.destination())
}

/// Whether a translator may send to an IPv4 address, or take it for a host: not to groups, to everybody or to oneself, and not by
/// the well-known prefix to addresses that are private (RFC 6052 section 3.1).
fn is_reachable(address: Ipv4Addr, by: &Embedding) -> bool {
    let [a, b, ..] = address.octets();
    let nobody = a == 0 || a >= 224 || address.is_loopback() || address.is_link_local();
    let private = address.is_private() || a == 100 && b & 0xc0 == 64;
    let hidden = private && *by == Embedding::WELL_KNOWN;
    !(nobody || hidden)
}
