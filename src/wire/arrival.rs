//! What is known about a packet besides its bytes: where it came from, and who looks after its checksum.
//!
//! Apart from the frame because the dataplane fills it in, once an interface or once a packet.

use crate::cookie::FlowCookie;
use crate::key::{Locality, Zone};
use crate::packet::{Interface, Origin};

/// Who computes the transport checksum that stands in the bytes. The IPv4 header checksum is always in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Checksums {
    /// It is in the packet, and right if the packet is.
    #[default]
    Full,
    /// The field holds the sum of the pseudo header alone, not complemented; whoever transmits adds the rest. A rewrite
    /// changes the pseudo header's part only. (Linux: `CHECKSUM_PARTIAL`; virtio: `NEEDS_CSUM`.)
    Partial,
    /// The hardware verified it, or computes it on transmission: not verified, not touched.
    Offloaded,
}

/// The circumstances of a packet. [`Default`] is: received, interface unknown, zone 0, nobody local, no hash, no cookie,
/// checksums in full, all bytes there.
///
/// ```
/// use gufc::packet::Interface;
/// use gufc::wire::Arrival;
///
/// let arrival = Arrival::on(Interface(2)).with_hash(0x51cc_c178);
/// assert_eq!(arrival.interface, Interface(2));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrival {
    /// The interface that it came in on.
    pub interface: Interface,
    /// The zone of its flow.
    pub zone: Zone,
    /// Received, or generated here.
    pub origin: Origin,
    /// Which ends are addresses of this machine; see also [`Frame::locate`](super::Frame::locate).
    pub locality: Locality,
    /// The NIC's hash over the flow.
    pub hash: Option<u32>,
    /// The cookie that the NIC or a socket holds for the flow.
    pub cookie: Option<FlowCookie>,
    /// Who looks after the transport checksum.
    pub checksums: Checksums,
    /// The bytes may end before the packet does, as in a capture with a snap length. Otherwise that is a defect.
    pub cut: bool,
    /// Whoever sends it on will cut it where it is too long; see [`Frame::with_cut`](super::Frame::with_cut).
    pub fragmentable: bool,
}

impl Arrival {
    /// A packet received on `interface`.
    pub fn on(interface: Interface) -> Self {
        Self {
            interface,
            ..Self::default()
        }
    }

    /// A packet that a process of this machine sent, from one of its own addresses.
    pub fn local() -> Self {
        Self {
            origin: Origin::Local,
            locality: Locality {
                source: true,
                destination: false,
            },
            ..Self::default()
        }
    }

    /// The same in `zone`.
    #[must_use]
    pub fn in_zone(self, zone: Zone) -> Self {
        Self { zone, ..self }
    }

    /// The same with these locality bits.
    #[must_use]
    pub fn at(self, locality: Locality) -> Self {
        Self { locality, ..self }
    }

    /// The same with the NIC's hash.
    #[must_use]
    pub fn with_hash(self, hash: u32) -> Self {
        Self {
            hash: Some(hash),
            ..self
        }
    }

    /// The same with a cookie.
    #[must_use]
    pub fn with_cookie(self, cookie: FlowCookie) -> Self {
        Self {
            cookie: Some(cookie),
            ..self
        }
    }

    /// The same with checksums looked after by `checksums`.
    #[must_use]
    pub fn with_checksums(self, checksums: Checksums) -> Self {
        Self { checksums, ..self }
    }

    /// The same for bytes that may end before the packet does.
    #[must_use]
    pub fn cut_short(self) -> Self {
        Self { cut: true, ..self }
    }
}
