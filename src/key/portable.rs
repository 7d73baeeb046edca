//! Keys as bytes, and the blocks that they travel in.
//!
//! Apart because the cache carries sessions and the tracker connections, in blocks of one form:
//!
//! ```text
//!  magic 4 | version 1 | key kind 1 | count 4 | items ... | checksum 8         integers little-endian
//! ```
//!
//! The checksum finds damage, not malice: blocks are as trusted as their way.

use alloc::vec::Vec;
use core::fmt;

use super::{Address, Key, SevenTuple, Tuple};

/// A key as bytes.
///
/// # Laws
///
/// `read` gives what `write` wrote, takes as many bytes, and takes nothing that `write` does not write.
pub trait Portable: Sized {
    /// Tells key types apart; below 16 for those of this crate.
    const KIND: u8;

    /// Appends the key.
    fn write(&self, bytes: &mut Vec<u8>);

    /// Takes a key off the front.
    fn read(bytes: &mut &[u8]) -> Option<Self>;
}

impl<A: Address> Portable for SevenTuple<A> {
    const KIND: u8 = (A::TUPLE_BITS / 64) as u8;

    fn write(&self, bytes: &mut Vec<u8>) {
        for word in self.words().as_ref() {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let mut words = <Self as Key>::Words::default();
        for word in words.as_mut() {
            *word = take_u64(bytes)?;
        }
        let key = Self::from_words(words);
        (key.words() == words).then_some(key)
    }
}

impl Portable for Tuple {
    const KIND: u8 = 0;

    fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::V4(key) => {
                bytes.push(4);
                key.write(bytes);
            }
            Self::V6(key) => {
                bytes.push(6);
                key.write(bytes);
            }
        }
    }

    fn read(bytes: &mut &[u8]) -> Option<Self> {
        match take::<1>(bytes)? {
            [4] => SevenTuple::read(bytes).map(Self::V4),
            [6] => SevenTuple::read(bytes).map(Self::V6),
            _ => None,
        }
    }
}

/// What an import takes over. Either way all hooks judge the next packet of each direction of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// All is taken as it was. Of sessions: segments, counters and idle times, so that flows that were established stay protected.
    /// Of connections: their windows too, so that none has to prove itself again.
    Trust,
    /// Less is. Sessions are half-open again, or denied as they were, until packets come both ways; their counters begin at
    /// nothing. Connections are there, and learn their windows afresh from the next packets.
    Reevaluate,
}

/// What became of a block's sessions, or connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Begun.
    pub begun: usize,
    /// Left out because there is one with the key.
    pub known: usize,
    /// Left out because there was no room, or the source had its share.
    pub refused: usize,
}

/// Why a block was refused. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ImportError {
    /// It does not begin as a block does.
    NotABlock,
    /// It is of a version that is not known here.
    Version(u8),
    /// It holds keys of another type.
    Keys(u8),
    /// It is cut off, longer than it says, or damaged.
    Damaged,
    /// The session, or connection, of this number, counted from 0, is none that there can be.
    Session(u32),
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotABlock => f.write_str("not a block of this kind"),
            Self::Version(version) => write!(f, "version {version} is not known"),
            Self::Keys(kind) => write!(f, "keys of another kind: {kind}"),
            Self::Damaged => f.write_str("cut off or damaged"),
            Self::Session(number) => write!(f, "number {number} is none that there can be"),
        }
    }
}

impl core::error::Error for ImportError {}

const HEADER: usize = 10;
const CHECKSUM: usize = 8;

/// Begins a block; gives where.
pub(crate) fn begin(bytes: &mut Vec<u8>, magic: [u8; 4], version: u8, kind: u8) -> usize {
    let begin = bytes.len();
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&[version, kind, 0, 0, 0, 0]);
    begin
}

/// Ends a block that began there and holds so many items.
pub(crate) fn seal(bytes: &mut Vec<u8>, begin: usize, count: u32) {
    if let Some(place) = bytes.get_mut(begin + HEADER - 4..begin + HEADER) {
        place.copy_from_slice(&count.to_le_bytes());
    }
    let sum = checksum(bytes.get(begin..).unwrap_or_default());
    bytes.extend_from_slice(&sum.to_le_bytes());
}

/// How many items a block has, and their bytes, where all of it is sound; `skip` takes an item off the front and says whether
/// it is one that there can be.
pub(crate) fn open(
    block: &[u8],
    magic: [u8; 4],
    version: u8,
    kind: u8,
    mut skip: impl FnMut(&mut &[u8]) -> bool,
) -> Result<(u32, &[u8]), ImportError> {
    let mut rest = block;
    if take::<4>(&mut rest) != Some(magic) {
        return Err(ImportError::NotABlock);
    }
    let [its_version, its_kind] = take::<2>(&mut rest).ok_or(ImportError::Damaged)?;
    if its_version != version {
        return Err(ImportError::Version(its_version));
    }
    if its_kind != kind {
        return Err(ImportError::Keys(its_kind));
    }
    let count = u32::from_le_bytes(take::<4>(&mut rest).ok_or(ImportError::Damaged)?);
    let (body, mut sum) = rest
        .len()
        .checked_sub(CHECKSUM)
        .and_then(|at| rest.split_at_checked(at))
        .ok_or(ImportError::Damaged)?;
    let summed = block.get(..HEADER + body.len()).unwrap_or(block);
    if take_u64(&mut sum) != Some(checksum(summed)) {
        return Err(ImportError::Damaged);
    }
    let mut items = body;
    for number in 0..count {
        if !skip(&mut items) {
            return Err(ImportError::Session(number));
        }
    }
    match items {
        [] => Ok((count, body)),
        _ => Err(ImportError::Damaged),
    }
}

pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

pub(crate) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take::<8>(bytes).map(u64::from_le_bytes)
}

/// FNV-1a, 64 bits: Fowler, Noll and Vo.
fn checksum(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
