//! The Toeplitz hash: each set bit of the input adds one window of the key.
//!
//! Apart from the choice of fields (`rss`) because it is a function of bytes, and a linear one: what solves for ports
//! (`solve`) rests on that alone.
//!
//! ```text
//!  key     k0 k1 k2 k3 ...                                   k319
//!  input      1 : ^ k0..k31
//!             0 :
//!             1 :       ^ k2..k33                     hash = the XOR of the windows under the input's ones
//! ```
//!
//! Bit by bit that is one step for each bit of input. [`Toeplitz`] keeps, for each half byte of input and each of its sixteen
//! values, the XOR of the windows: two loads a byte, 24 for an IPv4 flow with ports, 72 for IPv6, from a table of 4.6 KB. A table
//! by whole bytes halves the loads and takes 37 KB, more than the first cache level can spare.
//!
//! Source: Microsoft, *Introduction to Receive Side Scaling* and *Verifying the RSS Hash Calculation*; the function is Krawczyk's
//! (*LFSR-based Hashing and Authentication*, CRYPTO '94, section 3).

use core::fmt;

/// Bytes of input that a key serves: two IPv6 addresses and two ports.
pub const INPUT_MAX: usize = 36;

/// The secret of the hash: 40 bytes, enough for [`INPUT_MAX`] bytes of input and a window of 32 bits.
///
/// Whoever knows it chooses queues, and collisions, at will: the hash is linear. Whoever sees hashes of tuples that he knows
/// can work it out. It spreads load; it protects nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RssKey([u8; Self::BYTES]);

impl RssKey {
    /// Bytes of a key.
    pub const BYTES: usize = INPUT_MAX + 4;

    /// The key of Microsoft's verification suite, which many drivers use as it is, and attackers know.
    pub const MICROSOFT: Self = Self([
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ]);

    /// These bytes.
    pub const fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// A key that repeats two bytes: both directions of a flow hash alike, for source and destination are 32, 128 and 16 bits
    /// apart, and windows 16 bits apart are equal (Woo and Park, *Scalable TCP Session Monitoring with Symmetric Receive-side
    /// Scaling*, KAIST 2012, with 0x6d5a).
    ///
    /// The price: both halves of the hash are equal, so it has 16 bits. A `period` with few ones, or with a short period of its
    /// own, spreads badly; all zero puts every flow on one queue.
    pub const fn symmetric(period: u16) -> Self {
        let mut bytes = [0; Self::BYTES];
        let [high, low] = period.to_be_bytes();
        let mut i = 0;
        while i < Self::BYTES {
            bytes[i] = if i % 2 == 0 { high } else { low };
            i += 1;
        }
        Self(bytes)
    }

    /// A key drawn from a seed: equal seeds give equal keys.
    pub fn from_seed(seed: [u64; 2]) -> Self {
        let mut bytes = [0; Self::BYTES];
        let mut state = seed;
        for chunk in bytes.chunks_mut(8) {
            let word = super::draw(&mut state);
            for (byte, drawn) in chunk.iter_mut().zip(word.to_be_bytes()) {
                *byte = drawn;
            }
        }
        Self(bytes)
    }

    /// The bytes, as a NIC takes them.
    pub const fn bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// The 32 bits of the key from bit `at` on; zeros past its end. Cost: five bytes.
    pub fn window(&self, at: usize) -> u32 {
        let mut wide = 0u64;
        for i in 0..5 {
            wide = wide << 8 | u64::from(self.0.get(at / 8 + i).copied().unwrap_or(0));
        }
        (wide >> (8 - at % 8)) as u32
    }
}

impl fmt::Debug for RssKey {
    /// A secret is not for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RssKey(..)")
    }
}

/// The hash under one key, ready to be computed fast.
///
/// ```
/// use gufc::nic::{RssKey, Toeplitz};
///
/// let hash = Toeplitz::new(&RssKey::MICROSOFT);
/// // 66.9.149.187:2794 to 161.142.100.80:1766, Microsoft's first vector.
/// assert_eq!(hash.hash(&[66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6]), 0x51cc_c178);
/// ```
#[derive(Clone)]
pub struct Toeplitz {
    key: RssKey,
    /// By byte of input, by half (high, low), by value.
    tables: [[[u32; 16]; 2]; INPUT_MAX],
}

impl Toeplitz {
    /// The hash under `key`. Cost: 1,152 table entries.
    pub fn new(key: &RssKey) -> Self {
        let mut tables = [[[0; 16]; 2]; INPUT_MAX];
        for (byte, halves) in tables.iter_mut().enumerate() {
            for (half, table) in halves.iter_mut().enumerate() {
                for (value, entry) in table.iter_mut().enumerate() {
                    for bit in 0..4 {
                        if value & 8 >> bit != 0 {
                            *entry ^= key.window(byte * 8 + half * 4 + bit);
                        }
                    }
                }
            }
        }
        Self { key: *key, tables }
    }

    /// The key.
    pub const fn key(&self) -> &RssKey {
        &self.key
    }

    /// The hash of `input`; bytes past [`INPUT_MAX`] are ignored. Cost: two loads a byte.
    #[inline]
    pub fn hash(&self, input: &[u8]) -> u32 {
        self.hash_at(0, input)
    }

    /// What `input`, standing `at` bytes into a longer one, adds to its hash.
    #[inline]
    pub fn hash_at(&self, at: usize, input: &[u8]) -> u32 {
        let tables = self.tables.get(at..).unwrap_or(&[]);
        tables
            .iter()
            .zip(input)
            .fold(0, |hash, ([high, low], byte)| {
                hash ^ high[usize::from(byte >> 4)] ^ low[usize::from(byte & 15)]
            })
    }
}

impl fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}
