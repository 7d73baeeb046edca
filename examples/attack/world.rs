//! The dataplane under attack, the connections that it protects, and newcomers.

use std::net::{IpAddr, Ipv4Addr};

use gufc::cache::{Config, FlowCache};
use gufc::cookie::FlowCookie;
use gufc::hooks::conntrack::{Config as Tracking, Conntrack, Mode, TcpPhase};
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::key::SevenTuple;
use gufc::packet::{Interface, Origin, Packet, Seq, TcpFlags};
use gufc::testing::prng::SplitMix64;
use gufc::time::{Duration, Instant};
use gufc::wire::build::{Datagram, Tcp, Transport};
use gufc::wire::{Arrival, Frame, Reassembler, Reassembly};

pub(crate) type Key = SevenTuple<Ipv4Addr>;
type Hooks = (Conntrack<Key>, Filter);

/// The server that everybody wants.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Seed of the cache's index; the attacker of "hash flood" knows it.
pub(crate) const SEED: [u64; 2] = [0x6775_6663, 0x2006];

/// What is allowed: replies, and connections to the web server. A thousand further rules stand behind, that nobody meets.
const RULES: &str = "\
ct state established,related accept
ct state invalid drop
tcp dport 443 accept
udp dport 53 accept
";

/// A packet with what its carrier says of it.
#[derive(Clone)]
pub(crate) struct Parcel {
    pub(crate) bytes: Vec<u8>,
    pub(crate) cookie: Option<FlowCookie>,
}

impl From<Vec<u8>> for Parcel {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            cookie: None,
        }
    }
}

/// Both ends of an established connection.
#[derive(Clone, Copy)]
struct Connection {
    client: Ipv4Addr,
    port: u16,
    /// The next sequence numbers, client's first.
    next: [u32; 2],
}

pub(crate) struct World {
    cache: FlowCache<Key, Hooks>,
    reassembler: Reassembler,
    connections: Vec<Connection>,
    newcomers: u32,
    now: Instant,
}

/// What became of whom.
pub(crate) struct Counts {
    /// Connections that are answered by the cache.
    pub(crate) cached: usize,
    /// Connections that the tracker has as established.
    pub(crate) tracked: usize,
    /// Newcomers whose handshake went through.
    pub(crate) newcomers: usize,
}

impl World {
    /// `rules` stand before all others.
    pub(crate) fn new(rules: Vec<String>, flows: u32, capacity: u32) -> Result<Self, String> {
        let mut filter = Filter::new("filter", rules.len() + 2_000, 7, Policy::Drop);
        let fillers =
            (0..1_000).map(|n| format!("ip saddr 203.0.{}.{} udp dport 9 drop", n / 250, n % 250));
        for line in rules
            .into_iter()
            .chain(RULES.lines().map(String::from))
            .chain(fillers)
        {
            let rule = line.parse().map_err(|why| format!("{line}: {why}"))?;
            // Nothing is cached yet.
            let (_, _change) = filter
                .insert(Place::Last, rule)
                .map_err(|why| why.to_string())?;
        }
        let tracking = Tracking {
            mode: Mode::Hardened,
            per_source_max: Some(capacity / 4),
            ..Tracking::new(capacity, [3, 4])
        };
        let tracker = Conntrack::try_new(tracking).map_err(|why| why.to_string())?;
        let config = Config {
            sessions: capacity as usize,
            ..Config::new(SEED)
        };
        let cache = FlowCache::new(config, (tracker, filter)).map_err(|why| why.to_string())?;
        let mut world = Self {
            cache,
            reassembler: Reassembler::new(gufc::wire::Limits::default()),
            connections: Vec::new(),
            newcomers: 0,
            now: Instant::from_secs(1),
        };
        for n in 0..flows {
            let client = Ipv4Addr::from_bits(0x0a00_0000 + n / 4);
            let connection = Connection {
                client,
                port: 20_000 + (n % 4) as u16,
                next: [1_000, 5_000],
            };
            world.shake_hands(client, connection.port);
            world.connections.push(Connection {
                next: [1_001, 5_001],
                ..connection
            });
        }
        // Data each way, twice, so that both directions are judged and complete.
        for round in 0..2 * flows.div_ceil(32) {
            for packet in world.established(round) {
                world.process(packet);
            }
        }
        Ok(world)
    }

    fn shake_hands(&mut self, client: Ipv4Addr, port: u16) {
        for packet in handshake(client, port) {
            self.process(packet.into());
        }
    }

    /// 64 packets of 32 connections, one each way.
    pub(crate) fn established(&mut self, round: u32) -> Vec<Parcel> {
        let mut packets = Vec::new();
        let count = self.connections.len();
        for n in 0..32 {
            let connection = &mut self.connections[(round as usize * 32 + n) % count];
            let [mine, theirs] = connection.next;
            for (from_client, seq, ack) in [(true, mine, theirs), (false, theirs, mine + 100)] {
                packets
                    .push(data(connection.client, connection.port, from_client, seq, ack).into());
            }
            connection.next = [mine + 100, theirs + 100];
        }
        packets
    }

    /// Eight handshakes of hosts not seen before.
    pub(crate) fn newcomers(&mut self, round: u32) -> Vec<Parcel> {
        let hosts = (0..8).map(|n| newcomer(8 * round + n));
        self.newcomers += 8;
        hosts
            .flat_map(|(client, port)| handshake(client, port))
            .map(Parcel::from)
            .collect()
    }

    pub(crate) fn process(&mut self, mut parcel: Parcel) {
        let mut arrival = Arrival::on(Interface(1));
        if let Some(cookie) = parcel.cookie {
            arrival = arrival.with_cookie(cookie);
        }
        let Ok(mut packet) = Frame::<Key>::ip(&mut parcel.bytes, &arrival) else {
            return;
        };
        if packet.fragment().is_part() {
            if let Reassembly::Complete(bytes) = self.reassembler.push(&packet, self.now) {
                let mut bytes = bytes.to_vec();
                if let Ok(mut whole) = Frame::<Key>::ip(&mut bytes, &arrival) {
                    let _ = self.cache.process(&mut whole, self.now);
                }
            }
            return;
        }
        let _ = self.cache.process(&mut packet, self.now);
    }

    /// A hundredth of a second, and the upkeep of it.
    pub(crate) fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(10);
        self.cache.maintain(self.now, 64);
        let now = self.now;
        let upkeep = self.cache.edit(|(tracker, _)| {
            tracker.maintain(now, 64);
            Ok::<_, std::convert::Infallible>(((), gufc::epoch::Change::nothing()))
        });
        match upkeep {
            Ok(_) => {}
        }
    }

    /// Names and numbers that an attacker who sees everything would know.
    pub(crate) fn victim(&self, chance: &mut SplitMix64) -> (Ipv4Addr, u16, [u32; 2]) {
        let one = &self.connections[chance.below(self.connections.len() as u64) as usize];
        (one.client, one.port, one.next)
    }

    /// The cookie of a connection, to be replayed.
    pub(crate) fn cookie(&self, client: Ipv4Addr, port: u16) -> Option<FlowCookie> {
        self.cache.cookie(Origin::Received, &key(client, port))
    }

    /// The most slots that a lookup of an established connection touches.
    pub(crate) fn slots(&self) -> u32 {
        let keys = self.connections.iter().map(|one| key(one.client, one.port));
        keys.map(|key| self.cache.trace(Origin::Received, &key).slots)
            .max()
            .unwrap_or(0)
    }

    /// The slots that looking up a packet of the attacker's touches.
    pub(crate) fn slots_of(&self, parcel: &Parcel) -> u32 {
        let mut bytes = parcel.bytes.clone();
        let packet = Frame::<Key>::ip(&mut bytes, &Arrival::on(Interface(1)));
        packet.map_or(0, |packet| {
            self.cache.trace(Origin::Received, &packet.key()).slots
        })
    }

    pub(crate) fn counts(&mut self) -> Counts {
        let established = |world: &Self, client, port| {
            let tracker = &world.cache.hooks().0;
            let found = tracker.find(&key(client, port), world.now);
            let one = found.and_then(|(id, _)| tracker.connection(id));
            one.is_some_and(|one| one.tcp_phase() == Some(TcpPhase::Established))
        };
        let alive = |one: &&Connection| established(self, one.client, one.port);
        let tracked = self.connections.iter().filter(alive).count();
        let cached = self
            .connections
            .iter()
            .filter(|one| self.cookie(one.client, one.port).is_some());
        let cached = cached.count();
        let hosts = (0..self.newcomers).map(newcomer);
        let newcomers = hosts
            .filter(|(client, port)| established(self, *client, *port))
            .count();
        Counts {
            cached,
            tracked,
            newcomers,
        }
    }
}

fn newcomer(n: u32) -> (Ipv4Addr, u16) {
    (Ipv4Addr::from_bits(0x0b00_0000 + n), 30_000)
}

fn key(client: Ipv4Addr, port: u16) -> Key {
    SevenTuple::new(client, SERVER, gufc::key::Protocol::TCP, port, 443)
}

pub(crate) fn emit(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    transport: impl Into<Transport>,
    payload: &[u8],
) -> Vec<u8> {
    let datagram = Datagram::new(IpAddr::V4(source), IpAddr::V4(destination), transport);
    datagram.with_payload(payload).emit().unwrap_or_default()
}

/// A segment between a client and the server.
pub(crate) fn segment(
    client: Ipv4Addr,
    port: u16,
    from_client: bool,
    flags: TcpFlags,
    seq: u32,
    ack: u32,
    payload: &[u8],
) -> Vec<u8> {
    let (from, to) = if from_client {
        (client, SERVER)
    } else {
        (SERVER, client)
    };
    let ports = if from_client {
        (port, 443)
    } else {
        (443, port)
    };
    let tcp = Tcp {
        flags,
        seq: Seq(seq),
        ack: Seq(ack),
        ..Tcp::new(ports.0, ports.1)
    };
    emit(from, to, tcp, payload)
}

fn data(client: Ipv4Addr, port: u16, from_client: bool, seq: u32, ack: u32) -> Vec<u8> {
    let flags = TcpFlags::ACK | TcpFlags::PSH;
    segment(client, port, from_client, flags, seq, ack, &[0; 100])
}

fn handshake(client: Ipv4Addr, port: u16) -> [Vec<u8>; 3] {
    [
        segment(client, port, true, TcpFlags::SYN, 1_000, 0, &[]),
        segment(
            client,
            port,
            false,
            TcpFlags::SYN | TcpFlags::ACK,
            5_000,
            1_001,
            &[],
        ),
        segment(client, port, true, TcpFlags::ACK, 1_001, 5_001, &[]),
    ]
}
