//! What the tracker reads from a packet, once: plain data, so that everything behind it is compiled once for a key type and
//! not for every type of packet.

use super::{Reason, Trackable};
use crate::key::{Endpoint, Family, Locality, Protocol};
use crate::packet::{Defect, Packet, Segment, Seq};

/// What stands in an IPv6 header before nothing (RFC 8200 section 4.7): such a packet has no transport.
const NO_NEXT_HEADER: Protocol = Protocol(59);

/// The facts of one packet.
pub(super) struct Facts<'a, K> {
    /// Without locality.
    pub(super) key: K,
    pub(super) protocol: Protocol,
    pub(super) length: u32,
    pub(super) transport: &'a [u8],
    pub(super) segment: Option<Segment>,
    /// Of an ICMP error, without locality.
    pub(super) quoted: Option<K>,
    pub(super) hop_limit: u8,
    /// What is wrong with it, whatever its connection.
    pub(super) wrong: Option<Reason>,
}

impl<'a, K: Trackable> Facts<'a, K> {
    /// Cost: O(1), and one pass over the packet where checksums are verified.
    pub(super) fn read<P: Packet<Key = K>>(packet: &'a P, checksum: bool) -> Self {
        let key = packet.key().at(Locality::default());
        let protocol = key.protocol();
        let transport = packet.transport();
        let segment = if protocol == Protocol::TCP {
            packet.segment()
        } else {
            None
        };
        // A GRE header that cannot be read is one flow for each pair of addresses.
        let defect = packet
            .defect()
            .filter(|defect| *defect != Defect::GreTruncated);
        let wrong = if packet.fragment().is_part() {
            Some(Reason::Fragment)
        } else if defect.is_some()
            || protocol == Protocol::TCP && segment.is_none()
            || protocol == NO_NEXT_HEADER && key.fields().family == Family::V6
        {
            Some(Reason::Malformed)
        } else if checksum && protocol != Protocol::GRE && !packet.is_intact() {
            Some(Reason::Checksum)
        } else {
            None
        };
        Self {
            key,
            protocol,
            length: packet.length(),
            transport,
            segment,
            quoted: if protocol.is_icmp() {
                packet.quoted().map(|key| key.at(Locality::default()))
            } else {
                None
            },
            hop_limit: packet.hop_limit(),
            wrong,
        }
    }

    /// ICMP type and code.
    pub(super) fn icmp(&self) -> [u8; 2] {
        match *self.transport {
            [kind, code, ..] => [kind, code],
            _ => [0, 0],
        }
    }

    /// The tuple that its connection is known by: the key, with the call's number for enhanced GRE (RFC 2637 section 4.1).
    pub(super) fn tuple(&self) -> Result<K, Reason> {
        match *self.transport {
            [_, version, p0, p1, _, _, c0, c1, ..]
                if self.protocol == Protocol::GRE && version & 7 == 1 =>
            {
                if [p0, p1] != [0x88, 0x0b] {
                    return Err(Reason::GrePayload);
                }
                let (source, destination) = (self.key.source(), self.key.destination());
                let call = Endpoint::new(destination.address, u16::from_be_bytes([c0, c1]));
                Ok(self.key.with(source, call).unwrap_or(self.key))
            }
            _ => Ok(self.key),
        }
    }

    /// The sequence number of the TCP segment that an ICMP error quotes; `None` for other protocols and where extension
    /// headers stand before it.
    pub(super) fn quoted_seq(&self) -> Option<Seq> {
        let ip = self.transport.get(8..)?;
        let fields = self.quoted.as_ref()?.fields();
        if fields.protocol != Protocol::TCP {
            return None;
        }
        let at = match fields.family {
            Family::V4 => usize::from(ip.first()? & 0x0f) * 4,
            Family::V6 if ip.get(6) == Some(&Protocol::TCP.0) => 40,
            Family::V6 => return None,
        };
        let seq = ip.get(at + 4..at + 8)?.first_chunk()?;
        Some(Seq(u32::from_be_bytes(*seq)))
    }
}
