//! A translating gateway of real bytes, twice: behind the cache and without it.
//!
//! Whatever passes is compared between both, and with checksums computed in full.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::frame::recompute;
use super::linear_nat::Surroundings;
use super::uncached::Uncached;
use crate::cache::{self, FlowCache};
use crate::epoch::Change;
use crate::hooks::conntrack::{Config as Tracking, Conntrack};
use crate::hooks::filter::{Filter, Policy};
use crate::hooks::nat::{Nat, Place, PoolConfig};
use crate::hooks::route::{Options, Routes, Target};
use crate::key::{FlowKey, Protocol, Tuple};
use crate::packet::{Interface, Packet, TcpFlags};
use crate::time::{Duration, Instant};
use crate::verdict::{Path, Verdict};
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
    /// What befell the last packet.
    pub verdict: Verdict,
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

pub(super) fn say(why: impl ToString) -> String {
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
            verdict: Verdict::Accept,
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
        self.verdict = got.verdict;
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
