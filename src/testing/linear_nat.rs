//! The slow translator: lists of connections and mappings, searched from end to end.
//!
//! It draws nothing. Where the real one may choose, the twin says what is legal, looks at what was chosen, and remembers it.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::linear_pool::LinearPool;
use crate::hooks::nat::{Action, Block, End, Filtering, PoolConfig, PoolError, Range};
use crate::key::{Cidr, Endpoint, Family, FlowKey, Locality, Ports, Protocol, Tuple};
use crate::time::{Duration, Instant};
use crate::verdict::Answer;

/// A rule as its meaning.
#[derive(Clone, Debug)]
pub struct LinearRule {
    /// Interfaces in and out.
    pub interfaces: [Option<u32>; 2],
    /// Prefixes of source and destination.
    pub prefixes: [Option<Cidr>; 2],
    /// The destination port, of UDP.
    pub port: Option<u16>,
    /// What it does.
    pub action: Action,
}

impl LinearRule {
    /// The rule as text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (word, interface) in ["iif", "oif"].iter().zip(self.interfaces) {
            if let Some(interface) = interface {
                text += &format!("{word} {interface} ");
            }
        }
        for (word, prefix) in ["saddr", "daddr"].iter().zip(self.prefixes) {
            if let Some(prefix) = prefix {
                let family = if prefix.family() == Family::V4 {
                    "ip"
                } else {
                    "ip6"
                };
                text += &format!("{family} {word} {prefix} ");
            }
        }
        if let Some(port) = self.port {
            text += &format!("udp dport {port} ");
        }
        text + &format!("{}", self.action)
    }

    fn matches(
        &self,
        key: &Tuple,
        [ingress, egress]: [Option<u32>; 2],
        pool: Option<Family>,
    ) -> bool {
        let family = match self.action {
            Action::Change(
                _,
                Range {
                    addresses: Some((first, _)),
                    ..
                },
            ) => Some(Family::align(first).0),
            Action::Netmap(_, prefix) => Some(prefix.family()),
            Action::Pool(_) => pool,
            _ => None,
        };
        let [source, destination] = self.prefixes;
        family.is_none_or(|family| family == key.fields().family)
            && self.interfaces[0].is_none_or(|own| Some(own) == ingress)
            && self.interfaces[1].is_none_or(|own| Some(own) == egress)
            && source.is_none_or(|own| own.contains(key.source().address))
            && destination.is_none_or(|own| own.contains(key.destination().address))
            && self.port.is_none_or(|port| {
                key.protocol() == Protocol::UDP && key.destination().port == port
            })
    }
}

/// An inside end.
type Inside = (u8, Endpoint);

#[derive(Clone, Debug)]
struct Session {
    tuples: [Tuple; 2],
    last: Instant,
    client: Inside,
    /// Mappings of its source and of its destination.
    mappings: [Option<Inside>; 2],
    peer: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Mapping {
    outside: Endpoint,
    fixed: bool,
}

/// What the world looks like to the translator.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Addresses of this machine, by interface; the first of a family is what is masqueraded to.
    pub addresses: Vec<(u32, Vec<IpAddr>)>,
    /// Prefixes behind interface 1; everything else is behind 2.
    pub inside: Vec<Cidr>,
    /// How long every connection lives without a packet.
    pub lifetime: Duration,
    /// Datagrams to this port are dropped, once their destination is known.
    pub dropped: Option<u16>,
}

impl Surroundings {
    /// Whether an address is this machine's.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|(_, own)| own.contains(&address))
    }

    /// Where packets for an address leave; `None`: nowhere, they are for this machine.
    pub fn egress(&self, address: IpAddr) -> Option<u32> {
        if self.is_local(address) {
            return None;
        }
        let inside = self.inside.iter().any(|prefix| prefix.contains(address));
        Some(if inside { 1 } else { 2 })
    }

    fn first(&self, interface: Option<u32>, family: Family) -> Option<IpAddr> {
        let (_, own) = self
            .addresses
            .iter()
            .find(|(own, _)| Some(*own) == interface)?;
        own.iter()
            .copied()
            .find(|address| Family::align(*address).0 == family)
    }
}

/// The translator's twin, with at most one pool.
#[derive(Clone, Debug)]
pub struct LinearNat {
    /// What is around it.
    pub surroundings: Surroundings,
    /// The rules in order.
    pub rules: Vec<LinearRule>,
    /// The pool.
    pub pool: Option<LinearPool>,
    /// What is said where rules without it have nothing left.
    pub answer: Option<Answer>,
    /// Oldest first.
    sessions: Vec<Session>,
    mappings: BTreeMap<Inside, Mapping>,
    /// Addresses of ranges that were chosen, by range and ends.
    chosen: BTreeMap<(IpAddr, IpAddr, IpAddr, Option<IpAddr>), IpAddr>,
}

/// What befell a packet: its key when it left and by which interface, or what its sender is told where it was dropped.
pub type Fate = Result<(Tuple, Option<u32>), Option<Answer>>;

/// Dropped without a word.
const SILENT: Fate = Err(None);

fn bare(key: &Tuple) -> Tuple {
    key.at(Locality::default())
}

fn inside_of(key: &Tuple) -> Inside {
    (key.protocol().0, key.source())
}

impl LinearNat {
    /// With no connections.
    pub fn new(surroundings: Surroundings, pool: Option<PoolConfig>) -> Self {
        Self {
            surroundings,
            rules: Vec::new(),
            pool: pool.map(LinearPool::new),
            answer: None,
            sessions: Vec::new(),
            mappings: BTreeMap::new(),
            chosen: BTreeMap::new(),
        }
    }

    /// Connections.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Both tuples of every connection.
    pub fn tuples(&self) -> Vec<[Tuple; 2]> {
        let mut all: Vec<[Tuple; 2]> = self.sessions.iter().map(|one| one.tuples).collect();
        all.sort();
        all
    }

    /// Every mapping: its protocol and inside end, its outside end, whether it is fixed, and connections that keep it.
    pub fn mappings(&self) -> Vec<(u8, Endpoint, Endpoint, bool, u32)> {
        let count = |inside: &Inside| {
            let held = self.sessions.iter().flat_map(|one| one.mappings);
            held.flatten().filter(|held| held == inside).count() as u32
        };
        let all = self.mappings.iter();
        all.map(|(inside, own)| (inside.0, inside.1, own.outside, own.fixed, count(inside)))
            .collect()
    }

    /// Ends what has expired.
    pub fn expire(&mut self, now: Instant) {
        let lifetime = self.surroundings.lifetime;
        self.sessions.retain(|one| one.last + lifetime > now);
        self.sweep(now);
    }

    /// Ends the connection with this original tuple.
    pub fn end(&mut self, original: &Tuple, now: Instant) {
        self.sessions.retain(|one| one.tuples[0] != *original);
        self.sweep(now);
    }

    fn sweep(&mut self, now: Instant) {
        let sessions = &self.sessions;
        let pool = &mut self.pool;
        self.mappings.retain(|inside, mapping| {
            let kept = mapping.fixed
                || sessions
                    .iter()
                    .any(|one| one.mappings.contains(&Some(*inside)));
            if let (false, Some(pool)) = (kept, pool.as_mut()) {
                let (protocol, end) = *inside;
                pool.close(end.address, Protocol(protocol), mapping.outside, now);
            }
            kept
        });
    }

    /// A forward, as the real one took it.
    ///
    /// # Errors
    ///
    /// Where it should have been the other way round.
    pub fn forward(
        &mut self,
        inside: &Tuple,
        outside: Endpoint,
        taken: bool,
    ) -> Result<(), String> {
        let key = inside_of(inside);
        let families = inside.source().address.is_ipv4() == outside.address.is_ipv4();
        let used = self.mappings.contains_key(&key)
            || self
                .mappings
                .iter()
                .any(|((protocol, _), own)| *protocol == key.0 && own.outside == outside);
        let free = !used
            && families
            && self
                .pool
                .as_mut()
                .is_some_and(|pool| pool.reserve(inside.protocol(), outside));
        if free != taken {
            return Err(format!("forward {outside:?}: expected {free}"));
        }
        if free {
            self.mappings.insert(
                key,
                Mapping {
                    outside,
                    fixed: true,
                },
            );
        }
        Ok(())
    }

    /// Whether a forward goes.
    pub fn unforward(&mut self, inside: &Tuple) -> bool {
        let key = inside_of(inside);
        let held = self
            .sessions
            .iter()
            .any(|one| one.mappings.contains(&Some(key)));
        match self.mappings.get(&key) {
            Some(Mapping {
                outside,
                fixed: true,
            }) if !held => {
                if let Some(pool) = &mut self.pool {
                    pool.restore(inside.protocol(), *outside);
                }
                self.mappings.remove(&key);
                true
            }
            _ => false,
        }
    }

    /// What the error that quotes `quoted` must look like when it leaves: its ends, and the quoted packet's key.
    pub fn error(&self, key: &Tuple, quoted: &Tuple) -> (Endpoint, Endpoint, Tuple) {
        let (mut source, mut destination) = (key.source(), key.destination());
        let unchanged = (source, destination, bare(quoted));
        let Some(answer) = quoted.inverse().map(|answer| bare(&answer)) else {
            return unchanged;
        };
        for one in &self.sessions {
            let Some(at) = one.tuples.iter().position(|tuple| *tuple == answer) else {
                continue;
            };
            if destination.address != answer.destination().address {
                return unchanged;
            }
            // As the packet that is quoted was when it was sent.
            let sent = one.tuples[1 - at];
            let plain = sent.inverse().unwrap_or(sent);
            // An ICMP identifier stands with the source, whichever end it belongs to.
            let differs = |one: Endpoint, other: Endpoint| {
                one.address != other.address || plain.protocol().has_ports() && one != other
            };
            if differs(plain.destination(), answer.destination()) {
                destination.address = sent.source().address;
            }
            if differs(plain.source(), answer.source()) {
                source.address = sent.destination().address;
            }
            return (source, destination, sent);
        }
        unchanged
    }

    /// Looks at what befell a packet. `address` says whom the pool pairs a subscriber with.
    ///
    /// # Errors
    ///
    /// What should have befallen it.
    pub fn judge(
        &mut self,
        key: &Tuple,
        ingress: u32,
        now: Instant,
        got: Fate,
        address: impl Fn(IpAddr) -> Option<IpAddr>,
    ) -> Result<(), String> {
        let key = bare(key);
        let got = got.map(|(key, egress)| (bare(&key), egress));
        self.expire(now);
        let found = self.sessions.iter_mut().find_map(|one| {
            let at = one.tuples.iter().position(|tuple| *tuple == key)?;
            one.last = now;
            one.tuples[1 - at].inverse()
        });
        let dropped = self.surroundings.dropped;
        let blocked = |key: &Tuple| {
            key.protocol() == Protocol::UDP && Some(key.destination().port) == dropped
        };
        if let Some(wire) = found {
            let middle = key.with(key.source(), wire.destination()).unwrap_or(wire);
            let egress = self.surroundings.egress(wire.destination().address);
            let expected = if blocked(&middle) {
                SILENT
            } else {
                Ok((wire, egress))
            };
            return same(expected, got);
        }
        // An answer that nobody asked for belongs to no connection.
        let [kind, _] = key.destination().port.to_be_bytes();
        if key.inverse().is_none() || key.protocol().is_icmp() && !matches!(kind, 8 | 128) {
            return same(
                Ok((key, self.surroundings.egress(key.destination().address))),
                got,
            );
        }
        // The destination.
        let family = key.fields().family;
        let mapping = self.mapping_at(&key);
        let mut middle = key;
        if let Some((inside, fixed)) = mapping {
            if !fixed && !self.lets_in(inside, key.source().address, &address) {
                return same(SILENT, got);
            }
            middle = key.with(key.source(), inside.1).unwrap_or(key);
        } else if let Some(action) = self.rule(End::Destination, &key, ingress, None) {
            let range = match action {
                Action::Change(_, range) => Some(range),
                Action::Redirect { ports } => {
                    match self.surroundings.first(Some(ingress), family) {
                        Some(address) => Some(Range {
                            ports,
                            ..Range::address(address)
                        }),
                        None => return same(Err(self.answer), got),
                    }
                }
                Action::Netmap(_, prefix) => Some(netmap(prefix, key.destination().address)),
                _ => None,
            };
            if let Some(range) = range {
                middle = self.destination(&key, &range, got)?;
            }
        }
        // The way, and the filter.
        let egress = self.surroundings.egress(middle.destination().address);
        if blocked(&middle) {
            return same(SILENT, got);
        }
        // The source.
        let turned = mapping.is_some_and(|_| {
            let inside = self.pool.as_ref().map(|pool| &pool.config.inside);
            inside.is_some_and(|all| all.iter().any(|one| one.contains(key.source().address)))
        });
        let action = match (turned, egress) {
            (true, _) => Some(Action::Pool(Default::default())),
            (false, None) => None,
            (false, _) => self.rule(End::Source, &middle, ingress, egress),
        };
        let own = Range::address(middle.source().address);
        let range = match action {
            Some(Action::Pool(_)) => {
                return self.by_pool(
                    &key,
                    &middle,
                    egress,
                    mapping.map(|one| one.0),
                    now,
                    got,
                    address,
                );
            }
            Some(Action::Change(_, range)) => range,
            Some(Action::Masquerade { ports, random }) => {
                match self.surroundings.first(egress, family) {
                    Some(address) => Range {
                        ports,
                        random,
                        ..Range::address(address)
                    },
                    None => return same(Err(self.answer), got),
                }
            }
            Some(Action::Netmap(_, prefix)) => netmap(prefix, middle.source().address),
            _ => own,
        };
        let seen = got.ok().map(|(key, _)| key);
        let Some(wire) = self.source(&middle, &range, seen)? else {
            return same(Err(self.answer), got);
        };
        if self.is_taken(&wire) {
            return same(Err(self.answer), got);
        }
        same(Ok((wire, egress)), got)?;
        self.begin(&key, &wire, [None, mapping.map(|one| one.0)], None, now);
        Ok(())
    }

    fn begin(
        &mut self,
        key: &Tuple,
        wire: &Tuple,
        mappings: [Option<Inside>; 2],
        peer: Option<IpAddr>,
        now: Instant,
    ) {
        self.sessions.push(Session {
            tuples: [*key, wire.inverse().unwrap_or(*wire)],
            last: now,
            client: inside_of(key),
            mappings,
            peer,
        });
    }

    fn rule(&self, end: End, key: &Tuple, ingress: u32, egress: Option<u32>) -> Option<Action> {
        let pool = self.pool.as_ref().and_then(LinearPool::family);
        let rules = self.rules.iter().filter(|rule| rule.action.end() == end);
        rules
            .into_iter()
            .find(|rule| rule.matches(key, [Some(ingress), egress], pool))
            .map(|rule| rule.action)
    }

    /// What befalls a packet that the pool has nothing for.
    fn refused(&self) -> Fate {
        Err(self.pool.as_ref().and_then(|pool| pool.config.answer))
    }

    fn is_taken(&self, wire: &Tuple) -> bool {
        wire.inverse()
            .is_none_or(|reply| self.sessions.iter().any(|one| one.tuples.contains(&reply)))
    }

    fn mapping_at(&self, key: &Tuple) -> Option<(Inside, bool)> {
        let own = |(inside, mapping): (&Inside, &Mapping)| {
            let here = inside.0 == key.protocol().0 && mapping.outside == key.destination();
            here.then_some((*inside, mapping.fixed))
        };
        if !key.protocol().has_ports() {
            return None;
        }
        self.mappings.iter().find_map(own)
    }

    fn lets_in(
        &self,
        inside: Inside,
        from: IpAddr,
        address: &impl Fn(IpAddr) -> Option<IpAddr>,
    ) -> bool {
        let Some(pool) = &self.pool else { return false };
        match pool.config.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressAndPortDependent => false,
            Filtering::AddressDependent => {
                let hidden = pool.config.inside.iter().any(|one| one.contains(from));
                let from = if hidden { address(from) } else { Some(from) };
                self.sessions.iter().any(|one| {
                    one.mappings[0] == Some(inside) && one.peer == from && from.is_some()
                })
            }
        }
    }

    fn chooses(
        &mut self,
        range: (IpAddr, IpAddr),
        key: &Tuple,
        persistent: bool,
        got: IpAddr,
    ) -> bool {
        let (first, last) = range;
        let to = (!persistent).then_some(key.destination().address);
        let ends = (first, last, key.source().address, to);
        Range {
            addresses: Some(range),
            ..Range::default()
        }
        .has_address(got)
            && *self.chosen.entry(ends).or_insert(got) == got
    }

    fn destination(&mut self, key: &Tuple, range: &Range, got: Fate) -> Result<Tuple, String> {
        let old = key.destination();
        let (first, last) = range.addresses.unwrap_or((old.address, old.address));
        let address = match got {
            Ok((got, _)) if first != last => {
                let address = got.destination().address;
                if !self.chooses((first, last), key, range.persistent, address) {
                    return Err(format!(
                        "{address} is not of the range, or not the one of before"
                    ));
                }
                address
            }
            _ => first,
        };
        let port = match range.ports {
            Some(ports) if !ports.contains(old.port) && key.protocol().has_ports() => ports.first,
            _ => old.port,
        };
        Ok(key
            .with(key.source(), Endpoint::new(address, port))
            .unwrap_or(*key))
    }

    /// The source that a connection must have, given the one that it has.
    fn source(
        &mut self,
        key: &Tuple,
        range: &Range,
        got: Option<Tuple>,
    ) -> Result<Option<Tuple>, String> {
        let numbered = key.protocol().has_ports() || key.protocol().is_icmp();
        let in_ports =
            |port: u16| !numbered || range.ports.is_none_or(|ports| ports.contains(port));
        let in_range = |end: Endpoint| range.has_address(end.address) && in_ports(end.port);
        let at = |end: Endpoint| key.with(end, key.destination()).unwrap_or(*key);
        let own = key.source();
        if !range.random {
            if in_range(own) {
                if !self.is_taken(key) {
                    return Ok(Some(*key));
                }
            } else {
                let mut siblings = self
                    .sessions
                    .iter()
                    .rev()
                    .filter(|one| one.client == inside_of(key));
                // As a packet of the sibling left: an ICMP reply has the identifier where its query has it.
                let outside = siblings.find_map(|one| {
                    let left = one.tuples[1].inverse()?;
                    Some(left.source()).filter(|end| in_range(*end))
                });
                if let Some(wire) = outside.map(at).filter(|wire| !self.is_taken(wire)) {
                    return Ok(Some(wire));
                }
            }
        }
        let (first, last) = range.addresses.unwrap_or((own.address, own.address));
        let ports = range.ports.unwrap_or(match own.port {
            _ if key.protocol().is_icmp() => Ports::ALL,
            0..512 => Ports {
                first: 1,
                last: 511,
            },
            512..1024 => Ports {
                first: 600,
                last: 1023,
            },
            _ => Ports {
                first: 1024,
                last: 65_535,
            },
        });
        let Some(got) = got else {
            // Dropped: then nothing was free, at one address at least.
            let (_, low) = Family::align(first);
            let (family, high) = Family::align(last);
            let step = 1u128 << (128 - u32::from(family.bits()));
            let full = (0..)
                .map(|n| low + n * step)
                .take_while(|bits| *bits <= high)
                .any(|bits| {
                    let address = family.address(bits);
                    (ports.first..=ports.last)
                        .all(|port| self.is_taken(&at(Endpoint::new(address, port))))
                });
            return if full {
                Ok(None)
            } else {
                Err("dropped, while a port is free".into())
            };
        };
        let end = got.source();
        if first != last && !self.chooses((first, last), key, range.persistent, end.address)
            || first == last && end.address != first
        {
            return Err(format!(
                "{} is not of the range, or not the one of before",
                end.address
            ));
        }
        let kept = at(Endpoint::new(end.address, own.port));
        if !range.random && in_ports(own.port) && !self.is_taken(&kept) {
            return Ok(Some(kept));
        }
        let wire = at(end);
        if !ports.contains(end.port) || self.is_taken(&wire) {
            return Err(format!("{end:?} is not to be had"));
        }
        Ok(Some(wire))
    }

    #[expect(clippy::too_many_arguments, reason = "what the caller knows, once")]
    fn by_pool(
        &mut self,
        key: &Tuple,
        middle: &Tuple,
        egress: Option<u32>,
        destination: Option<Inside>,
        now: Instant,
        got: Fate,
        address: impl Fn(IpAddr) -> Option<IpAddr>,
    ) -> Result<(), String> {
        let inside = inside_of(middle);
        let wire = |outside: Endpoint| {
            middle
                .with(outside, middle.destination())
                .unwrap_or(*middle)
        };
        if let Some(mapping) = self.mappings.get(&inside).copied() {
            let wire = wire(mapping.outside);
            if self.is_taken(&wire) {
                return same(self.refused(), got);
            }
            same(Ok((wire, egress)), got)?;
        } else {
            let Some(pool) = &self.pool else {
                return Err("no pool".into());
            };
            let source = middle.source();
            let paired = address(source.address);
            let mut tried = pool.clone();
            let block = |outside: Endpoint| {
                // Whether a block comes with it follows from what he has.
                let own = pool.blocks.iter().filter(|(who, _)| *who == source.address);
                let own: Vec<Block> = own.map(|(_, block)| *block).collect();
                let blocks = pool.all_blocks(outside.address).into_iter();
                let block = blocks
                    .into_iter()
                    .find(|block| block.ports.contains(outside.port))?;
                (!own.contains(&block)).then_some(block)
            };
            let is_of_use = |outside| !self.is_taken(&wire(outside));
            let opened = |pool: &mut LinearPool, got| {
                let (who, protocol) = (source.address, middle.protocol());
                pool.opened(who, protocol, source.port, now, paired, got, is_of_use)
            };
            let Ok((seen, _)) = got else {
                let reasons = [
                    PoolError::Exhausted,
                    PoolError::Quota,
                    PoolError::Rate,
                    PoolError::Outsider,
                ];
                let refused = reasons
                    .iter()
                    .any(|why| opened(&mut tried, Err(*why)).is_ok());
                return if refused {
                    same(self.refused(), got)
                } else {
                    Err(format!("{key}: dropped, while a port is free"))
                };
            };
            let outside = seen.source();
            opened(&mut tried, Ok((outside, block(outside))))?;
            self.pool = Some(tried);
            self.mappings.insert(
                inside,
                Mapping {
                    outside,
                    fixed: false,
                },
            );
            if self.is_taken(&wire(outside)) {
                return Err(format!("{key}: {outside:?} is another's"));
            }
            same(Ok((wire(outside), egress)), got)?;
        }
        let outside = self.mappings[&inside].outside;
        let peer = Some(middle.destination().address);
        self.begin(key, &wire(outside), [Some(inside), destination], peer, now);
        Ok(())
    }
}

fn netmap(prefix: Cidr, address: IpAddr) -> Range {
    let (family, bits) = Family::align(address);
    Range::address(family.address(prefix.bits() | bits & !prefix.mask()))
}

fn same(expected: Fate, got: Fate) -> Result<(), String> {
    if expected == got {
        Ok(())
    } else {
        Err(format!("expected {expected:?}, got {got:?}"))
    }
}
