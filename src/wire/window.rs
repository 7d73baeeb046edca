//! A packet's bytes with room before them: what lets a frame begin earlier than it did.
//!
//! Apart from the frame so that everything else in it sees the packet's bytes and nothing before them.

use core::ops::{Deref, DerefMut};

/// The bytes from `begin` on.
#[derive(Debug)]
pub(super) struct Window<'a> {
    bytes: &'a mut [u8],
    begin: usize,
}

impl<'a> Window<'a> {
    /// All of `bytes`.
    #[inline]
    pub(super) fn of(bytes: &'a mut [u8]) -> Self {
        Self { bytes, begin: 0 }
    }

    /// The bytes of `buffer` from `begin` on.
    pub(super) fn behind(buffer: &'a mut [u8], begin: usize) -> Self {
        Self {
            bytes: buffer,
            begin,
        }
    }

    /// Room and packet as one, and where the packet begins.
    pub(super) fn buffer(&mut self) -> (&mut [u8], usize) {
        (self.bytes, self.begin)
    }

    /// Lets the packet end earlier: at `end` of the buffer.
    pub(super) fn set_end(&mut self, end: usize) {
        let bytes = core::mem::take(&mut self.bytes);
        let end = end.min(bytes.len());
        self.bytes = bytes.get_mut(..end).unwrap_or(&mut []);
    }

    /// Lets the packet begin elsewhere.
    pub(super) fn set_begin(&mut self, begin: usize) {
        self.begin = begin;
    }
}

impl Deref for Window<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes.get(self.begin..).unwrap_or(&[])
    }
}

impl DerefMut for Window<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.begin..).unwrap_or(&mut [])
    }
}
