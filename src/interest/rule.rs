//! What a pattern says besides its prefixes, packed into 24 bytes: ports, protocol, locality, zone.
//!
//! Apart from [`Pattern`] because a lookup reads it for each pair of prefixes that matches, and a pair
//! with one pattern keeps it in the slot that the lookup has already read.
//!
//! ```text
//!  | priority 64 | first port 16 x 2 | ports after it 16 x 2 | value 32 | any 4, zero 4, slot 24 |
//!                  source, destination                         |
//!                                        | protocol 8 | LL | zone 22 |
//! ```

use super::pool::Pooled;
use crate::key::{Fields, Locality, Pattern, Ports, Protocol, Zone};

/// A pattern's conditions on everything but addresses, its priority, and its slot in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) priority: u64,
    first: [u16; 2],
    width: [u16; 2],
    pub(super) value: u32,
    pub(super) slot_any: u32,
}

const SOURCE: usize = 0;
const DESTINATION: usize = 1;

const PROTOCOL_MASK: u32 = 0xff00_0000;
const SOURCE_LOCAL: u32 = 1 << 23;
const DESTINATION_LOCAL: u32 = 1 << 22;
const ZONE_MASK: u32 = (1 << 22) - 1;
const SLOT_MASK: u32 = (1 << 24) - 1;
/// Bits of `slot_any`: the part may have any value.
const ANY_PROTOCOL: u32 = 1 << 28;
const ANY_SOURCE_LOCAL: u32 = 1 << 29;
const ANY_DESTINATION_LOCAL: u32 = 1 << 30;
const ANY_ZONE: u32 = 1 << 31;

/// The bits of `value` that count, by the upper four bits of `slot_any`.
const MASKS: [u32; 16] = {
    let mut masks = [u32::MAX; 16];
    let mut any = 0;
    while any < 16 {
        if any & 1 != 0 {
            masks[any] &= !PROTOCOL_MASK;
        }
        if any & 2 != 0 {
            masks[any] &= !SOURCE_LOCAL;
        }
        if any & 4 != 0 {
            masks[any] &= !DESTINATION_LOCAL;
        }
        if any & 8 != 0 {
            masks[any] &= !ZONE_MASK;
        }
        any += 1;
    }
    masks
};

impl Rule {
    pub(super) fn new(pattern: &Pattern, priority: u64, slot: u32) -> Self {
        let mut value = 0;
        let mut any = 0;
        match pattern.protocol {
            Some(protocol) => value |= u32::from(protocol.0) << 24,
            None => any |= ANY_PROTOCOL,
        }
        match pattern.source_local {
            Some(local) => value |= u32::from(local) * SOURCE_LOCAL,
            None => any |= ANY_SOURCE_LOCAL,
        }
        match pattern.destination_local {
            Some(local) => value |= u32::from(local) * DESTINATION_LOCAL,
            None => any |= ANY_DESTINATION_LOCAL,
        }
        match pattern.zone {
            Some(zone) => value |= zone.id(),
            None => any |= ANY_ZONE,
        }
        let width = |ports: Ports| ports.last.wrapping_sub(ports.first);
        Self {
            priority,
            first: [pattern.source_ports.first, pattern.destination_ports.first],
            width: [
                width(pattern.source_ports),
                width(pattern.destination_ports),
            ],
            value,
            slot_any: any | slot & SLOT_MASK,
        }
    }

    /// The pattern's parts, those that are not addresses, put into `pattern`.
    pub(super) fn write(&self, pattern: &mut Pattern) {
        let is_any = |bit: u32| self.slot_any & bit != 0;
        let ports = |side: usize| Ports {
            first: self.first[side],
            last: self.first[side].wrapping_add(self.width[side]),
        };
        pattern.source_ports = ports(SOURCE);
        pattern.destination_ports = ports(DESTINATION);
        pattern.protocol = (!is_any(ANY_PROTOCOL)).then_some(Protocol((self.value >> 24) as u8));
        pattern.source_local =
            (!is_any(ANY_SOURCE_LOCAL)).then_some(self.value & SOURCE_LOCAL != 0);
        pattern.destination_local =
            (!is_any(ANY_DESTINATION_LOCAL)).then_some(self.value & DESTINATION_LOCAL != 0);
        pattern.zone = if is_any(ANY_ZONE) {
            None
        } else {
            Zone::new(self.value & ZONE_MASK)
        };
    }

    pub(super) fn slot(&self) -> u32 {
        self.slot_any & SLOT_MASK
    }

    pub(super) fn mask(&self) -> u32 {
        MASKS[(self.slot_any >> 28) as usize]
    }

    /// Whether locality and zone may have any value.
    pub(super) fn asks_protocol_at_most(&self) -> bool {
        self.mask() & !PROTOCOL_MASK == 0
    }

    pub(super) fn source_ports(&self) -> (u16, u16) {
        (self.first[SOURCE], self.width[SOURCE])
    }

    pub(super) fn destination_ports(&self) -> (u16, u16) {
        (self.first[DESTINATION], self.width[DESTINATION])
    }

    pub(super) fn protocol(&self) -> Option<u8> {
        (self.slot_any & ANY_PROTOCOL == 0).then_some((self.value >> 24) as u8)
    }

    /// Whether a flow meets the conditions. Addresses have been compared already.
    #[inline]
    pub(super) fn admits(&self, flow: &Flow) -> bool {
        flow.source_port.wrapping_sub(self.first[SOURCE]) <= self.width[SOURCE]
            && flow.destination_port.wrapping_sub(self.first[DESTINATION])
                <= self.width[DESTINATION]
            && (flow.value ^ self.value) & self.mask() == 0
    }

    /// Whether some flow meets the conditions of both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let ports = |side: usize| {
            other.first[side].wrapping_sub(self.first[side]) <= self.width[side]
                || self.first[side].wrapping_sub(other.first[side]) <= other.width[side]
        };
        ports(SOURCE)
            && ports(DESTINATION)
            && (self.value ^ other.value) & self.mask() & other.mask() == 0
    }

    /// The value by which the rule can be looked up in one dimension, if it admits only one.
    pub(super) fn exact(&self, dimension: Dimension) -> Option<u32> {
        match dimension {
            Dimension::DestinationPort => {
                (self.width[DESTINATION] == 0).then_some(self.first[DESTINATION].into())
            }
            Dimension::Zone => (self.slot_any & ANY_ZONE == 0).then_some(self.value & ZONE_MASK),
            Dimension::SourcePort => (self.width[SOURCE] == 0).then_some(self.first[SOURCE].into()),
        }
    }

    /// The lowest and highest value that the rule admits in one dimension.
    pub(super) fn span(&self, dimension: Dimension) -> (u32, u32) {
        let ports = |side: usize| {
            let first = u32::from(self.first[side]);
            (first, first + u32::from(self.width[side]))
        };
        match dimension {
            Dimension::DestinationPort => ports(DESTINATION),
            Dimension::SourcePort => ports(SOURCE),
            Dimension::Zone => match self.exact(Dimension::Zone) {
                Some(zone) => (zone, zone),
                None => (0, ZONE_MASK),
            },
        }
    }
}

impl Pooled for Rule {
    const BLANK: Self = Self {
        priority: 0,
        first: [0; 2],
        width: [0; 2],
        value: 0,
        slot_any: 0,
    };
}

/// A flow's fields besides its addresses, packed as a rule's are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) value: u32,
}

impl Flow {
    pub(super) fn of(fields: &Fields) -> Self {
        let Locality {
            source,
            destination,
        } = fields.locality;
        Self {
            source_port: fields.source_port,
            destination_port: fields.destination_port,
            value: (u32::from(fields.protocol.0) << 24)
                | (u32::from(source) * SOURCE_LOCAL)
                | (u32::from(destination) * DESTINATION_LOCAL)
                | (fields.zone.id() & ZONE_MASK),
        }
    }

    pub(super) fn protocol(&self) -> u8 {
        (self.value >> 24) as u8
    }

    pub(super) fn value(&self, dimension: Dimension) -> u32 {
        match dimension {
            Dimension::DestinationPort => self.destination_port.into(),
            Dimension::Zone => self.value & ZONE_MASK,
            Dimension::SourcePort => self.source_port.into(),
        }
    }
}

/// What a bucket can be split by: the parts of which a rule often admits one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dimension {
    DestinationPort,
    Zone,
    SourcePort,
}

impl Dimension {
    /// In the order in which a bucket tries them.
    pub(super) const ALL: [Self; 3] = [Self::DestinationPort, Self::Zone, Self::SourcePort];
}

const _: () = assert!(size_of::<Rule>() == 24);
const _: () = assert!(Zone::MAX == ZONE_MASK);
