//! Link headers: how far to the IP packet, which version it must be, which VLANs it is on.
//!
//! Apart from IP because nothing above ever looks at it again.
//!
//! ```text
//!  Ethernet        | destination 6 | source 6 | type 2 |
//!  with tags       | destination 6 | source 6 | 0x88a8 2 | tag 2 | 0x8100 2 | tag 2 | type 2 |
//!  cooked          | packet type 2 | hardware 2 | length 2 | address 8 | type 2 |
//!  cooked, new     | type 2 | 0 2 | interface 4 | hardware 2 | packet type 1 | length 1 | address 8 |
//! ```

use crate::key::Family;
use crate::packet::Defect;

/// What stands before the IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Link {
    /// Nothing: the bytes begin with the IP header.
    Ip,
    /// Ethernet II, with up to two IEEE 802.1Q or 802.1ad tags.
    #[default]
    Ethernet,
    /// Linux cooked capture, 16 bytes (LINKTYPE_LINUX_SLL).
    Cooked,
    /// Linux cooked capture version 2, 20 bytes (LINKTYPE_LINUX_SLL2).
    Cooked2,
}

impl Link {
    /// The link type by its number in pcap and pcapng files; `None` for those that are not read here.
    ///
    /// ```
    /// use gufc::wire::Link;
    /// assert_eq!(Link::of_capture(1), Some(Link::Ethernet));
    /// assert_eq!(Link::of_capture(105), None);
    /// ```
    pub const fn of_capture(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            // Raw IP has one number in files and two as a data-link type of BSD and OpenBSD.
            12 | 14 | 101 | 228 | 229 => Some(Self::Ip),
            113 => Some(Self::Cooked),
            276 => Some(Self::Cooked2),
            _ => None,
        }
    }

    /// Reads the link header. Cost: O(1).
    #[inline(always)]
    pub(super) fn read(self, bytes: &[u8]) -> Result<Header, Defect> {
        match self {
            Self::Ip => ip(bytes),
            Self::Ethernet => ethernet(bytes),
            Self::Cooked => {
                let head = bytes.first_chunk::<16>().ok_or(Defect::LinkTruncated)?;
                let &[_, kind, .., p, q] = head;
                Ok(Header {
                    length: 16,
                    family: family(u16::from_be_bytes([p, q]))?,
                    group: matches!(kind, 1 | 2),
                    ..Header::default()
                })
            }
            Self::Cooked2 => {
                let head = bytes.first_chunk::<20>().ok_or(Defect::LinkTruncated)?;
                let &[p, q, _, _, _, _, _, _, _, _, kind, ..] = head;
                Ok(Header {
                    length: 20,
                    family: family(u16::from_be_bytes([p, q]))?,
                    group: matches!(kind, 1 | 2),
                    ..Header::default()
                })
            }
        }
    }
}

/// What a link header said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes before the IP header, 0 to 22.
    pub(super) length: u8,
    /// The IP version that it announces.
    pub(super) family: Family,
    /// Sent to a group or to everybody on the link.
    pub(super) group: bool,
    /// VLAN identifiers, outermost first.
    pub(super) vlan: [u16; 2],
    /// How many of them count, 0 to 2.
    pub(super) tags: u8,
}

impl Default for Header {
    fn default() -> Self {
        Self {
            length: 0,
            family: Family::V4,
            group: false,
            vlan: [0; 2],
            tags: 0,
        }
    }
}

/// No header: the version is the packet's own first four bits.
#[inline]
fn ip(bytes: &[u8]) -> Result<Header, Defect> {
    let family = match bytes.first().map(|first| first >> 4) {
        Some(4) => Family::V4,
        Some(6) => Family::V6,
        Some(_) => return Err(Defect::NotIp),
        None => return Err(Defect::LinkTruncated),
    };
    Ok(Header {
        family,
        ..Header::default()
    })
}

#[inline]
fn ethernet(bytes: &[u8]) -> Result<Header, Defect> {
    let head = bytes.first_chunk::<14>().ok_or(Defect::LinkTruncated)?;
    let &[first, .., p, q] = head;
    let mut header = Header {
        length: 14,
        group: first & 1 != 0,
        ..Header::default()
    };
    let mut kind = u16::from_be_bytes([p, q]);
    while is_tag(kind) {
        let &[c, v, p, q] = bytes
            .get(usize::from(header.length)..)
            .and_then(|rest| rest.first_chunk::<4>())
            .ok_or(Defect::LinkTruncated)?;
        *header
            .vlan
            .get_mut(usize::from(header.tags))
            .ok_or(Defect::LinkTags)? = u16::from_be_bytes([c, v]) & 0x0fff;
        header.tags += 1;
        header.length += 4;
        kind = u16::from_be_bytes([p, q]);
    }
    header.family = family(kind)?;
    Ok(header)
}

/// 802.1Q, 802.1ad, and the number that some switches gave the outer tag before 802.1ad.
const fn is_tag(kind: u16) -> bool {
    matches!(kind, 0x8100 | 0x88a8 | 0x9100)
}

#[inline]
fn family(kind: u16) -> Result<Family, Defect> {
    match kind {
        0x0800 => Ok(Family::V4),
        0x86dd => Ok(Family::V6),
        _ => Err(Defect::NotIp),
    }
}
