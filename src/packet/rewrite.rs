//! A change of addresses and ports with its checksum differences worked out beforehand.

use crate::key::{Family, Fields, FlowKey};

/// New addresses and ports for every packet of one direction of a flow.
///
/// What the change does to checksums is a constant of the flow (RFC 1624 equation 3), so it is computed once: applying it to
/// a packet costs two one's-complement additions whatever the packet's length. Both differences are one's-complement sums
/// of `!old + new` over the 16-bit words that change.
///
/// ```text
///  field that changes     IPv4 header   TCP, UDP, UDP-Lite, ICMPv6   ICMP   partial (pseudo header only)
///  addresses              addresses     addresses                    -      addresses
///  ports, identifier      -             ports                        ports  -
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite<K> {
    /// The key that packets have afterwards.
    pub to: K,
    /// Whether an address changes.
    pub changes_address: bool,
    /// Whether a port, or what stands in its place, changes.
    pub changes_port: bool,
    /// Checksum difference of the addresses.
    pub addresses: u16,
    /// Checksum difference of ports, ICMP identifier, type and code.
    pub ports: u16,
}

impl<K: FlowKey> Rewrite<K> {
    /// The change from the key `from` to the key `to`, of the same family and protocol. Cost: O(1).
    pub fn between(from: &K, to: &K) -> Self {
        let (old, new) = (from.fields(), to.fields());
        let old_ports = [old.source_port, old.destination_port];
        let new_ports = [new.source_port, new.destination_port];
        Self {
            to: *to,
            changes_address: (old.source, old.destination) != (new.source, new.destination),
            changes_port: old_ports != new_ports,
            addresses: difference(&address_words(&old), &address_words(&new)),
            ports: difference(&old_ports, &new_ports),
        }
    }

    /// Whether packets stay as they are.
    pub fn is_nothing(&self) -> bool {
        !self.changes_address && !self.changes_port
    }
}

/// Both addresses as 16-bit words; an IPv4 address fills two of its eight.
fn address_words(fields: &Fields) -> [u16; 16] {
    let mut words = [0; 16];
    let shift = match fields.family {
        Family::V4 => 96,
        Family::V6 => 0,
    };
    for (i, word) in words.iter_mut().enumerate() {
        let address = if i < 8 {
            fields.source
        } else {
            fields.destination
        };
        *word = (address >> shift >> (16 * (i % 8))) as u16;
    }
    words
}

/// One's-complement sum of `!old + new` over pairs of words.
fn difference(old: &[u16], new: &[u16]) -> u16 {
    let mut sum: u32 = old
        .iter()
        .zip(new)
        .map(|(old, new)| u32::from(!old) + u32::from(*new))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
