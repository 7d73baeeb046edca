//! Rewriting a frame: addresses, ports, hop limit, segment size, with every checksum kept right.
//!
//! Apart from reading because nothing here looks at a packet to judge it. All one's-complement checksums change by
//! RFC 1624 equation 3: what [`Rewrite`] worked out beforehand for addresses and ports, or the difference of the words that
//! change.

use core::net::Ipv4Addr;

use super::layout::{Layout, be16, bytes_at, put_at, word_at};
use super::transport::{checksum_at, has_identifier, has_pseudo_header};
use super::{Checksums, Frame, FrameKey, checksum, crc32c, ipv4, ipv6, quote};
use crate::key::{Endpoint, Family, Fields, Protocol};
use crate::packet::{Fragment, Rewrite, TcpFlags};

/// What a change does to one packet: the new ends, and the differences that they make to sums.
pub(super) struct Patch {
    /// The new ends.
    pub(super) to: Fields,
    /// Whether an address changes.
    pub(super) changes_address: bool,
    /// Whether a port changes.
    pub(super) changes_port: bool,
    /// Difference of the addresses.
    pub(super) addresses: u16,
    /// Difference of the ports.
    pub(super) ports: u16,
}

impl Patch {
    /// The patch that `rewrite` makes to a packet of this layout; `None` for one of another family or protocol.
    fn of<K: FrameKey>(rewrite: &Rewrite<K>, layout: &Layout) -> Option<Self> {
        let to = rewrite.to.fields();
        (to.family == layout.family && to.protocol == layout.protocol).then_some(Self {
            to,
            changes_address: rewrite.changes_address,
            changes_port: rewrite.changes_port,
            addresses: rewrite.addresses,
            ports: rewrite.ports,
        })
    }

    /// Changes the addresses in the network header at the start of `bytes`, and gives the difference that they make to a
    /// pseudo header.
    #[inline]
    fn network(&self, bytes: &mut [u8], layout: &Layout) -> u16 {
        if !self.changes_address {
            return 0;
        }
        if layout.routed {
            return self.network_routed(bytes, layout.family);
        }
        self.set_addresses(bytes);
        self.addresses
    }

    /// The same for a source-routed packet: its checksum has the last hop's address in it, so only the source counts.
    #[cold]
    fn network_routed(&self, bytes: &mut [u8], family: Family) -> u16 {
        let place = match family {
            Family::V4 => 12..16,
            Family::V6 => 8..24,
        };
        let before = checksum::sum(bytes.get(place.clone()).unwrap_or(&[]));
        self.set_addresses(bytes);
        let after = checksum::sum(bytes.get(place).unwrap_or(&[]));
        checksum::difference(before, after)
    }

    #[inline]
    fn set_addresses(&self, bytes: &mut [u8]) {
        match self.to.family {
            Family::V4 => {
                let address = |bits: u128| Ipv4Addr::from_bits((bits >> 96) as u32);
                let (source, destination) = (address(self.to.source), address(self.to.destination));
                ipv4::set_addresses(bytes, source, destination, self.addresses);
            }
            Family::V6 => {
                ipv6::set_addresses(bytes, self.to.source.into(), self.to.destination.into());
            }
        }
    }

    /// Changes the ports in the transport header at the start of `bytes`, and its checksum by them and by `pseudo`, the
    /// difference of the addresses. `length` is the whole transport's, if it is known: SCTP's checksum depends on it.
    #[inline]
    pub(super) fn transport(
        &self,
        bytes: &mut [u8],
        pseudo: u16,
        checksums: Checksums,
        length: Option<u32>,
    ) {
        let protocol = self.to.protocol;
        match protocol {
            Protocol::TCP | Protocol::UDP | Protocol::UDP_LITE => {
                let mut change = 0;
                if self.changes_port && put_at(bytes, 0, self.port_bytes()) {
                    change = self.ports;
                }
                fix(bytes, protocol, pseudo, change, checksums);
            }
            Protocol::ICMP | Protocol::ICMPV6 => {
                let change = if self.changes_port {
                    self.icmp(bytes)
                } else {
                    0
                };
                fix(bytes, protocol, pseudo, change, checksums);
            }
            Protocol::SCTP if self.changes_port => self.sctp(bytes, checksums, length),
            _ => {}
        }
    }

    /// Both ports as they stand in a header.
    fn port_bytes(&self) -> [u8; 4] {
        let [s0, s1] = self.to.source_port.to_be_bytes();
        let [d0, d1] = self.to.destination_port.to_be_bytes();
        [s0, s1, d0, d1]
    }

    /// Changes type and code, and the identifier where the new type has one; gives the difference of what changed.
    #[inline(never)]
    fn icmp(&self, bytes: &mut [u8]) -> u16 {
        let Some([kind, code, _, _, i0, i1, ..]) = bytes.first_chunk_mut::<8>() else {
            return 0;
        };
        let old = be16(*kind, *code);
        [*kind, *code] = self.to.destination_port.to_be_bytes();
        let mut change = checksum::difference(old, be16(*kind, *code));
        if has_identifier(self.to.protocol, *kind) {
            let old = be16(*i0, *i1);
            [*i0, *i1] = self.to.source_port.to_be_bytes();
            change = checksum::add(change, checksum::difference(old, be16(*i0, *i1)));
        }
        change
    }

    /// Changes SCTP's ports and its CRC32c by what they change. A checksum of zero stays: it says that there is none
    /// (RFC 9653). Where the packet's length is unknown (a fragment) the CRC cannot follow and is left as it is.
    #[inline(never)]
    fn sctp(&self, bytes: &mut [u8], checksums: Checksums, length: Option<u32>) {
        let new = self.port_bytes();
        let Some(mut difference) = bytes_at::<4>(bytes, 0) else {
            return;
        };
        put_at(bytes, 0, new);
        for (d, n) in difference.iter_mut().zip(new) {
            *d ^= n;
        }
        let (Checksums::Full, Some(behind), Some(old)) = (
            checksums,
            length.and_then(|length| length.checked_sub(4)),
            bytes_at::<4>(bytes, 8).map(u32::from_le_bytes),
        ) else {
            return;
        };
        if old != 0 {
            let crc = old ^ crc32c::change(difference, behind);
            put_at(bytes, 8, crc.to_le_bytes());
        }
    }
}

/// Updates the one's-complement checksum of a transport header after its addresses changed by `pseudo` and its own words
/// by `change`.
#[inline]
pub(super) fn fix(
    bytes: &mut [u8],
    protocol: Protocol,
    pseudo: u16,
    change: u16,
    checksums: Checksums,
) {
    let pseudo = if has_pseudo_header(protocol) {
        pseudo
    } else {
        0
    };
    let Some(at) = checksum_at(protocol) else {
        return;
    };
    // A TCP header that is not there in full keeps its checksum, wherever it may be: the quotation of an ICMP error, say.
    if protocol == Protocol::TCP && bytes.len() < 20 {
        return;
    }
    let Some(old) = word_at(bytes, at) else {
        return;
    };
    let new = match checksums {
        Checksums::Offloaded => return,
        Checksums::Partial => checksum::add(old, pseudo),
        Checksums::Full => {
            // UDP's zero says that there is no checksum; UDP-Lite's is an error, and errors are kept.
            if old == 0 && matches!(protocol, Protocol::UDP | Protocol::UDP_LITE) {
                return;
            }
            let new = checksum::update(old, checksum::add(pseudo, change));
            match (protocol, new) {
                (Protocol::UDP | Protocol::UDP_LITE, 0) => 0xffff,
                _ => new,
            }
        }
    };
    put_at(bytes, at, new.to_be_bytes());
    // Data that are all zero sum up to the other zero than all others do (RFC 1624 section 3). Only an echo reply can be.
    let may_be_zero = (checksums, protocol, new) == (Checksums::Full, Protocol::ICMP, 0);
    if may_be_zero && bytes.iter().all(|byte| *byte == 0) {
        put_at(bytes, at, [0xff, 0xff]);
    }
}

impl<K: FrameKey> Frame<'_, K> {
    /// [`Packet::rewrite`](crate::packet::Packet::rewrite).
    pub(super) fn apply(&mut self, rewrite: &Rewrite<K>) {
        let Some(patch) = Patch::of(rewrite, &self.layout) else {
            return;
        };
        let pseudo = patch.network(&mut self.packet, &self.layout);
        let has_ends = self.has_ends();
        if self.layout.fragment != Fragment::Later {
            let length = self.layout.transport_length();
            let length = (self.layout.fragment != Fragment::First).then_some(length);
            if let Some(transport) = self.packet.get_mut(usize::from(self.layout.transport)..) {
                patch.transport(transport, pseudo, self.arrival.checksums, length);
            }
        }
        self.key = name(rewrite, &patch.to, has_ends);
    }

    /// Whether ports, or what stands for them, are in the packet.
    fn has_ends(&self) -> bool {
        let present = self
            .packet
            .len()
            .saturating_sub(usize::from(self.layout.transport));
        self.layout.fragment != Fragment::Later
            && match self.layout.protocol {
                protocol if protocol.has_ports() => present >= 4,
                protocol if protocol.is_icmp() => present >= 8,
                _ => false,
            }
    }

    /// [`Packet::rewrite_quoted`](crate::packet::Packet::rewrite_quoted).
    ///
    /// The quoted header is changed, its IPv4 header checksum and its transport checksum with it as far as they are quoted,
    /// and the ICMP checksum by the sum of all that.
    pub(super) fn apply_quoted(&mut self, rewrite: &Rewrite<K>) -> bool {
        let checksums = self.arrival.checksums;
        let v4 = self.layout.family == Family::V4;
        let Some(begin) = self.quotation() else {
            return false;
        };
        let Some(message) = self.packet.get_mut(usize::from(self.layout.transport)..) else {
            return false;
        };
        let Some(quoted) = message.get_mut(begin..) else {
            return false;
        };
        let Some(found) = quote::read(quoted, v4) else {
            return false;
        };
        let layout = *found.layout();
        let Some(patch) = Patch::of(rewrite, &layout) else {
            return false;
        };
        let transport = usize::from(layout.transport);
        let has_ends = layout.protocol.has_ports() || layout.protocol.is_icmp();
        if has_ends && quoted.len() < transport + 8 {
            return false;
        }
        // Every word that changes lies in here, and here begins at an even offset of the ICMP message.
        let headers = ..(transport + 20).min(quoted.len());
        let before = checksum::sum(quoted.get(headers).unwrap_or(&[]));
        let pseudo = patch.network(quoted, &layout);
        if let Some(bytes) = quoted.get_mut(transport..) {
            let length = (layout.fragment != Fragment::First).then_some(layout.transport_length());
            patch.transport(bytes, pseudo, Checksums::Full, length);
        }
        let after = checksum::sum(quoted.get(headers).unwrap_or(&[]));
        let change = checksum::difference(before, after);
        fix(message, self.layout.protocol, 0, change, checksums);
        true
    }

    /// [`Packet::set_hop_limit`](crate::packet::Packet::set_hop_limit).
    pub(super) fn put_hop_limit(&mut self, hop_limit: u8) {
        match self.layout.family {
            Family::V4 => ipv4::set_time_to_live(&mut self.packet, hop_limit),
            Family::V6 => ipv6::set_hop_limit(&mut self.packet, hop_limit),
        }
    }

    /// [`Packet::clamp_mss`](crate::packet::Packet::clamp_mss).
    pub(super) fn lower_mss(&mut self, mss: u16) -> bool {
        if self.layout.protocol != Protocol::TCP
            || self.layout.fragment == Fragment::Later
            || self.defect.is_some()
            || !self.flags.contains(TcpFlags::SYN)
        {
            return false;
        }
        let checksums = self.arrival.checksums;
        let Some(segment) = self.packet.get_mut(usize::from(self.layout.transport)..) else {
            return false;
        };
        let Some((at, old)) = mss_option(segment) else {
            return false;
        };
        if old <= mss || !put_at(segment, at, mss.to_be_bytes()) {
            return false;
        }
        // At an odd offset the two bytes lie in two words, high half in one and low half in the next: the difference is that
        // of the swapped value (RFC 1071 section 2 B).
        let change = checksum::difference(old, mss);
        let change = if at % 2 == 0 {
            change
        } else {
            change.swap_bytes()
        };
        if checksums == Checksums::Full {
            fix(segment, Protocol::TCP, 0, change, checksums);
        }
        true
    }
}

/// The key after a rewrite: what was asked for, except that ports which are not in the packet cannot have changed.
fn name<K: FrameKey>(rewrite: &Rewrite<K>, to: &Fields, has_ends: bool) -> K {
    let [kind, _] = to.destination_port.to_be_bytes();
    let (source_port, destination_port) = match (has_ends, to.protocol) {
        (false, _) => (0, 0),
        (true, protocol) if protocol.is_icmp() && !has_identifier(protocol, kind) => {
            (0, to.destination_port)
        }
        (true, _) => return rewrite.to,
    };
    if (source_port, destination_port) == (to.source_port, to.destination_port) {
        return rewrite.to;
    }
    let end = |bits, port| Endpoint::new(to.family.address(bits), port);
    rewrite
        .to
        .with(
            end(to.source, source_port),
            end(to.destination, destination_port),
        )
        .unwrap_or(rewrite.to)
}

/// Where the value of the maximum segment size option lies in a TCP header, and the value.
fn mss_option(segment: &[u8]) -> Option<(usize, u16)> {
    let [offset] = bytes_at(segment, 12)?;
    let options = segment.get(20..usize::from(offset >> 4) * 4)?;
    let mut at = 0;
    loop {
        match options.get(at..)? {
            [1, ..] => at += 1,
            [2, 4, a, b, ..] => return Some((20 + at + 2, be16(*a, *b))),
            [0, ..] => return None,
            [_, length, ..] if *length >= 2 => at += usize::from(*length),
            _ => return None,
        }
    }
}
