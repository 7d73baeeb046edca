//! A key's named fields: where each lies in the bit string.
//!
//! Apart from the key itself so that a key's layout is one table that people, tests and drawings read alike.

/// One named field of a [`Key`](super::Key): `width` bits that begin `offset` bits after the most significant bit.
///
/// ```
/// use gufc::key::{Key, SevenTuple};
/// use core::net::Ipv4Addr;
///
/// let widths: u32 = SevenTuple::<Ipv4Addr>::FIELDS.iter().map(|f| f.width).sum();
/// assert_eq!(widths, SevenTuple::<Ipv4Addr>::BITS);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// What the field is called in text.
    pub name: &'static str,
    /// Bits between the most significant bit of the key and that of the field.
    pub offset: u32,
    /// Bits in the field, 1 to 128.
    pub width: u32,
}

/// Whether `fields` follow one another without gap or overlap and fill exactly `bits` bits.
///
/// Every key asserts this of its own table at compile time. Cost: one step a field.
pub const fn tiles(fields: &[Field], bits: u32) -> bool {
    let mut at = 0;
    let mut i = 0;
    while i < fields.len() {
        if fields[i].offset != at || fields[i].width == 0 || fields[i].width > 128 {
            return false;
        }
        at += fields[i].width;
        i += 1;
    }
    at == bits
}
