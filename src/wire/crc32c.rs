//! CRC32c (RFC 9260 appendix A), SCTP's checksum, and how it changes when a few bytes of a packet change.
//!
//! A CRC is linear: for packets of one length, the CRCs of two of them differ by what their difference gives. So a change of
//! the ports costs one multiplication in GF(2)\[x\] for each bit of the packet's length instead of a pass over the packet, and
//! a wrong checksum stays wrong by the same amount.

/// The polynomial 0x1edc6f41 with its bits reversed, as the reflected form wants it.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What each byte adds, 1 KiB.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut bits = byte as u32;
        let mut i = 0;
        while i < 8 {
            bits = times_x(bits);
            i += 1;
        }
        table[byte] = bits;
        byte += 1;
    }
    table
};

/// `x` to the power `8 * 2^i`, reduced: what `2^i` more bytes do to a remainder. Seventeen reach 131,071 bytes.
const POWERS: [u32; 17] = {
    let mut powers = [0; 17];
    // x^8; the coefficient of x^0 is the top bit.
    powers[0] = 1 << (31 - 8);
    let mut i = 1;
    while i < 17 {
        powers[i] = multiply(powers[i - 1], powers[i - 1]);
        i += 1;
    }
    powers
};

/// The CRC register after `bytes`, from the register before them. Cost: one step a byte.
fn advance(register: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(register, |register, byte| {
        register >> 8 ^ TABLE[usize::from(register as u8 ^ byte)]
    })
}

/// The CRC32c of several pieces, one behind the other.
pub(super) fn crc32c(pieces: &[&[u8]]) -> u32 {
    !pieces
        .iter()
        .fold(!0, |register, piece| advance(register, piece))
}

/// What a change of four bytes by `difference` (old xor new) does to the CRC, when `behind` bytes stand behind them: to be
/// xored to it. Cost: O(log `behind`).
pub(super) fn change(difference: [u8; 4], behind: u32) -> u32 {
    let mut register = advance(0, &difference);
    for (i, power) in POWERS.iter().enumerate() {
        if behind >> i & 1 != 0 {
            register = multiply(register, *power);
        }
    }
    register
}

/// One more zero bit.
const fn times_x(bits: u32) -> u32 {
    if bits & 1 != 0 {
        bits >> 1 ^ POLYNOMIAL
    } else {
        bits >> 1
    }
}

/// The product of two polynomials, reduced.
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut product, mut shifted) = (0, b);
    let mut i = 0;
    while i < 32 {
        if a << i & 1 << 31 != 0 {
            product ^= shifted;
        }
        shifted = times_x(shifted);
        i += 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn published_vectors() {
        // RFC 3720 appendix B.4.
        assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
        assert_eq!(crc32c(&[&[0xff; 32]]), 0x62a8_ab43);
        let rising: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&[&rising[..5], &rising[5..]]), 0x46dd_794e);
    }

    proptest! {
        #[test]
        fn change_agrees(mut bytes in proptest::collection::vec(any::<u8>(), 4..400), new: [u8; 4]) {
            let before = crc32c(&[&bytes]);
            let mut difference = new;
            for (d, old) in difference.iter_mut().zip(&bytes) {
                *d ^= old;
            }
            bytes[..4].copy_from_slice(&new);
            prop_assert_eq!(before ^ change(difference, bytes.len() as u32 - 4), crc32c(&[&bytes]));
        }
    }
}
