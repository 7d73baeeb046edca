//! A TCP segment as a tracker sees it, and the serial arithmetic of its numbers.

use core::fmt;
use core::ops::{Add, Sub};

use super::Defect;

/// TCP's flag bits, as in the header's 14th byte (RFC 9293 section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement field is significant.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer is significant.
    pub const URG: Self = Self(0x20);
    /// Explicit congestion notification echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Each flag with its name in rules and dumps, lowest bit first.
    pub const NAMES: [(Self, &'static str); 8] = [
        (Self::FIN, "fin"),
        (Self::SYN, "syn"),
        (Self::RST, "rst"),
        (Self::PSH, "psh"),
        (Self::ACK, "ack"),
        (Self::URG, "urg"),
        (Self::ECE, "ecn"),
        (Self::CWR, "cwr"),
    ];

    /// The flags of both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether some flag is in both sets.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every flag of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the flags under `mask` are exactly `value`.
    pub const fn matches(self, mask: Self, value: Self) -> bool {
        self.0 & mask.0 == value.0
    }
}

/// Writes the names joined by `|`, or `none`.
impl core::ops::BitOr for TcpFlags {
    type Output = Self;

    /// [`union`](Self::union).
    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("none");
        }
        let mut first = true;
        for (flag, name) in Self::NAMES {
            if self.contains(flag) {
                if !core::mem::take(&mut first) {
                    f.write_str("|")?;
                }
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}

/// A TCP sequence number. Arithmetic is modulo 2^32; comparison is serial: `a` is before `b` when `b - a`, taken as a signed
/// number, is positive (RFC 9293 section 3.4; RFC 1982 leaves a distance of exactly 2^31 undefined, here it is "before").
///
/// ```
/// use gufc::packet::Seq;
/// assert!(Seq(0xffff_fff0).is_before(Seq(0x10)));
/// assert_eq!(Seq(0xffff_ffff) + 2, Seq(1));
/// assert_eq!(Seq(3) - Seq(0xffff_ffff), 4);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seq(pub u32);

impl Seq {
    /// Whether this number comes before `other`.
    pub const fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// Whether this number comes after `other`.
    pub const fn is_after(self, other: Self) -> bool {
        other.is_before(self)
    }

    /// The later of the two.
    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        if self.is_before(other) { other } else { self }
    }
}

impl Add<u32> for Seq {
    type Output = Self;

    fn add(self, distance: u32) -> Self {
        Self(self.0.wrapping_add(distance))
    }
}

impl Sub<u32> for Seq {
    type Output = Self;

    fn sub(self, distance: u32) -> Self {
        Self(self.0.wrapping_sub(distance))
    }
}

impl Sub for Seq {
    type Output = u32;

    /// The distance forward from `earlier` to this number.
    fn sub(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

/// The facts of one TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Sequence number of the first byte.
    pub seq: Seq,
    /// Acknowledgement number; significant when ACK is set.
    pub ack: Seq,
    /// The window field, unscaled.
    pub window: u16,
    /// The flags.
    pub flags: TcpFlags,
    /// Payload bytes by the network header, without SYN and FIN.
    pub payload: u32,
    /// The options.
    pub options: SegmentOptions,
}

/// The TCP options that trackers and normalisers read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Bytes of options in the header, 0 to 40.
    pub length: u8,
    /// Maximum segment size, kind 2 (RFC 9293 section 3.7.1).
    pub mss: Option<u16>,
    /// Window scale shift, kind 3, as sent: not clamped (RFC 7323 section 2).
    pub window_scale: Option<u8>,
    /// SACK permitted, kind 4 (RFC 2018 section 2).
    pub sack_permitted: bool,
    /// Left and right edges of up to four SACK blocks, kind 5 (RFC 2018 section 3).
    pub sack: [(Seq, Seq); 4],
    /// How many entries of `sack` count, 0 to 4.
    pub sack_blocks: u8,
    /// Timestamp value and echo, kind 8 (RFC 7323 section 3).
    pub timestamps: Option<(u32, u32)>,
}

impl SegmentOptions {
    /// The SACK blocks that count.
    pub fn sack_ranges(&self) -> &[(Seq, Seq)] {
        self.sack
            .get(..usize::from(self.sack_blocks))
            .unwrap_or(&[])
    }
}

impl Segment {
    /// Reads a segment from its header on; `length` is the segment's size in bytes by the network header.
    ///
    /// A malformed option ends the reading of options, as every stack does it; it is not a defect.
    ///
    /// # Errors
    ///
    /// [`Defect::TcpTruncated`] when the header is not there in full, [`Defect::TcpHeaderLength`] when the data offset is
    /// below 5 words or beyond the segment.
    ///
    /// Cost: at most 40 option bytes.
    #[inline]
    pub fn parse(bytes: &[u8], length: u32) -> Result<Self, Defect> {
        let mut segment = Self::parse_head(bytes, length)?;
        let end = 20 + usize::from(segment.options.length);
        match bytes.get(20..end) {
            Some([]) => {}
            Some(options) => segment.options = SegmentOptions::parse(options),
            None => return Err(Defect::TcpTruncated),
        }
        Ok(segment)
    }

    /// The same without reading the options, of which only the length is told.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), except that the options need not be there.
    ///
    /// Cost: O(1).
    #[inline]
    pub fn parse_head(bytes: &[u8], length: u32) -> Result<Self, Defect> {
        let Some(
            &[
                _,
                _,
                _,
                _,
                s0,
                s1,
                s2,
                s3,
                a0,
                a1,
                a2,
                a3,
                offset,
                flags,
                w0,
                w1,
                ..,
            ],
        ) = bytes.first_chunk::<20>()
        else {
            return Err(Defect::TcpTruncated);
        };
        let header = usize::from(offset >> 4) * 4;
        if header < 20 || header as u64 > u64::from(length) {
            return Err(Defect::TcpHeaderLength);
        }
        Ok(Self {
            seq: Seq(u32::from_be_bytes([s0, s1, s2, s3])),
            ack: Seq(u32::from_be_bytes([a0, a1, a2, a3])),
            window: u16::from_be_bytes([w0, w1]),
            flags: TcpFlags(flags),
            payload: length - header as u32,
            options: SegmentOptions {
                length: (header - 20) as u8,
                ..SegmentOptions::default()
            },
        })
    }

    /// Sequence numbers that the segment occupies: payload, plus one each for SYN and FIN.
    pub const fn occupies(&self) -> u32 {
        self.payload
            + self.flags.contains(TcpFlags::SYN) as u32
            + self.flags.contains(TcpFlags::FIN) as u32
    }

    /// The sequence number behind the segment.
    pub fn end(&self) -> Seq {
        self.seq + self.occupies()
    }
}

impl SegmentOptions {
    fn parse(mut bytes: &[u8]) -> Self {
        let mut options = Self {
            length: bytes.len() as u8,
            ..Self::default()
        };
        loop {
            match bytes {
                [] | [0, ..] => return options,
                [1, rest @ ..] => bytes = rest,
                [kind, length, ..] => {
                    let length = usize::from(*length);
                    let Some((option, rest)) = bytes.split_at_checked(length) else {
                        return options;
                    };
                    let Some(body) = option.get(2..) else {
                        return options;
                    };
                    options.take(*kind, body);
                    bytes = rest;
                }
                [_] => return options,
            }
        }
    }

    fn take(&mut self, kind: u8, body: &[u8]) {
        match (kind, body) {
            (2, &[a, b]) => self.mss = Some(u16::from_be_bytes([a, b])),
            (3, &[shift]) => self.window_scale = Some(shift),
            (4, []) => self.sack_permitted = true,
            (5, blocks) if self.sack_blocks == 0 && !blocks.is_empty() && blocks.len() % 8 == 0 => {
                for (place, block) in self.sack.iter_mut().zip(blocks.chunks_exact(8)) {
                    if let &[a, b, c, d, e, f, g, h] = block {
                        *place = (
                            Seq(u32::from_be_bytes([a, b, c, d])),
                            Seq(u32::from_be_bytes([e, f, g, h])),
                        );
                        self.sack_blocks += 1;
                    }
                }
            }
            (8, &[a, b, c, d, e, f, g, h]) => {
                self.timestamps = Some((
                    u32::from_be_bytes([a, b, c, d]),
                    u32::from_be_bytes([e, f, g, h]),
                ));
            }
            _ => {}
        }
    }
}
