//! The attacks: which rules they bring, and which packets they send.

use std::net::Ipv4Addr;

use gufc::cookie::FlowCookie;
use gufc::packet::TcpFlags;
use gufc::testing::prng::SplitMix64;
use gufc::wire::build::{Tcp, Transport};

use crate::world::{Parcel, SEED, SERVER, World, emit, segment};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    Quiet,
    HashFlood,
    PortScan,
    AddressSweep,
    SynFlood,
    TupleSpace,
    Churn,
    NestedRules,
    CookieReplay,
    FragmentSpray,
    ResetForgery,
    ErrorForgery,
}

impl Attack {
    pub(crate) const ALL: [Self; 12] = [
        Self::Quiet,
        Self::HashFlood,
        Self::PortScan,
        Self::AddressSweep,
        Self::SynFlood,
        Self::TupleSpace,
        Self::Churn,
        Self::NestedRules,
        Self::CookieReplay,
        Self::FragmentSpray,
        Self::ResetForgery,
        Self::ErrorForgery,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::HashFlood => "hash flood, known key",
            Self::PortScan => "port scan",
            Self::AddressSweep => "address sweep",
            Self::SynFlood => "SYN flood",
            Self::TupleSpace => "tuple-space explosion",
            Self::Churn => "churn at capacity",
            Self::NestedRules => "nested rules",
            Self::CookieReplay => "cookie replay",
            Self::FragmentSpray => "fragment spray",
            Self::ResetForgery => "RST forgery",
            Self::ErrorForgery => "ICMP forgery",
        }
    }

    /// Rules that the attack needs: those of a tenant who may write rules, or of an owner who has many lengths of prefixes.
    pub(crate) fn rules(self) -> Vec<String> {
        let prefix = |bits: u32, length: u32| {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
            format!("{}/{length}", Ipv4Addr::from_bits(bits & mask))
        };
        let pairs = (1..=32).flat_map(|s| (1..=32).map(move |d| (s, d)));
        match self {
            // Every pair of lengths once, so that a cache of megaflows would need a mask for each.
            Self::TupleSpace => pairs
                .map(|(s, d)| {
                    format!(
                        "ip saddr {} ip daddr {} udp dport 7 drop",
                        prefix(0x5555_5555, s),
                        prefix(0x3333_3333, d)
                    )
                })
                .collect(),
            // All of them match one packet.
            Self::NestedRules => pairs
                .map(|(s, d)| {
                    format!(
                        "ip saddr {} ip daddr {} tcp dport 443 tcp flags urg drop",
                        prefix(0xc000_0201, s),
                        prefix(SERVER.to_bits(), d)
                    )
                })
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// The packets of one attacker.
pub(crate) struct Packets {
    attack: Attack,
    chance: SplitMix64,
    sent: u32,
    /// A cookie that was good once.
    old: Option<FlowCookie>,
    /// Two addresses, the first factor of the index's hash: whatever else a key has, its header is the same.
    collision: [Ipv4Addr; 2],
}

impl Packets {
    pub(crate) fn new(attack: Attack, world: &World) -> Self {
        let mut chance = SplitMix64(0x00a7_7ac4);
        let (client, port, _) = world.victim(&mut chance);
        let secret = first_secret(SEED);
        Self {
            attack,
            old: world.cookie(client, port),
            chance,
            sent: 0,
            collision: [(secret >> 32) as u32, secret as u32].map(Ipv4Addr::from_bits),
        }
    }

    pub(crate) fn next(&mut self, world: &World) -> Parcel {
        let n = self.sent;
        self.sent += 1;
        let random = self.chance.next();
        let anybody = Ipv4Addr::from_bits(0xc000_0000 | (random as u32) >> 4);
        let attacker = Ipv4Addr::new(192, 0, 2, 1);
        let low = n as u16;
        let bytes = match self.attack {
            Attack::Quiet => {
                let (client, port, [seq, ack]) = world.victim(&mut self.chance);
                segment(client, port, true, TcpFlags::ACK, seq, ack, &[])
            }
            Attack::HashFlood => {
                let [source, destination] = self.collision;
                emit(source, destination, Transport::udp(low, 53), &[])
            }
            Attack::PortScan => syn(attacker, SERVER, 40_000, low),
            Attack::AddressSweep => syn(
                attacker,
                Ipv4Addr::from_bits(SERVER.to_bits() ^ n),
                40_000,
                445,
            ),
            Attack::SynFlood => syn(anybody, SERVER, (random >> 40) as u16, 443),
            Attack::TupleSpace => {
                // An address that leaves the rules' common path at a bit of the attacker's choice, on either side.
                let leave = |bits: u32, at: u32, rest: u32| {
                    let below = u32::MAX.checked_shr(at + 1).unwrap_or(0);
                    Ipv4Addr::from_bits((bits ^ 1 << (31 - at)) & !below | rest & below)
                };
                let source = leave(0x5555_5555, n % 32, random as u32);
                let destination = leave(0x3333_3333, n / 32 % 32, (random >> 32) as u32);
                emit(source, destination, Transport::udp(low, 7), &[])
            }
            Attack::Churn => {
                // Whole handshakes, from hosts that never come again.
                let host = Ipv4Addr::from_bits(0xc600_0000 + n / 3);
                match n % 3 {
                    0 => segment(host, 1_000, true, TcpFlags::SYN, 1, 0, &[]),
                    1 => segment(host, 1_000, false, TcpFlags::SYN | TcpFlags::ACK, 9, 2, &[]),
                    _ => segment(host, 1_000, true, TcpFlags::ACK, 2, 10, &[]),
                }
            }
            Attack::NestedRules => syn(attacker, SERVER, low, 443),
            Attack::CookieReplay => {
                let cookie = match n % 3 {
                    0 => self.old,
                    1 => Some(FlowCookie::from_bits(random)),
                    _ => self.old.map(|old| FlowCookie {
                        slot: (random >> 32) as u32 % 16_384,
                        ..old
                    }),
                };
                let bytes = syn(anybody, SERVER, (random >> 40) as u16, 443);
                return Parcel { bytes, cookie };
            }
            Attack::FragmentSpray => {
                let mut bytes = emit(anybody, SERVER, Transport::udp(low, 53), &[0; 64]);
                // "More fragments", an identification of its own, and the header's checksum again.
                bytes[4..6].copy_from_slice(&low.to_be_bytes());
                bytes[6..8].copy_from_slice(&[0x20, 0]);
                bytes[10..12].copy_from_slice(&[0, 0]);
                let sum = gufc::wire::checksum::checksum(&bytes[..20]);
                bytes[10..12].copy_from_slice(&sum.to_be_bytes());
                bytes
            }
            Attack::ResetForgery => {
                let (client, port, _) = world.victim(&mut self.chance);
                let flags =
                    [TcpFlags::RST, TcpFlags::RST | TcpFlags::ACK, TcpFlags::SYN][n as usize % 3];
                segment(
                    client,
                    port,
                    n % 2 == 0,
                    flags,
                    random as u32,
                    (random >> 32) as u32,
                    &[],
                )
            }
            Attack::ErrorForgery => {
                let (client, port, _) = world.victim(&mut self.chance);
                let quoted = segment(client, port, true, TcpFlags::ACK, random as u32, 0, &[]);
                emit(anybody, client, Transport::error(3, 3), &quoted[..28])
            }
        };
        bytes.into()
    }
}

fn syn(source: Ipv4Addr, destination: Ipv4Addr, from: u16, to: u16) -> Vec<u8> {
    let tcp = Tcp {
        flags: TcpFlags::SYN,
        ..Tcp::new(from, to)
    };
    emit(source, destination, tcp, &[])
}

/// What an attacker who knows the seed works out: the mask of the key's first word. A key whose addresses are this mask has a
/// first factor of 0, and all such keys have one header.
fn first_secret(seed: [u64; 2]) -> u64 {
    let mix = |mut z: u64| {
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    let a = seed[0].wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = seed[1].wrapping_add(0xd1b5_4a32_d192_ed03);
    (mix(a) ^ mix(b).rotate_left(32)) | 1
}
