//! A translating gateway of real bytes, twice: behind the cache and without it; and stories that it is told, watched by the
//! slow twin.
//!
//! Whatever passes is compared between both, with the twin, and with checksums computed in full.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::frame::recompute;
use super::linear_nat::{LinearNat, LinearRule, Surroundings};
use super::linear_pool::LinearPool;
use super::toy::Choices;
use super::uncached::Uncached;
use crate::cache::{self, FlowCache};
use crate::epoch::Change;
use crate::hooks::conntrack::{Config as Tracking, Conntrack, TimeoutClass, Timeouts};
use crate::hooks::filter::{Filter, Policy, parse_rules};
use crate::hooks::nat::{Action, Allocation, End, Filtering, Nat, Place, Pool, PoolConfig};
use crate::hooks::nat::{PoolId, Range};
use crate::hooks::route::{Options, Routes, Target};
use crate::key::{Cidr, Endpoint, FlowKey, Ports, Protocol, Tuple};
use crate::packet::{Interface, Origin, Packet, TcpFlags};
use crate::time::{Duration, Instant};
use crate::verdict::Path;
use crate::wire::build::{Datagram, Tcp, Transport};
use crate::wire::{Arrival, Frame};

/// The gateway's hooks.
pub type Hooks = (Nat<Tuple>, Routes, Filter);

/// A packet that has left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its key.
    pub key: Tuple,
    /// The interface; `None`: it is for the gateway.
    pub egress: Option<u32>,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How the cache found its answer.
    pub path: Path,
}

impl Sent {
    /// The quoted packet's key, of an ICMP error.
    pub fn quoted(&self) -> Option<Tuple> {
        let mut bytes = self.bytes.clone();
        let frame: Frame<'_> = Frame::ip(&mut bytes, &Arrival::default()).ok()?;
        frame.quoted()
    }
}

/// Both gateways.
#[derive(Debug)]
pub struct Gateway {
    /// The one with a cache.
    pub cache: FlowCache<Tuple, Hooks>,
    /// The one without.
    pub twin: Uncached<Hooks>,
    /// What is around them.
    pub surroundings: Surroundings,
    /// The time.
    pub now: Instant,
}

/// Inside addresses, and those of the gateway: its own on both sides, and what it translates to.
pub fn surroundings() -> Surroundings {
    let all = |texts: &[&str]| texts.iter().filter_map(|text| text.parse().ok()).collect();
    Surroundings {
        addresses: Vec::from([
            (1, all(&["10.0.0.254", "fd00::fe"])),
            (
                2,
                all(&[
                    "203.0.113.1",
                    "203.0.113.4",
                    "203.0.113.5",
                    "203.0.113.8",
                    "203.0.113.9",
                    "2001:db8:f::1",
                    "2001:db8:f::8",
                    "2001:db8:f::9",
                ]),
            ),
        ]),
        inside: ["10.0.0.0/24", "fd00::/64"]
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect(),
        lifetime: Duration::from_secs(100),
        dropped: None,
    }
}

fn say(why: impl ToString) -> String {
    why.to_string()
}

fn hooks(
    tracking: &Tracking,
    around: &Surroundings,
    pools: &[PoolConfig],
) -> Result<Hooks, String> {
    let tracker = Conntrack::try_new(tracking.clone()).map_err(say)?;
    let mut nat = Nat::try_new(tracker, 64, [5, 6]).map_err(say)?;
    for (interface, addresses) in &around.addresses {
        nat.set_addresses(Interface(*interface), addresses);
    }
    for pool in pools {
        nat.add_pool(pool.clone()).map_err(say)?;
    }
    let options = Options {
        no_route: None,
        ..Options::default()
    };
    let mut routes = Routes::with_options(8, 8, 2, options).map_err(say)?;
    let hops = [Interface(1), Interface(2)].map(|interface| routes.add_next_hop(interface));
    let [inside, outside] = hops;
    let (inside, outside) = (inside.map_err(say)?, outside.map_err(say)?);
    for prefix in &around.inside {
        let _ = routes.insert(*prefix, Target::Via(inside)).map_err(say)?;
    }
    for prefix in ["0.0.0.0/0", "::/0"] {
        let prefix = prefix.parse().map_err(say)?;
        let _ = routes.insert(prefix, Target::Via(outside)).map_err(say)?;
    }
    Ok((nat, routes, Filter::new("filter", 8, 7, Policy::Accept)))
}

impl Gateway {
    /// A gateway whose connections all live as long as the surroundings say, with these translation rules.
    ///
    /// # Errors
    ///
    /// What is wrong with rules or pools.
    pub fn new(
        tracking: &Tracking,
        surroundings: Surroundings,
        sessions: usize,
        pools: &[PoolConfig],
        rules: &str,
    ) -> Result<Self, String> {
        let config = cache::Config {
            sessions,
            regions: 8,
            ..cache::Config::new([3, 4])
        };
        let mut gateway = Self {
            cache: FlowCache::new(config, hooks(tracking, &surroundings, pools)?).map_err(say)?,
            twin: Uncached {
                hooks: hooks(tracking, &surroundings, pools)?,
            },
            surroundings,
            now: Instant::from_secs(1),
        };
        for rule in crate::hooks::nat::parse_rules(rules, |_| None).map_err(say)? {
            gateway.edit(|(nat, ..)| {
                nat.insert(Place::Last, rule.clone())
                    .map(|(_, change)| change)
                    .map_err(say)
            })?;
        }
        Ok(gateway)
    }

    /// Changes both, and tells the cache what the change says. Both must answer the same.
    ///
    /// # Errors
    ///
    /// That of the edit.
    pub fn edit(
        &mut self,
        mut edit: impl FnMut(&mut Hooks) -> Result<Change, String>,
    ) -> Result<(), String> {
        let one = self
            .cache
            .edit(|hooks| edit(hooks).map(|change| ((), change)));
        let other = self
            .twin
            .edit(|hooks| edit(hooks).map(|change| ((), change)));
        match (one, other) {
            (Ok(_), Ok(())) => Ok(()),
            (Err(one), Err(other)) if one == other => Err(one),
            (one, other) => Err(format!("edits differ: {one:?}, {other:?}")),
        }
    }

    /// Does something with the translator, of both gateways; what it gave, of the one with the cache.
    ///
    /// # Panics
    ///
    /// Where they give something different.
    pub fn with<R: PartialEq + core::fmt::Debug>(
        &mut self,
        mut work: impl FnMut(&mut Nat<Tuple>) -> R,
    ) -> R {
        let other = work(&mut self.twin.hooks.0);
        let mut one = None;
        let _ = self.cache.edit(|hooks| {
            one = Some(work(&mut hooks.0));
            Ok::<_, ()>(((), Change::nothing()))
        });
        assert_eq!(one.as_ref(), Some(&other), "both gateways");
        other
    }

    /// The translator, of the gateway without a cache.
    pub fn nat(&self) -> &Nat<Tuple> {
        &self.twin.hooks.0
    }

    /// Lets time pass, and ends what has expired in it.
    pub fn wait(&mut self, duration: Duration) {
        self.now = self.now + duration;
        let now = self.now;
        let slots = self.nat().tracker().config().capacity;
        self.with(|nat| nat.maintain(now, slots).expired);
        self.cache.maintain(now, 1 << 10);
    }

    /// Takes a packet through both gateways; what leaves, or `None` where it is dropped.
    ///
    /// # Errors
    ///
    /// How the two differ, or how the bytes differ from what they must be.
    pub fn send(&mut self, ingress: u32, bytes: &[u8]) -> Result<Option<Sent>, String> {
        let arrival = Arrival::on(Interface(ingress));
        let around = self.surroundings.clone();
        let (mut one, mut other) = (bytes.to_vec(), bytes.to_vec());
        let mut frame: Frame<'_> = Frame::ip(&mut one, &arrival).map_err(say)?;
        frame = frame.locate(|address| around.is_local(address));
        let mut twin: Frame<'_> = Frame::ip(&mut other, &arrival).map_err(say)?;
        twin = twin.locate(|address| around.is_local(address));
        let intact = frame.is_intact();
        let got = self.cache.process(&mut frame, self.now);
        let expected = self.twin.process(&mut twin, self.now);
        if !got.agrees(&expected) || frame.key() != twin.key() || frame.packet() != twin.packet() {
            return Err(format!(
                "{}: without a cache {expected:?} {}, with it {got:?} {}",
                frame.key(),
                twin.key(),
                frame.key()
            ));
        }
        if !got.verdict.is_accept() {
            return Ok(None);
        }
        let key = frame.key();
        if frame.is_intact() != intact {
            return Err(format!("{key}: a checksum is as right as before"));
        }
        let (at, is_error) = (
            frame.packet().len() - frame.transport().len(),
            frame.quoted().is_some(),
        );
        let whole = !frame.fragment().is_part() && frame.defect().is_none();
        let own = frame.packet().to_vec();
        let again: Frame<'_> =
            Frame::ip(&mut one, &arrival).map_err(|why| format!("{key}: {why}"))?;
        if again.key().at(Default::default()) != key.at(Default::default()) {
            return Err(format!("{key}: the bytes say {}", again.key()));
        }
        if whole && intact && !is_error {
            let mut slow = bytes.to_vec();
            if recompute(&mut slow, at, &key) && !same(&slow, &own, at, key.protocol()) {
                return Err(format!("{key}: {own:02x?}, in full {slow:02x?}"));
            }
        }
        Ok(Some(Sent {
            key,
            egress: got.egress.map(|egress| egress.interface.0),
            bytes: own,
            path: got.path,
        }))
    }

    /// Compares all that both know, and checks each.
    ///
    /// # Errors
    ///
    /// What differs, or does not hold together.
    pub fn check(&mut self) -> Result<(), String> {
        self.cache.check().map_err(String::from)?;
        let mut checked = Ok(());
        let _ = self.cache.edit(|hooks| {
            checked = hooks.0.check();
            Ok::<_, ()>(((), Change::nothing()))
        });
        checked.map_err(|what| format!("with a cache: {what}"))?;
        self.twin
            .hooks
            .0
            .check()
            .map_err(|what| format!("without a cache: {what}"))?;
        let all = |nat: &Nat<Tuple>| -> (Vec<String>, Vec<String>, String) {
            let connections = nat.tracker().iter().map(|one| format!("{one:?}")).collect();
            let mappings = nat.mappings().map(|one| format!("{one:?}")).collect();
            (connections, mappings, format!("{:?}", nat.counters()))
        };
        let (cached, plain) = (all(&self.cache.hooks().0), all(self.nat()));
        if cached != plain {
            return Err(format!("with a cache {cached:#?}, without {plain:#?}"));
        }
        let mut wires = alloc::collections::BTreeSet::new();
        for one in self.nat().tracker().iter() {
            let [original, reply] = crate::hook::Direction::BOTH.map(|way| *one.tuple(way));
            // Somebody who sends to his own outside end is his own peer.
            if !wires.insert(original) || original != reply && !wires.insert(reply) {
                return Err(format!("{one:?}: a tuple belongs to two connections"));
            }
        }
        Ok(())
    }
}

/// Whether two packets are the same, zero and minus zero in the transport's checksum counting as one.
fn same(a: &[u8], b: &[u8], transport: usize, protocol: Protocol) -> bool {
    let at = transport
        + match protocol {
            Protocol::TCP => 16,
            Protocol::UDP | Protocol::UDP_LITE => 6,
            _ => 2,
        };
    let zero = |bytes: &[u8]| matches!(bytes.get(at..at + 2), Some([0, 0] | [0xff, 0xff]));
    let both = zero(a) && zero(b);
    a.len() == b.len()
        && a.iter()
            .zip(b)
            .enumerate()
            .all(|(i, (a, b))| a == b || both && (i == at || i == at + 1))
}

/// A packet with this key: UDP, ICMP, or TCP with these flags.
pub fn packet(key: &Tuple, flags: TcpFlags, payload: &[u8]) -> Vec<u8> {
    let (source, destination) = (key.source(), key.destination());
    let transport = match key.protocol() {
        Protocol::TCP => Tcp {
            flags,
            ..Tcp::new(source.port, destination.port)
        }
        .into(),
        protocol if protocol.is_icmp() => {
            let [kind, _] = destination.port.to_be_bytes();
            Transport::query(kind, source.port, 1)
        }
        _ => Transport::udp(source.port, destination.port),
    };
    let datagram = Datagram::new(source.address, destination.address, transport);
    datagram.with_payload(payload).emit().unwrap_or_default()
}

/// An ICMP error from a router, quoting the beginning of `packet`; it goes to that packet's sender.
pub fn error(from: IpAddr, to: IpAddr, packet: &[u8]) -> Vec<u8> {
    let kind = if from.is_ipv4() { (3, 1) } else { (1, 3) };
    let quoted = packet.get(..packet.len().min(80)).unwrap_or(packet);
    let datagram = Datagram::new(from, to, Transport::error(kind.0, kind.1));
    datagram.with_payload(quoted).emit().unwrap_or_default()
}

fn prefix(text: &str) -> Option<Cidr> {
    text.parse().ok()
}

fn range(text: &str, ports: Option<Ports>) -> Range {
    let ends = text.split_once('-').unwrap_or((text, text));
    let addresses = ends.0.parse().ok().zip(ends.1.parse().ok());
    Range {
        addresses,
        ports,
        ..Range::default()
    }
}

/// Rules that stories choose from.
fn menu() -> Vec<LinearRule> {
    let few = Some(Ports {
        first: 2000,
        last: 2003,
    });
    let rule = |interfaces, source: &str, destination: &str, port, action| LinearRule {
        interfaces,
        prefixes: [prefix(source), prefix(destination)],
        port,
        action,
    };
    let out = [None, Some(2)];
    let change = |text: &str, ports| Action::Change(End::Source, range(text, ports));
    let to = |text: &str, port: u16| {
        let ports = (port != 0).then_some(Ports::one(port));
        Action::Change(End::Destination, range(text, ports))
    };
    let masquerade = |ports, random| Action::Masquerade { ports, random };
    let random = |action| match action {
        Action::Change(end, range) => Action::Change(
            end,
            Range {
                random: true,
                ..range
            },
        ),
        other => other,
    };
    let persistent = |action| match action {
        Action::Change(end, range) => Action::Change(
            end,
            Range {
                persistent: true,
                ..range
            },
        ),
        other => other,
    };
    let two = "203.0.113.4-203.0.113.5";
    let net = |end, text| prefix(text).map(|net| Action::Netmap(end, net));
    let leave = Action::Leave(End::Source);
    Vec::from([
        rule(out, "", "", None, masquerade(None, false)),
        rule(out, "", "", None, masquerade(few, false)),
        rule(out, "10.0.0.0/24", "", None, masquerade(None, true)),
        rule(out, "", "", None, Action::Pool(PoolId(0))),
        rule(out, "10.0.0.0/24", "", None, Action::Pool(PoolId(0))),
        rule(out, "10.0.0.0/24", "", None, change(two, None)),
        rule(out, "10.0.0.0/24", "", None, persistent(change(two, few))),
        rule(
            out,
            "10.0.0.0/24",
            "",
            None,
            random(change("203.0.113.4", few)),
        ),
        rule(
            out,
            "fd00::/64",
            "",
            None,
            change("2001:db8:f::8-2001:db8:f::9", few),
        ),
        rule([None, None], "10.0.0.1/32", "198.51.100.0/25", None, leave),
        rule(
            out,
            "10.0.0.0/24",
            "",
            None,
            net(End::Source, "203.0.113.64/26").unwrap_or(leave),
        ),
        rule(
            [None, Some(1)],
            "10.0.0.0/24",
            "10.0.0.0/24",
            None,
            masquerade(None, false),
        ),
        rule(
            [None, None],
            "",
            "203.0.113.1/32",
            Some(80),
            to("10.0.0.1", 4000),
        ),
        rule(
            [Some(2), None],
            "",
            "203.0.113.1/32",
            Some(4000),
            to("10.0.0.1", 0),
        ),
        rule(
            [Some(1), None],
            "",
            "",
            Some(53),
            Action::Redirect {
                ports: Some(Ports::one(5353)),
            },
        ),
        rule(
            [Some(2), None],
            "",
            "203.0.113.5/32",
            None,
            to("10.0.0.2-10.0.0.3", 0),
        ),
        rule(
            [Some(2), None],
            "",
            "203.0.113.64/26",
            None,
            net(End::Destination, "10.0.0.0/26").unwrap_or(leave),
        ),
        rule(
            [Some(2), None],
            "",
            "2001:db8:f::1/128",
            Some(80),
            to("fd00::1", 4001),
        ),
    ])
}

/// A small pool, of IPv4 addresses.
fn pool(choices: &mut Choices<'_>) -> PoolConfig {
    let [one, other, inside] = if choices.below(8) == 0 {
        ["2001:db8:f::8", "2001:db8:f::9", "fd00::/64"]
    } else {
        ["203.0.113.8", "203.0.113.9", "10.0.0.0/24"]
    };
    let addresses = [one, other]
        .into_iter()
        .filter_map(|text| text.parse().ok());
    let mut config = PoolConfig::new(addresses.collect());
    let first = choices.one(&[1024, 1025, 4000]);
    config.ports = Ports {
        first,
        last: first + choices.one(&[1, 3, 7, 31]),
    };
    config.inside = prefix(inside).into_iter().collect();
    config.filtering = choices.one(&[
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ]);
    config.allocation = match choices.below(4) {
        0 => Allocation::Blocks {
            size: choices.one(&[1, 2, 4]),
            max: choices.one(&[1, 2]),
        },
        1 => Allocation::Deterministic {
            inside: prefix(if one.contains(':') {
                "fd00::/126"
            } else {
                "10.0.0.0/30"
            })
            .unwrap_or(Cidr::host(IpAddr::from([0; 4]))),
        },
        _ => Allocation::Single,
    };
    let bits = choices.byte();
    config.keep_port = bits & 1 == 0;
    config.keep_parity = bits & 2 == 0;
    config.quota = (bits & 4 != 0).then_some(2);
    config.rate = (bits & 8 != 0).then_some(3);
    if bits & 16 != 0 {
        config.quarantine = Duration::from_secs(30);
        config.quarantine_max = if bits & 32 != 0 { 2 } else { 100 };
    }
    if bits & 64 != 0 {
        let address = config.addresses.first().copied();
        config.reserved = address
            .map(|one| (one, Ports::one(first)))
            .into_iter()
            .collect();
    }
    config
}

struct Story {
    gateway: Gateway,
    /// Not where the tracker is too small to say beforehand whom it puts out.
    linear: Option<LinearNat>,
    /// Packets that have left, as they did, with the interface that their answers come by.
    wires: Vec<(u32, Tuple)>,
}

impl Story {
    fn new(choices: &mut Choices<'_>) -> Result<Self, String> {
        let bits = choices.byte();
        let small = bits & 1 != 0;
        let mut tracking = Tracking::new(
            if small {
                choices.one(&[1, 2, 5, 16])
            } else {
                512
            },
            [1, 2],
        );
        let mut timeouts = Timeouts::LINUX;
        for class in [
            TimeoutClass::Udp,
            TimeoutClass::UdpStream,
            TimeoutClass::Icmp,
            TimeoutClass::Icmpv6,
        ] {
            timeouts = timeouts.with(class, 100);
        }
        tracking.timeouts = Vec::from([timeouts]);
        let mut around = surroundings();
        around.dropped = (bits & 2 != 0).then_some(53);
        let pool = pool(choices);
        let sessions = choices.one(&[1, 4, 64]);
        let mut gateway = Gateway::new(
            &tracking,
            around.clone(),
            sessions,
            core::slice::from_ref(&pool),
            "",
        )?;
        if around.dropped.is_some() {
            let rules = parse_rules("udp dport 53 drop", |_| None).map_err(say)?;
            gateway.edit(|(_, _, filter)| {
                filter
                    .replace(rules.clone(), Policy::Accept)
                    .map(|(_, change)| change)
                    .map_err(say)
            })?;
        }
        let linear = (!small).then(|| LinearNat::new(around, Some(pool)));
        Ok(Self {
            gateway,
            linear,
            wires: Vec::new(),
        })
    }

    fn key(&mut self, choices: &mut Choices<'_>) -> (u32, Tuple) {
        let bits = choices.byte();
        let v6 = bits & 7 == 0;
        let tcp = self.linear.is_none() && bits & 0x38 == 0;
        let icmp = bits & 0x38 == 0x38;
        let inside = choices.one(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        let peer = choices.one(&["198.51.100.1", "198.51.100.1", "198.51.100.200"]);
        let own = choices.one(&[
            "203.0.113.1",
            "203.0.113.4",
            "203.0.113.5",
            "203.0.113.8",
            "203.0.113.65",
        ]);
        let [inside, peer, own] = if v6 {
            let own = choices.one(&["2001:db8:f::1", "2001:db8:f::8"]);
            [choices.one(&["fd00::1", "fd00::2"]), "2001:db8:5::1", own]
        } else {
            [inside, peer, own]
        };
        let ports = choices.byte();
        let near = 4000 + u16::from(ports & 3);
        let far = [53, 80, 80, 4000][usize::from(ports >> 2 & 3)];
        let (ingress, source, destination) = match choices.below(8) {
            0..=4 => (1, (inside, near), (peer, far)),
            5 => (
                2,
                (peer, far),
                (own, [80, 4000, 1024, 2000][usize::from(ports >> 4 & 3)]),
            ),
            6 => (
                1,
                (inside, near),
                (own, [80, 4000, 1024, 4001][usize::from(ports >> 4 & 3)]),
            ),
            _ => (2, (peer, far), (inside, near)),
        };
        let end = |(address, port): (&str, u16)| {
            Endpoint::new(address.parse().unwrap_or(IpAddr::from([0; 4])), port)
        };
        let (source, mut destination) = (end(source), end(destination));
        let protocol = match (icmp, tcp) {
            (true, _) => {
                destination.port = if v6 { 128 << 8 } else { 8 << 8 };
                if v6 { Protocol::ICMPV6 } else { Protocol::ICMP }
            }
            (_, true) => Protocol::TCP,
            _ => Protocol::UDP,
        };
        let key = Tuple::new(source, destination, protocol);
        (ingress, key.unwrap_or_else(|| unreachable!("one family")))
    }

    fn send(&mut self, ingress: u32, key: &Tuple, choices: &mut Choices<'_>) -> Result<(), String> {
        let flags = if key.protocol() == Protocol::TCP {
            choices.one(&[
                TcpFlags::SYN,
                TcpFlags::SYN,
                TcpFlags::ACK,
                TcpFlags::RST,
                TcpFlags::SYN.union(TcpFlags::ACK),
            ])
        } else {
            TcpFlags::NONE
        };
        let payload = [choices.byte(), 7];
        let sent = self.gateway.send(ingress, &packet(key, flags, &payload))?;
        let now = self.gateway.now;
        if let Some(linear) = &mut self.linear {
            let fate = sent.as_ref().map(|sent| (sent.key, sent.egress));
            let pool = self.gateway.nat().pool(PoolId(0));
            linear.judge(key, ingress, now, fate, |who| {
                pool.and_then(|pool| pool.address_of(who))
            })?;
        }
        if let Some(sent) = sent {
            let back = sent.egress.unwrap_or(2);
            if !self.wires.contains(&(back, sent.key)) {
                self.wires.push((back, sent.key));
            }
        }
        Ok(())
    }

    fn error(&mut self, choices: &mut Choices<'_>) -> Result<(), String> {
        let Some((ingress, wire)) = self.wire(choices) else {
            return Ok(());
        };
        let key = wire.at(Default::default());
        let (source, destination) = (key.source().address, key.destination().address);
        let router = match (choices.below(2), key) {
            (0, _) => destination,
            (_, Tuple::V4(_)) => IpAddr::from([192, 0, 2, 7]),
            (_, Tuple::V6(_)) => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 7]),
        };
        let bytes = error(router, source, &packet(&key, TcpFlags::ACK, b"quoted"));
        let mut copy = bytes.clone();
        let outer = Frame::<Tuple>::ip(&mut copy, &Arrival::default())
            .map_err(say)?
            .key();
        let sent = self.gateway.send(ingress, &bytes)?;
        if let Some(linear) = &mut self.linear {
            linear.expire(self.gateway.now);
            let expected = linear.error(&outer, &key);
            let got = sent.as_ref().map(|sent| {
                let quoted = sent.quoted().map(|key| key.at(Default::default()));
                (sent.key.source(), sent.key.destination(), quoted)
            });
            let port = outer.destination().port;
            let expected = (
                expected.0,
                Endpoint::new(expected.1.address, port),
                Some(expected.2),
            );
            if got != Some(expected) {
                return Err(format!(
                    "error {outer} quoting {key}: expected {expected:?}, got {got:?}"
                ));
            }
        }
        Ok(())
    }

    fn wire(&self, choices: &mut Choices<'_>) -> Option<(u32, Tuple)> {
        let at = usize::from(choices.byte());
        let last = self.wires.len().checked_sub(1)?;
        self.wires.get(last.saturating_sub(at % 16)).copied()
    }

    fn play(&mut self, choices: &mut Choices<'_>) -> Result<(), String> {
        match choices.below(32) {
            0..=13 => {
                let (ingress, key) = self.key(choices);
                self.send(ingress, &key, choices)?;
            }
            14..=19 => {
                if let Some((ingress, wire)) = self.wire(choices) {
                    if let Some(answer) = wire.inverse() {
                        self.send(ingress, &answer.at(Default::default()), choices)?;
                    }
                }
            }
            20 | 21 => self.error(choices)?,
            22 => {
                self.gateway
                    .wait(Duration::from_secs(u64::from(choices.byte()) / 8));
                if let Some(linear) = &mut self.linear {
                    linear.expire(self.gateway.now);
                }
            }
            23 => {
                let at = usize::from(choices.byte());
                let menu = menu();
                let rule = menu[at % menu.len()].clone();
                let text = rule.text();
                let parsed: crate::hooks::nat::Rule = text.parse().map_err(say)?;
                let first = at & 0x80 != 0;
                let place = if first { Place::First } else { Place::Last };
                let inserted = self.gateway.edit(|(nat, ..)| {
                    let inserted = nat.insert(place, parsed.clone());
                    inserted.map(|(_, change)| change).map_err(say)
                });
                // A rule for one family whose pool is of the other is refused.
                if let (Ok(()), Some(linear)) = (inserted, &mut self.linear) {
                    let at = if first { 0 } else { linear.rules.len() };
                    linear.rules.insert(at, rule);
                }
            }
            24 => {
                let nat = self.gateway.nat();
                let ends = [End::Source, End::Destination];
                let all: Vec<_> = ends
                    .iter()
                    .flat_map(|end| nat.rules(*end))
                    .map(|(id, rule, _)| (id, rule.to_string()))
                    .collect();
                let at = usize::from(choices.byte()) % all.len().max(1);
                if let Some((id, text)) = all.get(at) {
                    self.gateway.edit(|(nat, ..)| {
                        nat.remove(*id, Default::default())
                            .map(|(_, change)| change)
                            .map_err(say)
                    })?;
                    if let Some(linear) = &mut self.linear {
                        // Among equal rules it is the same one, for another may stand in between.
                        let before = all[..at].iter().filter(|(_, other)| other == text).count();
                        let same = |rule: &LinearRule| {
                            let parsed = rule.text().parse::<crate::hooks::nat::Rule>();
                            parsed.is_ok_and(|rule| rule.to_string() == *text)
                        };
                        let mut equal =
                            (0..linear.rules.len()).filter(|at| same(&linear.rules[*at]));
                        let at = equal.nth(before);
                        let at = at.ok_or("a rule that the twin does not have")?;
                        linear.rules.remove(at);
                    }
                }
            }
            25 => {
                let (_, key) = self.key(choices);
                let port = choices.one(&[1024, 1025, 4000, 2000, 80]);
                let pool = self.gateway.nat().pool(PoolId(0));
                let first = pool.and_then(|pool| pool.config().addresses.first());
                let first = first.copied().unwrap_or(IpAddr::from([203, 0, 113, 8]));
                let outside = Endpoint::new(first, port);
                let taken = self
                    .gateway
                    .with(|nat| nat.forward(PoolId(0), &key, outside).is_ok());
                if let Some(linear) = &mut self.linear {
                    linear.forward(&key, outside, taken)?;
                }
            }
            26 => {
                let (_, key) = self.key(choices);
                let gone = self.gateway.with(|nat| nat.unforward(&key));
                if self
                    .linear
                    .as_mut()
                    .is_some_and(|linear| linear.unforward(&key) != gone)
                {
                    return Err(format!("unforward {key}: {gone}"));
                }
            }
            27 => {
                let all: Vec<_> = self
                    .gateway
                    .nat()
                    .tracker()
                    .iter()
                    .map(|one| (one.id(), *one.tuple(crate::hook::Direction::Original)))
                    .collect();
                if let Some((id, original)) =
                    all.get(usize::from(choices.byte()) % all.len().max(1))
                {
                    let now = self.gateway.now;
                    // The translator learns the time with it, as it gives ports back now.
                    self.gateway.with(|nat| {
                        let deleted = nat.tracker_mut().delete(*id);
                        let _ = nat.maintain(now, 0);
                        deleted
                    });
                    if let Some(linear) = &mut self.linear {
                        linear.end(original, now);
                    }
                }
            }
            28 => {
                let (_, key) = self.key(choices);
                self.gateway.cache.remove(Origin::Received, &key);
            }
            29 if self.linear.is_none() => {
                self.gateway.with(|nat| nat.flush(Interface(2)));
            }
            30 if self.linear.is_none() => {
                self.gateway.now =
                    self.gateway.now + Duration::from_secs(u64::from(choices.byte()));
            }
            _ => self.gateway.cache.clear(),
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<(), String> {
        self.gateway.check()?;
        let Some(linear) = &self.linear else {
            return Ok(());
        };
        let nat = self.gateway.nat();
        let mut tuples: Vec<[Tuple; 2]> = nat
            .tracker()
            .iter()
            .map(|one| crate::hook::Direction::BOTH.map(|direction| *one.tuple(direction)))
            .collect();
        tuples.sort();
        if tuples != linear.tuples() {
            return Err(format!(
                "connections: expected {:?}, got {tuples:?}",
                linear.tuples()
            ));
        }
        let mut mappings: Vec<_> = nat
            .mappings()
            .map(|one| {
                (
                    one.protocol().0,
                    one.inside.source(),
                    one.outside,
                    one.fixed,
                    one.sessions,
                )
            })
            .collect();
        mappings.sort();
        if mappings != linear.mappings() {
            return Err(format!(
                "mappings: expected {:?}, got {mappings:?}",
                linear.mappings()
            ));
        }
        let lent = nat.pool(PoolId(0)).map(Pool::lent);
        if lent != linear.pool.as_ref().map(LinearPool::lent) {
            return Err(format!("{lent:?} ports lent"));
        }
        Ok(())
    }
}

/// Plays the story that the bytes tell; gives the number of packets that the cache answered.
///
/// # Errors
///
/// The first difference, and after how many operations.
pub fn nat(bytes: &[u8]) -> Result<u64, String> {
    let mut choices = Choices::new(bytes);
    let mut story = Story::new(&mut choices)?;
    let mut number = 0;
    while !choices.is_empty() {
        story
            .play(&mut choices)
            .map_err(|what| format!("operation {number}: {what}"))?;
        number += 1;
    }
    Ok(story.gateway.cache.stats().cached())
}

/// Plays openings and closings to a pool and its twin.
///
/// # Errors
///
/// The first difference.
pub fn pool_story(bytes: &[u8]) -> Result<(), String> {
    let mut choices = Choices::new(bytes);
    let config = pool(&mut choices);
    let mut real = Pool::try_new(config.clone(), [1, 2]).map_err(say)?;
    let first = config.addresses.first().copied();
    let first = first.ok_or("a pool without addresses")?;
    let v6 = first.is_ipv6();
    let mut twin = LinearPool::new(config);
    let mut now = Instant::from_secs(1);
    let mut held: Vec<(IpAddr, Protocol, Endpoint)> = Vec::new();
    let mut forwards: Vec<(Protocol, Endpoint)> = Vec::new();
    while !choices.is_empty() {
        let op = choices.byte();
        let who = match v6 {
            false => IpAddr::from([10, 0, 0, op >> 5]),
            true => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(op >> 5)]),
        };
        let protocol = choices.one(&[
            Protocol::UDP,
            Protocol::UDP,
            Protocol::TCP,
            Protocol::ICMPV6,
            Protocol::SCTP,
        ]);
        match op & 15 {
            0..=7 => {
                let wanted = choices.one(&[1024, 1025, 1026, 4000, 4001, 4007, 50_000]);
                let paired = real.address_of(who);
                let got = real.open(who, protocol, wanted, now);
                let seen = got.map(|lent| (lent.outside, lent.block));
                twin.opened(who, protocol, wanted, now, paired, seen, |_| true)?;
                if let Ok(lent) = got {
                    held.push((who, protocol, lent.outside));
                }
            }
            8..=11 => {
                if !held.is_empty() {
                    let (who, protocol, outside) =
                        held.swap_remove(usize::from(choices.byte()) % held.len());
                    let got = real.close(who, protocol, outside, now);
                    let expected = twin.close(who, protocol, outside, now);
                    if got != expected || got.is_none() {
                        return Err(format!(
                            "close {outside:?}: expected {expected:?}, got {got:?}"
                        ));
                    }
                    if real.close(who, protocol, outside, now).is_some() {
                        return Err(format!("{outside:?} was taken back twice"));
                    }
                }
            }
            12 => {
                let outside =
                    Endpoint::new(IpAddr::from([203, 0, 113, 8]), 1024 + choices.below(4));
                let got = real.reserve(protocol, outside);
                if got != twin.reserve(protocol, outside) {
                    return Err(format!("reserve {outside:?}: {got}"));
                }
                if got {
                    forwards.push((protocol, outside));
                }
            }
            13 => {
                if let Some((protocol, outside)) = forwards.pop() {
                    real.restore(protocol, outside);
                    twin.restore(protocol, outside);
                }
            }
            _ => now = now + Duration::from_millis(u64::from(choices.byte()) * 100),
        }
        real.check()?;
        if real.lent() != twin.lent() || real.ports_of(who) as usize != twin.ports_of(who) {
            return Err(format!("{} lent, {} by the twin", real.lent(), twin.lent()));
        }
    }
    Ok(())
}

/// A story of the translator or, where the last byte is odd and below 64, of its pool alone.
///
/// # Errors
///
/// The first difference.
pub fn either(bytes: &[u8]) -> Result<(), String> {
    match bytes.split_last() {
        Some((last, rest)) if *last < 64 && last % 2 == 1 => pool_story(rest),
        _ => nat(bytes).map(|_| ()),
    }
}
