//! A packet that is nothing but its facts, and small worlds to draw packets from.

use alloc::format;
use alloc::string::String;

use crate::cookie::FlowCookie;
use crate::key::{Endpoint, Family, FlowKey, Locality, Protocol, Tuple, Zone};
use crate::packet::{Defect, Fragment, Interface, Origin, Packet, Rewrite, TcpFlags};

/// A packet without bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToyPacket {
    /// Its key, changed by rewriting.
    pub key: Tuple,
    /// Its TCP flags.
    pub flags: TcpFlags,
    /// Its length.
    pub length: u32,
    /// Received or local.
    pub origin: Origin,
    /// Where it arrived.
    pub ingress: Interface,
    /// Whether it is a fragment.
    pub fragment: Fragment,
    /// What is wrong with it.
    pub defect: Option<Defect>,
    /// Its cookie.
    pub cookie: Option<FlowCookie>,
    /// Its hop limit.
    pub hop_limit: u8,
}

impl ToyPacket {
    /// A whole received packet of 100 bytes that arrived on interface 1, an ACK if it is TCP.
    pub fn new(key: impl Into<Tuple>) -> Self {
        let key = key.into();
        let flags = if key.protocol() == Protocol::TCP {
            TcpFlags::ACK
        } else {
            TcpFlags::NONE
        };
        Self {
            key,
            flags,
            length: 100,
            origin: Origin::Received,
            ingress: Interface(1),
            fragment: Fragment::Whole,
            defect: None,
            cookie: None,
            hop_limit: 64,
        }
    }

    /// The packet with these flags.
    #[must_use]
    pub fn with_flags(self, flags: TcpFlags) -> Self {
        Self { flags, ..self }
    }
}

impl Packet for ToyPacket {
    type Key = Tuple;

    fn key(&self) -> Tuple {
        self.key
    }
    fn origin(&self) -> Origin {
        self.origin
    }
    fn ingress(&self) -> Interface {
        self.ingress
    }
    fn length(&self) -> u32 {
        self.length
    }
    fn fragment(&self) -> Fragment {
        self.fragment
    }
    fn tcp_flags(&self) -> TcpFlags {
        self.flags
    }
    fn transport(&self) -> &[u8] {
        &[]
    }
    fn transport_length(&self) -> u32 {
        self.length.saturating_sub(20)
    }
    fn defect(&self) -> Option<Defect> {
        self.defect
    }
    fn hop_limit(&self) -> u8 {
        self.hop_limit
    }
    fn cookie(&self) -> Option<FlowCookie> {
        self.cookie
    }
    fn rewrite(&mut self, rewrite: &Rewrite<Tuple>) {
        self.key = rewrite.to;
    }
    fn set_hop_limit(&mut self, hop_limit: u8) {
        self.hop_limit = hop_limit;
    }
}

/// Bytes as a source of choices: what a fuzzer or proptest makes is read as operations, and never runs out of meaning, only
/// of bytes.
#[derive(Clone, Debug)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// Choices made by these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether there are none left.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Plays a story: one operation after the other, as long as there are choices.
    ///
    /// # Errors
    ///
    /// The first operation's that fails, and its number.
    pub fn play_all(
        &mut self,
        mut play: impl FnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut number = 0;
        while !self.is_empty() {
            play(self).map_err(|what| format!("operation {number}: {what}"))?;
            number += 1;
        }
        Ok(())
    }

    /// The next byte; 0 past the end.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// A number below `bound`, at most 256.
    pub fn below(&mut self, bound: u16) -> u16 {
        u16::from(self.byte()) % bound.max(1)
    }

    /// One of these.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }
}

/// Address `host` of the toy network: 10.0.0.h or 2001:db8::h.
pub fn host(family: Family, host: u8) -> core::net::IpAddr {
    match family {
        Family::V4 => core::net::Ipv4Addr::new(10, 0, 0, host).into(),
        Family::V6 => core::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()).into(),
    }
}

/// The host that is this machine.
pub const LOCAL_HOST: u8 = 3;

/// A packet of a world of four hosts, three ports, three protocols and two families, where flows meet often.
pub fn packet(choices: &mut Choices<'_>) -> ToyPacket {
    let family = choices.one(&[Family::V4, Family::V4, Family::V4, Family::V6]);
    let [from, to] = [choices.below(4) as u8, choices.below(4) as u8];
    let icmp = if family == Family::V4 {
        Protocol::ICMP
    } else {
        Protocol::ICMPV6
    };
    let protocol = choices.one(&[
        Protocol::TCP,
        Protocol::TCP,
        Protocol::TCP,
        Protocol::UDP,
        icmp,
    ]);
    let [mut sport, mut dport] = [choices.below(3), choices.below(3)];
    if protocol.is_icmp() {
        let kinds: &[u16] = if family == Family::V4 {
            &[8, 0, 3]
        } else {
            &[128, 129, 1]
        };
        sport %= 2;
        dport = choices.one(kinds) << 8;
    }
    let zone = Zone::new(u32::from(choices.below(8) == 7)).unwrap_or_default();
    let ends = (
        Endpoint::new(host(family, from), sport),
        Endpoint::new(host(family, to), dport),
    );
    let locality = Locality {
        source: from == LOCAL_HOST,
        destination: to == LOCAL_HOST,
    };
    let key = Tuple::new(ends.0, ends.1, protocol)
        .expect("one family")
        .at(locality)
        .in_zone(zone);
    let mut packet = ToyPacket::new(key);
    packet.origin = if locality.source {
        Origin::Local
    } else {
        Origin::Received
    };
    packet.ingress = Interface(u32::from(1 + choices.below(2)));
    packet.length = choices.one(&[40, 100, 1500]);
    if protocol == Protocol::TCP {
        packet.flags = choices.one(&[
            TcpFlags::ACK,
            TcpFlags::ACK,
            TcpFlags::SYN,
            TcpFlags::SYN.union(TcpFlags::ACK),
            TcpFlags::FIN.union(TcpFlags::ACK),
            TcpFlags::RST,
        ]);
    }
    match choices.below(24) {
        22 => packet.fragment = Fragment::First,
        23 => packet.defect = Some(Defect::TcpHeaderLength),
        _ => {}
    }
    packet
}
