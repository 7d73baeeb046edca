//! Answers to packets that go no further: TCP resets and ICMP errors, written into the caller's buffer.
//!
//! Apart from the frame, which only reads and rewrites. The cache names the answer
//! ([`Verdict::Reject`](crate::verdict::Verdict::Reject)), the caller has it written and sends it. Above all this file knows
//! when to be silent: whoever answers errors, groups or forged senders makes storms.

use core::fmt;
use core::net::IpAddr;

use super::layout::put_at;
use super::{Frame, FrameKey, checksum, quote};
use crate::key::{Family, Protocol};
use crate::packet::{Fragment, Mtus, Packet, Segment, TcpFlags};
use crate::verdict::Answer;

/// Bytes that every answer fits in: IPv6's smallest MTU, to which an error is cut (RFC 4443 section 2.4 c).
pub const ANSWER_MAX: usize = 1280;
/// The same for ICMP (RFC 1812 section 4.3.2.3).
const ANSWER_MAX_V4: usize = 576;
/// Time to live of an answer, as IANA recommends.
const HOP_LIMIT: u8 = 64;
/// Bytes of a TCP header without options.
const TCP: usize = 20;
/// Bytes before the quoted packet in an ICMP error.
const ICMP: usize = 8;

/// What the sender of a packet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Notice {
    /// It was rejected.
    Rejected(Answer),
    /// Its time to live or hop limit ran out: ICMP 11/0, ICMPv6 3/0.
    HopLimitExceeded,
    /// It does not fit the next link: ICMP 3/4 (RFC 1191), ICMPv6 2/0.
    TooBig {
        /// Bytes of the largest packet that does; in IPv4 65,535 at most.
        mtu: u32,
    },
}

impl From<Answer> for Notice {
    fn from(answer: Answer) -> Self {
        Self::Rejected(answer)
    }
}

impl Notice {
    /// Type, code and the four bytes behind the checksum; `None` for a reset.
    fn icmp(self, family: Family) -> Option<([u8; 2], [u8; 4])> {
        let (v4, v6, rest) = match self {
            // Without a length at hand: what every path between the families takes.
            Self::Rejected(Answer::TooBig) => {
                let mtu = Mtus::MIN.told(family);
                return Self::TooBig { mtu }.icmp(family);
            }
            Self::Rejected(answer) => {
                let (v4, v6) = answer.icmp()?;
                (v4, v6, 0)
            }
            Self::HopLimitExceeded => ([11, 0], [3, 0], 0),
            Self::TooBig { mtu } => match family {
                Family::V4 => ([3, 4], [2, 0], mtu.min(0xffff)),
                Family::V6 => ([3, 4], [2, 0], mtu),
            },
        };
        let kind = match family {
            Family::V4 => v4,
            Family::V6 => v6,
        };
        Some((kind, rest.to_be_bytes()))
    }
}

/// Why a packet gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Unanswered {
    /// A reset was asked for a packet that is not TCP.
    NotTcp,
    /// It is a reset itself (RFC 9293 section 3.10.7.1).
    Reset,
    /// It is an ICMP error or redirect itself (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e).
    Error,
    /// It was sent to a group or to everybody, by its address or on its link.
    Group,
    /// Its source names no single host: unspecified, a group, broadcast.
    Source,
    /// It is a fragment other than the first, or, for a reset, any fragment.
    Fragment,
    /// Its header is defective or its checksum wrong, so that its sender may be somebody else.
    Corrupt,
    /// The address to answer from is of the other family.
    Family,
    /// The buffer is too short. [`ANSWER_MAX`] bytes always suffice.
    Room,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTcp => "a reset answers TCP only",
            Self::Reset => "a reset is not answered",
            Self::Error => "an ICMP error is not answered",
            Self::Group => "sent to a group",
            Self::Source => "the source is no single host",
            Self::Fragment => "a fragment is not answered",
            Self::Corrupt => "defective or corrupt",
            Self::Family => "the answering address is of the other family",
            Self::Room => "no room for the answer",
        })
    }
}

impl core::error::Error for Unanswered {}

impl<K: FrameKey> Frame<'_, K> {
    /// Writes the answer to this packet to the start of `out`, from its network header on, and says how long it is.
    ///
    /// An ICMP error comes from `from`, an address of this machine, and quotes the packet as it is now: as much as fits 576
    /// bytes (IPv4), 1,280 bytes (IPv6), or `out`. A reset comes from the packet's own destination and continues its
    /// sequence numbers (RFC 9293 section 3.10.7.1). IPv4's identification is 0; the answer carries "don't fragment" where
    /// that is allowed to be so (RFC 6864 section 4.1).
    ///
    /// ```
    /// use gufc::packet::{Packet, Seq, TcpFlags};
    /// use gufc::verdict::Answer;
    /// use gufc::wire::build::{Datagram, Tcp};
    /// use gufc::wire::{ANSWER_MAX, Arrival, Frame};
    ///
    /// let syn = Tcp { flags: TcpFlags::SYN, seq: Seq(1000), ..Tcp::new(40000, 23) };
    /// let mut bytes = Datagram::new("10.0.0.2".parse()?, "192.0.2.1".parse()?, syn).emit()?;
    /// let frame: Frame = Frame::ip(&mut bytes, &Arrival::default())?;
    /// let mut out = [0; ANSWER_MAX];
    /// let length = frame.answer(Answer::TcpReset.into(), "10.0.0.1".parse()?, &mut out)?;
    ///
    /// let reset: Frame = Frame::ip(&mut out[..length], &Arrival::default())?;
    /// assert_eq!(reset.key().to_string(), "tcp 192.0.2.1:23 > 10.0.0.2:40000");
    /// assert_eq!(reset.segment().unwrap().ack, Seq(1001));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Why the packet gets no answer; then `out` holds nothing of use.
    ///
    /// Cost: one pass over the packet (its checksum is verified) and one over the answer.
    pub fn answer(
        &self,
        notice: Notice,
        from: IpAddr,
        out: &mut [u8],
    ) -> Result<usize, Unanswered> {
        self.answerable(notice)?;
        let key = self.key.fields();
        let sender = key.family.address(key.source);
        match notice.icmp(key.family) {
            None => {
                let segment = self.resettable()?;
                let here = key.family.address(key.destination);
                let mut tcp = reset(&segment);
                put_at(&mut tcp, 0, key.destination_port.to_be_bytes());
                put_at(&mut tcp, 2, key.source_port.to_be_bytes());
                let network = network(out, here, sender, Protocol::TCP, 0, TCP)?;
                network.finish(out, &tcp, &[], 16)
            }
            Some((kind, rest)) => {
                if Family::align(from).0 != key.family {
                    return Err(Unanswered::Family);
                }
                let (protocol, limit, header) = match key.family {
                    Family::V4 => (Protocol::ICMP, ANSWER_MAX_V4, 20),
                    Family::V6 => (Protocol::ICMPV6, ANSWER_MAX, 40),
                };
                let class = match key.family {
                    // Internetwork control, with the packet's own type of service (RFC 1812 section 4.3.2.5).
                    Family::V4 => self.traffic_class() & 0x1e | 0xc0,
                    Family::V6 => 0,
                };
                let room = limit.min(out.len()).saturating_sub(header + ICMP);
                let quoted = self
                    .packet
                    .get(..room.min(self.packet.len()))
                    .unwrap_or(&[]);
                let enough = self
                    .packet
                    .len()
                    .min(usize::from(self.layout.transport) + 8);
                if quoted.len() < enough.min(limit - header - ICMP) {
                    return Err(Unanswered::Room);
                }
                let [k, c] = kind;
                let [r0, r1, r2, r3] = rest;
                let head = [k, c, 0, 0, r0, r1, r2, r3];
                let length = ICMP + quoted.len();
                let network = network(out, from, sender, protocol, class, length)?;
                network.finish(out, &head, quoted, 2)
            }
        }
    }

    /// The rules of silence.
    fn answerable(&self, notice: Notice) -> Result<(), Unanswered> {
        let key = self.key.fields();
        let source = key.family.address(key.source);
        let destination = key.family.address(key.destination);
        // "Packet too big" answers groups too, so that path MTU discovery works for them (RFC 4443 section 2.4 e.3).
        let groups = key.family == Family::V6 && matches!(notice, Notice::TooBig { .. });
        if !groups && (is_group(destination) || self.is_link_group()) {
            return Err(Unanswered::Group);
        }
        if is_group(source) || source.is_unspecified() {
            return Err(Unanswered::Source);
        }
        if self.layout.fragment == Fragment::Later {
            return Err(Unanswered::Fragment);
        }
        if self.is_error() {
            return Err(Unanswered::Error);
        }
        if self.defect.is_some() || !self.is_intact() {
            return Err(Unanswered::Corrupt);
        }
        Ok(())
    }

    /// Whether it is an ICMP error or a redirect, or of a type unknown to be neither.
    fn is_error(&self) -> bool {
        let [kind, _] = self.key.fields().destination_port.to_be_bytes();
        match self.layout.protocol {
            Protocol::ICMP => kind > 18 || quote::begin(self.transport(), Protocol::ICMP).is_some(),
            Protocol::ICMPV6 => kind < 128 || kind == 137,
            _ => false,
        }
    }

    /// The segment that a reset answers.
    fn resettable(&self) -> Result<Segment, Unanswered> {
        if self.layout.protocol != Protocol::TCP {
            return Err(Unanswered::NotTcp);
        }
        if self.layout.fragment.is_part() {
            return Err(Unanswered::Fragment);
        }
        if self.flags.contains(TcpFlags::RST) {
            return Err(Unanswered::Reset);
        }
        self.segment().ok_or(Unanswered::Corrupt)
    }
}

/// A TCP header that resets the sender of `segment`, without ports and checksum.
fn reset(segment: &Segment) -> [u8; TCP] {
    let (seq, ack, flags) = if segment.flags.contains(TcpFlags::ACK) {
        (segment.ack.0, 0, TcpFlags::RST)
    } else {
        (0, segment.end().0, TcpFlags::RST.union(TcpFlags::ACK))
    };
    let mut tcp = [0; TCP];
    put_at(&mut tcp, 4, seq.to_be_bytes());
    put_at(&mut tcp, 8, ack.to_be_bytes());
    put_at(&mut tcp, 12, [5 << 4, flags.0]);
    tcp
}

/// Whether an address is a group's or everybody's.
fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}

/// A network header that has been written, and what the transport behind it needs to know of it.
struct Network {
    /// Bytes of the header.
    header: usize,
    /// Sum of the pseudo header; 0 for ICMP.
    pseudo: u16,
}

impl Network {
    /// Writes transport header and payload behind the network header, with the checksum at `checksum_at` of the transport
    /// header, and gives the length of it all.
    fn finish(
        self,
        out: &mut [u8],
        head: &[u8],
        payload: &[u8],
        checksum_at: usize,
    ) -> Result<usize, Unanswered> {
        let end = self.header + head.len() + payload.len();
        let transport = out.get_mut(self.header..end).ok_or(Unanswered::Room)?;
        // Not `copy_from_slice`, which has a panic for lengths that differ: they do not, but no optimiser sees it from here.
        for (to, from) in transport.iter_mut().zip(head.iter().chain(payload)) {
            *to = *from;
        }
        let sum = checksum::add(checksum::sum(transport), self.pseudo);
        put_at(transport, checksum_at, (!sum).to_be_bytes());
        Ok(end)
    }
}

/// Writes the network header of an answer with `length` bytes behind it.
fn network(
    out: &mut [u8],
    source: IpAddr,
    destination: IpAddr,
    protocol: Protocol,
    class: u8,
    length: usize,
) -> Result<Network, Unanswered> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let head = out.first_chunk_mut::<20>().ok_or(Unanswered::Room)?;
            *head = [0; 20];
            put_at(head, 0, [0x45, class]);
            put_at(head, 2, (20 + length as u16).to_be_bytes());
            // An error may be fragmented on its way; a reset is small.
            let dont_fragment = protocol == Protocol::TCP;
            put_at(head, 6, [u8::from(dont_fragment) << 6, 0]);
            put_at(head, 8, [HOP_LIMIT, protocol.0]);
            put_at(head, 12, source.octets());
            put_at(head, 16, destination.octets());
            let sum = checksum::checksum(head);
            put_at(head, 10, sum.to_be_bytes());
            let pseudo = if protocol == Protocol::TCP {
                checksum::pseudo_v4(source, destination, protocol, length as u32)
            } else {
                0
            };
            Ok(Network { header: 20, pseudo })
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let head = out.first_chunk_mut::<40>().ok_or(Unanswered::Room)?;
            *head = [0; 40];
            put_at(head, 0, [0x60 | class >> 4, class << 4]);
            put_at(head, 4, (length as u16).to_be_bytes());
            put_at(head, 6, [protocol.0, HOP_LIMIT]);
            put_at(head, 8, source.octets());
            put_at(head, 24, destination.octets());
            let pseudo = checksum::pseudo_v6(source, destination, protocol, length as u32);
            Ok(Network { header: 40, pseudo })
        }
        _ => Err(Unanswered::Family),
    }
}
