//! How a datagram was cut into fragments, and cutting it so again.
//!
//! Apart from [`Reassembler`](super::Reassembler), which puts together and judges, because this is for what comes behind the hooks: a
//! datagram that came in pieces leaves in pieces, no larger than they were, whatever family it has by then.
//!
//! ```text
//!  fragments ─► Reassembler ─► datagram ─► hooks ─► Cut::fragments ─► fragments
//!               (in one piece: Cut::of)    (Frame::with_cut)
//! ```
//!
//! Sources: RFC 791 section 3.2; RFC 8200 section 4.5; RFC 6864 section 4 (the identification is the
//! sender's); RFC 7915 sections 4, 4.1, 5.1 and 5.1.1 (across the families).

use alloc::vec::Vec;

use super::build::BuildError;
use super::checksum;
use super::ipv4::{DONT_FRAGMENT, MORE};
use super::layout::{bytes_at, put_at, word_at};
use super::{Frame, FrameKey, ipv6};
use crate::key::Family;
use crate::packet::{Fragment, Mtus};

/// Bytes of an IPv6 fragment header.
const FRAGMENT_HEADER: usize = 8;

/// How a datagram came: in fragments, or in one piece; and so how it leaves.
///
/// | came as | left as | in fragments where | their identification, and "don't fragment" |
/// |---|---|---|---|
/// | fragments | the same family | always | as they came |
/// | IPv4 fragments | IPv6 | always; without "don't fragment" of 1,280 bytes at most | IPv4's 16 bits |
/// | IPv6 fragments | IPv4 | always | the low 16 bits of IPv6's; clear |
/// | IPv4 in one piece, not "don't fragment" | IPv6 | longer than 1,280 bytes | IPv4's 16 bits |
/// | either in one piece | IPv4, not "don't fragment" | longer than the link takes | the packet's own; clear |
/// | anything else in one piece | | never | |
///
/// 1,280 stands for [`Mtus::lowest_v6`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The family that it came in.
    pub family: Family,
    /// Whether it came in one piece.
    pub whole: bool,
    /// What its fragments had in common: 16 bits in IPv4, 32 in IPv6. In one piece, its own; 0 where IPv6 has none.
    pub identification: u32,
    /// Bytes of the largest, network header included.
    pub largest: u32,
    /// Bytes that each repeated: the network header; for IPv6 with the extension headers before the fragment header.
    pub repeated: u32,
    /// Whether IPv4's "don't fragment" bit was set in one of them. IPv6 in one piece is never cut by routers: there it is set, too,
    /// unless the packet has a fragment header (RFC 6946).
    pub dont_fragment: bool,
}

/// In one piece that must not be cut.
impl Default for Cut {
    fn default() -> Self {
        Self {
            family: Family::V4,
            whole: true,
            identification: 0,
            largest: 0,
            repeated: 0,
            dont_fragment: true,
        }
    }
}

impl Cut {
    /// That of a packet in one piece, before the hooks see it; for a dataplane that can cut what leaves. A fragment counts as a packet that
    /// must not be cut. Cost: O(1).
    ///
    /// ```
    /// use gufc::packet::Mtus;
    /// use gufc::wire::build::{Datagram, Transport};
    /// use gufc::wire::{Arrival, Cut, Frame};
    ///
    /// let large = Datagram::new("192.0.2.1".parse()?, "192.0.2.2".parse()?, Transport::udp(5, 53)).with_payload(&[7; 1300]);
    /// let mut bytes = large.emit()?;
    /// let frame: Frame = Frame::ip(&mut bytes, &Arrival::default())?;
    /// let cut = Cut::of(&frame);
    /// assert!(cut.is_fragmentable());
    /// assert_eq!(cut.fragments(&bytes, &Mtus::both(576))?, large.fragments(576)?);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn of<K: FrameKey>(frame: &Frame<'_, K>) -> Self {
        let (packet, layout) = (frame.packet(), &frame.layout);
        let is_part = matches!(layout.fragment, Fragment::First | Fragment::Later);
        let atomic = match layout.fragment_at {
            0 => None,
            at => ipv6::piece(packet, usize::from(at)),
        };
        let identification = match (layout.family, atomic) {
            (Family::V4, _) => word_at(packet, 4).map_or(0, u32::from),
            (Family::V6, Some((identification, ..))) => identification,
            (Family::V6, None) => 0,
        };
        let uncuttable = match layout.family {
            Family::V4 => frame.dont_fragment(),
            Family::V6 => atomic.is_none(),
        };
        Self {
            family: layout.family,
            whole: true,
            identification,
            largest: layout.length,
            repeated: match layout.fragment_at {
                0 => layout.transport.into(),
                at => at.into(),
            },
            dont_fragment: uncuttable || is_part,
        }
    }

    /// Whether it may leave in fragments, if it is too long to leave in one piece: it came so, or nobody said that it must not.
    pub const fn is_fragmentable(&self) -> bool {
        !self.whole || !self.dont_fragment
    }

    /// The datagram, as hooks have left it, in fragments that fit the link of its family and are no larger than those that it came in; by
    /// itself where that is as it should be. Later IPv4 fragments repeat the options that are to be copied (RFC 791 section 3.1).
    ///
    /// ```
    /// use gufc::key::Tuple;
    /// use gufc::packet::Mtus;
    /// use gufc::time::Instant;
    /// use gufc::wire::build::{Datagram, Transport};
    /// use gufc::wire::{Arrival, Frame, Limits, Reassembler, Reassembly};
    ///
    /// let large = Datagram::new("2001:db8::1".parse()?, "2001:db8::2".parse()?, Transport::udp(5, 53)).with_payload(&[7; 3000]);
    /// let came = large.fragments(1280)?;
    /// let mut reassembler = Reassembler::new(Limits::default());
    /// let mut datagram = Vec::new();
    /// for mut piece in came.clone() {
    ///     let frame: Frame = Frame::ip(&mut piece, &Arrival::default())?;
    ///     if let Reassembly::Complete(bytes) = reassembler.push(&frame, Instant::START) {
    ///         datagram = bytes.to_vec();
    ///     }
    /// }
    /// assert_eq!(reassembler.cut().fragments(&datagram, &Mtus::both(1500))?, came);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BuildError::Mtu`] where it must not be cut and does not fit, or there is no room for eight bytes of payload; [`BuildError::Options`]
    /// where `packet` has not the headers of the datagram. Cost: one pass over it, one allocation a fragment.
    pub fn fragments(&self, packet: &[u8], mtus: &Mtus) -> Result<Vec<Vec<u8>>, BuildError> {
        let (family, repeated) = self.shape(packet)?;
        let limit = self.limit(family, repeated, mtus);
        if packet.len() <= limit {
            return Ok(alloc::vec![packet.to_vec()]);
        }
        if !self.may_cut(family, packet) {
            return Err(BuildError::Mtu);
        }
        let (header, payload) = packet
            .split_at_checked(repeated)
            .ok_or(BuildError::Options)?;
        let room = limit.saturating_sub(header.len() + added(family)) & !7;
        if room == 0 {
            return Err(BuildError::Mtu);
        }
        let last = payload.len().saturating_sub(1) / room;
        let piece = |(number, part): (usize, &[u8])| {
            let (offset, more) = (number * room, number < last);
            match family {
                Family::V4 => self.piece_v4(header, part, offset, more),
                Family::V6 => self.piece_v6(header, part, offset, more),
            }
        };
        payload.chunks(room).enumerate().map(piece).collect()
    }

    /// A packet's family, and bytes that each of its fragments repeats.
    fn shape(&self, packet: &[u8]) -> Result<(Family, usize), BuildError> {
        let first = packet.first().copied().unwrap_or(0);
        let (family, repeated) = match first >> 4 {
            4 => (Family::V4, usize::from(first & 15) * 4),
            // A translator from IPv4 writes no extension headers.
            6 if self.family == Family::V4 => (Family::V6, ipv6::HEADER),
            6 => (Family::V6, self.repeated as usize),
            _ => return Err(BuildError::Options),
        };
        let least = match family {
            Family::V4 => 20,
            Family::V6 => ipv6::HEADER,
        };
        if repeated < least || packet.len() < repeated {
            return Err(BuildError::Options);
        }
        Ok((family, repeated))
    }

    /// Bytes of the largest fragment that may leave, of a family whose fragments repeat so many.
    fn limit(&self, family: Family, repeated: usize, mtus: &Mtus) -> usize {
        let link = match family {
            Family::V4 => mtus.v4,
            // Who sent it counts on IPv4's routers to cut it; IPv6's do not.
            Family::V6 if self.family == Family::V4 && !self.dont_fragment => {
                mtus.v6.min(mtus.lowest_v6)
            }
            Family::V6 => mtus.v6,
        };
        let link = usize::try_from(link).unwrap_or(usize::MAX);
        if self.whole {
            return link;
        }
        let came = self.repeated as usize + added(self.family);
        let payload = (self.largest as usize).saturating_sub(came);
        link.min(repeated + added(family) + payload)
    }

    /// Whether the datagram, which leaves as `packet`, may be cut.
    fn may_cut(&self, family: Family, packet: &[u8]) -> bool {
        let clear = |packet| word_at(packet, 6).is_some_and(|word| word & DONT_FRAGMENT == 0);
        match (self.whole, family) {
            (false, _) => true,
            (true, Family::V4) => clear(packet) && !is_part(packet),
            (true, Family::V6) => self.family == Family::V4 && !self.dont_fragment,
        }
    }

    fn piece_v4(
        &self,
        header: &[u8],
        part: &[u8],
        offset: usize,
        more: bool,
    ) -> Result<Vec<u8>, BuildError> {
        let (fixed, options) = header.split_at_checked(20).ok_or(BuildError::Options)?;
        let mut bytes = fixed.to_vec();
        if offset == 0 {
            bytes.extend_from_slice(options);
        } else {
            copy_options(options, &mut bytes);
        }
        let size = bytes.len();
        let length = u16::try_from(size + part.len()).map_err(|_| BuildError::TooLong)?;
        let keeps = !self.whole && self.family == Family::V4 && self.dont_fragment;
        let word = (offset / 8) as u16
            | if more { MORE } else { 0 }
            | if keeps { DONT_FRAGMENT } else { 0 };
        put_at(&mut bytes, 0, [0x40 | (size / 4) as u8]);
        put_at(&mut bytes, 2, length.to_be_bytes());
        if !self.whole {
            put_at(&mut bytes, 4, (self.identification as u16).to_be_bytes());
        }
        put_at(&mut bytes, 6, word.to_be_bytes());
        put_at(&mut bytes, 10, [0; 2]);
        let sum = !checksum::sum(&bytes);
        put_at(&mut bytes, 10, sum.to_be_bytes());
        bytes.extend_from_slice(part);
        Ok(bytes)
    }

    fn piece_v6(
        &self,
        header: &[u8],
        part: &[u8],
        offset: usize,
        more: bool,
    ) -> Result<Vec<u8>, BuildError> {
        let at = next_header_at(header);
        let [next] = bytes_at(header, at).ok_or(BuildError::Options)?;
        let mut bytes = header.to_vec();
        put_at(&mut bytes, at, [ipv6::FRAGMENT]);
        let length = u16::try_from(header.len() + FRAGMENT_HEADER + part.len() - ipv6::HEADER)
            .map_err(|_| BuildError::TooLong)?;
        put_at(&mut bytes, 4, length.to_be_bytes());
        bytes.extend_from_slice(&[next, 0]);
        bytes.extend_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
        bytes.extend_from_slice(&self.identification.to_be_bytes());
        bytes.extend_from_slice(part);
        Ok(bytes)
    }
}

/// Bytes that a fragment of a family has between what it repeats and its part of the payload.
const fn added(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => FRAGMENT_HEADER,
    }
}

/// Whether an IPv4 packet is a fragment.
fn is_part(packet: &[u8]) -> bool {
    word_at(packet, 6).is_some_and(|word| word & 0x3fff != 0)
}

/// Appends the options that later fragments repeat, padded to a multiple of four bytes.
fn copy_options(mut options: &[u8], to: &mut Vec<u8>) {
    /// The bit of an option's kind that asks for it.
    const COPIED: u8 = 0x80;
    while let Some(kind) = options.first() {
        let size = match (kind, options.get(1)) {
            (0, _) => break,
            (1, _) => 1,
            (_, Some(size)) => usize::from(*size).max(2),
            (_, None) => break,
        };
        let Some((option, rest)) = options.split_at_checked(size) else {
            break;
        };
        if kind & COPIED != 0 {
            to.extend_from_slice(option);
        }
        options = rest;
    }
    to.resize(to.len().next_multiple_of(4), 0);
}

/// Where in an IPv6 header and its extension headers the number stands of what follows them.
pub(super) fn next_header_at(header: &[u8]) -> usize {
    let (mut place, mut at) = (6, ipv6::HEADER);
    while let Some([_, words]) = bytes_at::<2>(header, at) {
        place = at;
        at += (usize::from(words) + 1) * 8;
    }
    place
}

impl<K: FrameKey> Frame<'_, K> {
    /// The same frame, whose datagram came so and will be [cut](Cut::fragments) when it leaves: if it may leave in fragments, no MTU is in
    /// the way of its translation to the other family.
    ///
    /// ```
    /// use gufc::packet::Mtus;
    /// # use gufc::time::Instant;
    /// use gufc::wire::{Arrival, Cut, Frame, HEADROOM, Limits, Reassembler, Reassembly};
    ///
    /// # let mut reassembler = Reassembler::new(Limits::default());
    /// # let now = Instant::START;
    /// # let mut packet = gufc::wire::build::Datagram::new("192.0.2.1".parse()?, "192.0.2.2".parse()?, gufc::wire::build::Transport::udp(5, 53)).emit()?;
    /// // A dataplane around its hooks, with room for a translation to the other family.
    /// let frame: Frame = Frame::ip(&mut packet, &Arrival::default())?;
    /// let mut cut = Cut::of(&frame);
    /// let mut buffer = vec![0; HEADROOM];
    /// match reassembler.push(&frame, now) {
    ///     Reassembly::Whole => buffer.extend_from_slice(frame.packet()),
    ///     Reassembly::Complete(datagram) => {
    ///         buffer.extend_from_slice(datagram);
    ///         cut = reassembler.cut();
    ///     }
    ///     Reassembly::Queued | Reassembly::Discarded(_) => return Ok(()),
    /// }
    /// let mut frame: Frame = Frame::with_headroom(&mut buffer, HEADROOM, &Arrival::default())?.with_cut(&cut);
    /// // ... hooks judge and change it ...
    /// for piece in cut.fragments(frame.packet(), &Mtus::both(1500))? {
    ///     // ... send it ...
    /// }
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_cut(mut self, cut: &Cut) -> Self {
        self.arrival.fragmentable = cut.is_fragmentable();
        self
    }
}
