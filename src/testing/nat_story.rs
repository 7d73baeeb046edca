//! Stories of packets, edits, ticks and deletions that both gateways and the slow twin are told, and of openings and closings for
//! a pool alone.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::linear_nat::{LinearNat, LinearRule};
use super::linear_pool::LinearPool;
use super::nat::{Gateway, error, packet, say, surroundings};
use super::toy::Choices;
use crate::hooks::conntrack::{Config as Tracking, TimeoutClass, Timeouts};
use crate::hooks::filter::{Policy, parse_rules};
use crate::hooks::nat::{
    Action, Allocation, End, Filtering, Place, Pool, PoolConfig, PoolId, Range,
};
use crate::key::{Cidr, Endpoint, FlowKey, Ports, Protocol, Tuple};
use crate::packet::{Interface, Origin, Packet, TcpFlags};
use crate::time::{Duration, Instant};
use crate::verdict::{Answer, Verdict};
use crate::wire::{Arrival, Frame};

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
        by_pool(),
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

/// What leaves goes by the pool.
fn by_pool() -> LinearRule {
    LinearRule {
        interfaces: [None, Some(2)],
        prefixes: [None, None],
        port: None,
        action: Action::Pool(PoolId(0)),
    }
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
        let mut pool = pool(choices);
        pool.answer = [
            None,
            Some(Answer::AdminProhibited),
            pool.answer,
            pool.answer,
        ][usize::from(bits >> 2 & 3)];
        let answer = (bits & 16 != 0).then_some(Answer::NoRoute);
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
        gateway.with(|nat| nat.set_answer(answer));
        let mut linear = (!small).then(|| LinearNat::new(around, Some(pool)));
        if let Some(linear) = &mut linear {
            linear.answer = answer;
        }
        let mut story = Self {
            gateway,
            linear,
            wires: Vec::new(),
        };
        if bits & 32 != 0 {
            // From the beginning, so that the pool runs out.
            story.insert(by_pool(), true)?;
        }
        Ok(story)
    }

    /// Inserts a rule before or behind all others.
    fn insert(&mut self, rule: LinearRule, first: bool) -> Result<(), String> {
        let parsed: crate::hooks::nat::Rule = rule.text().parse().map_err(say)?;
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
        Ok(())
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
            let fate = match (&sent, self.gateway.verdict) {
                (Some(sent), _) => Ok((sent.key, sent.egress)),
                (None, Verdict::Reject(answer)) => Err(Some(answer)),
                (None, _) => Err(None),
            };
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
                self.insert(rule, at & 0x80 != 0)?;
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
    choices.play_all(|choices| story.play(choices))?;
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
