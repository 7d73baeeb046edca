//! Receive side scaling: which fields are hashed, and how both directions of a flow are made to meet.
//!
//! Apart from the hash itself because this is what an owner configures and what drivers differ in.
//!
//! | function | input | both directions alike | entropy |
//! |---|---|---|---|
//! | Toeplitz | the fields | only under a [symmetric key](super::RssKey::symmetric) | 32 bits; 16 under such a key |
//! | Toeplitz, [`Symmetry::Xor`] | `s ^ d, s ^ d` | yes | what the XOR leaves: flows of one difference collide |
//! | Toeplitz, [`Symmetry::OrXor`] | `s \| d, s ^ d` | yes | 32 bits for most tuples |
//! | [`Function::XorFold`] | all words XORed, halves folded | yes | 16 bits, no secret |

use super::toeplitz::{RssKey, Toeplitz};
use crate::key::{Family, Fields, Key, Protocol};
use crate::trie::{HeaderHash, Seeded};

/// How a hash is made of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Function {
    /// The Toeplitz hash under the key.
    #[default]
    Toeplitz,
    /// The XOR of the input's 32-bit words (each port a word), its halves XORed into both halves: no key, the same for both
    /// directions, and anybody can aim it.
    XorFold,
}

/// What is done to source and destination before they are hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Symmetry {
    /// Nothing.
    #[default]
    None,
    /// Both are replaced by their XOR: Linux's `symmetric-xor` (`RXH_XFRM_SYM_XOR`, since 6.8).
    Xor,
    /// The source by the OR of both, the destination by the XOR: Linux's `symmetric-or-xor` (`RXH_XFRM_SYM_OR_XOR`).
    OrXor,
}

/// What a NIC hashes, and how.
///
/// ```
/// use gufc::key::{FlowKey, Tuple};
/// use gufc::nic::{Rss, RssKey, Symmetry};
///
/// let rss = Rss::new(RssKey::MICROSOFT);
/// let flow: Tuple = "tcp 66.9.149.187:2794 > 161.142.100.80:1766".parse()?;
/// assert_eq!(rss.hash(&flow.fields()), 0x51cc_c178);
///
/// let rss = rss.with_symmetry(Symmetry::Xor);
/// assert_eq!(Some(rss.hash(&flow.fields())), flow.inverse().map(|back| rss.hash(&back.fields())));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Rss {
    toeplitz: Toeplitz,
    function: Function,
    symmetry: Symmetry,
    /// Protocols whose ports are hashed, by their place in [`PORTED`].
    ported: u8,
}

/// Protocols of which a NIC may hash ports.
const PORTED: [Protocol; 4] = [
    Protocol::TCP,
    Protocol::UDP,
    Protocol::SCTP,
    Protocol::UDP_LITE,
];

impl Rss {
    /// Toeplitz under `key`; ports are hashed for TCP, UDP and SCTP.
    pub fn new(key: RssKey) -> Self {
        Self {
            toeplitz: Toeplitz::new(&key),
            function: Function::Toeplitz,
            symmetry: Symmetry::None,
            ported: 0b111,
        }
    }

    /// The same with another function.
    #[must_use]
    pub fn with_function(self, function: Function) -> Self {
        Self { function, ..self }
    }

    /// Its symmetry, apart from the key's.
    pub const fn symmetry(&self) -> Symmetry {
        self.symmetry
    }

    /// The same with another symmetry.
    #[must_use]
    pub fn with_symmetry(self, symmetry: Symmetry) -> Self {
        Self { symmetry, ..self }
    }

    /// The same, hashing ports of these protocols only, of TCP, UDP, SCTP and UDP-Lite. Datagrams that are fragmented on their
    /// way stay together only where their protocol's ports are not hashed.
    #[must_use]
    pub fn with_ports_of(self, protocols: &[Protocol]) -> Self {
        let mut ported = 0;
        for (place, protocol) in PORTED.iter().enumerate() {
            ported |= u8::from(protocols.contains(protocol)) << place;
        }
        Self { ported, ..self }
    }

    /// The key.
    pub const fn key(&self) -> &RssKey {
        self.toeplitz.key()
    }

    /// Whether ports of this protocol are hashed.
    pub fn hashes_ports(&self, protocol: Protocol) -> bool {
        let place = PORTED.iter().position(|known| *known == protocol);
        place.is_some_and(|place| self.ported >> place & 1 == 1)
    }

    /// Whether every flow and its answer hash alike.
    pub fn is_symmetric(&self) -> bool {
        self.function == Function::XorFold
            || self.symmetry != Symmetry::None
            || *self.key() == {
                let [high, low, ..] = *self.key().bytes();
                RssKey::symmetric(u16::from_be_bytes([high, low]))
            }
    }

    /// The hash of a packet of this flow that is not a fragment. Cost: two loads a byte of input, 12 or 36 bytes.
    #[inline]
    pub fn hash(&self, flow: &Fields) -> u32 {
        self.hash_ends(
            flow.family,
            [flow.source, flow.destination],
            self.hashes_ports(flow.protocol)
                .then_some([flow.source_port, flow.destination_port]),
        )
    }

    /// The hash of a fragment, first or later: of addresses only.
    #[inline]
    pub fn hash_fragment(&self, flow: &Fields) -> u32 {
        self.hash_ends(flow.family, [flow.source, flow.destination], None)
    }

    /// The hash of left-aligned addresses and, where they are hashed, ports.
    #[inline]
    fn hash_ends(&self, family: Family, addresses: [u128; 2], ports: Option<[u16; 2]>) -> u32 {
        if self.function == Function::XorFold {
            return xor_fold(addresses, ports.unwrap_or([0; 2]));
        }
        let [source, destination] = match self.symmetry {
            Symmetry::None => addresses,
            Symmetry::Xor => [addresses[0] ^ addresses[1]; 2],
            Symmetry::OrXor => [addresses[0] | addresses[1], addresses[0] ^ addresses[1]],
        };
        let (source, destination) = (source.to_be_bytes(), destination.to_be_bytes());
        // The table is walked by parts, so that nothing is copied together first.
        let (hash, at) = match family {
            Family::V4 => (
                self.toeplitz.hash(&source[..4]) ^ self.toeplitz.hash_at(4, &destination[..4]),
                8,
            ),
            Family::V6 => (
                self.toeplitz.hash(&source) ^ self.toeplitz.hash_at(16, &destination),
                32,
            ),
        };
        let Some(ports) = ports else { return hash };
        let [source, destination] = match self.symmetry {
            Symmetry::None => ports,
            Symmetry::Xor => [ports[0] ^ ports[1]; 2],
            Symmetry::OrXor => [ports[0] | ports[1], ports[0] ^ ports[1]],
        };
        let ports = u32::from(source) << 16 | u32::from(destination);
        hash ^ self.toeplitz.hash_at(at, &ports.to_be_bytes())
    }
}

fn xor_fold(addresses: [u128; 2], ports: [u16; 2]) -> u32 {
    let wide = addresses[0] ^ addresses[1];
    let half = (wide >> 64) as u64 ^ wide as u64;
    let word = (half >> 32) as u32 ^ half as u32 ^ u32::from(ports[0] ^ ports[1]);
    word ^ word.rotate_left(16)
}

/// A NIC's hash as the trie's header: what the NIC has computed need not be computed again.
///
/// The header of a key is the RSS hash of its flow, spread over 64 bits under a seed. Packets bring the hash
/// ([`Packet::hash`](crate::packet::Packet::hash)), [`header_of`](Self::header_of) makes the header of it, and the index's
/// `_hashed` calls take that. A wrong hash finds nothing or the right entry, never another; so where nothing is found, the key
/// is hashed here before anything is concluded or inserted.
///
/// # What that means for floods
///
/// The RSS hash is linear and its key is often public. Whoever knows it can make any number of flows with one and the same hash,
/// and the seed does not help, for equal hashes are spread alike. The trie then tells these flows apart by their own bits: a
/// lookup among them reads up to 64 + `K::BITS` slots, and an edit moves at most [`MOVES_MAX`](crate::trie::MOVES_MAX), but no
/// chain is searched. The nodes that this takes may run out before the entries do, and then inserts are refused. The default header ([`Folded`](crate::trie::Folded)) costs a few multiplications and is not linear; take
/// this one where the hash is free, the key is secret, and hashes are not shown to strangers (a flow label or an IP
/// identification made of the hash is).
///
/// Flows that differ in protocol, zone or locality only, and those of protocols without ports between one pair of hosts, collide
/// without any malice.
///
/// ```
/// use gufc::key::{FlowKey, Protocol, SevenTuple};
/// use gufc::nic::{Rss, RssHeader, RssKey};
/// use gufc::trie::LcIndex;
/// use core::net::Ipv4Addr;
///
/// let rss = Rss::new(RssKey::from_seed([1, 2]));
/// let header = RssHeader::new(rss.clone(), 3);
/// let mut index = LcIndex::try_with_hash(header.clone(), 1_000)?;
/// let flow = SevenTuple::new(Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(192, 0, 2, 1), Protocol::TCP, 40000, 80);
/// index.insert(&flow, 7)?;
/// let from_nic = rss.hash(&flow.fields());
/// assert_eq!(index.find_hashed(header.header_of(from_nic), &flow), Some(7));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct RssHeader {
    rss: Rss,
    seed: u64,
}

impl RssHeader {
    /// Headers made of this NIC's hashes, spread under `seed`.
    pub const fn new(rss: Rss, seed: u64) -> Self {
        Self { rss, seed }
    }

    /// What is hashed, and how.
    pub const fn rss(&self) -> &Rss {
        &self.rss
    }

    /// The header of all flows of which the NIC's hash is `hash`.
    #[inline]
    pub fn header_of(&self, hash: u32) -> u64 {
        // One bijection of 64 bits (the finisher of MurmurHash3, Appleby): different hashes have different headers.
        let mut z = u64::from(hash) ^ self.seed;
        z = (z ^ z >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
        z = (z ^ z >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        z ^ z >> 33
    }
}

impl HeaderHash for RssHeader {
    /// For keys that have the fields of a [`SevenTuple`](crate::key::SevenTuple) by name; other keys hash what they have of
    /// them.
    #[inline]
    fn header<K: Key>(&self, key: &K) -> u64 {
        let places = const { Places::of::<K>() };
        let words = key.words();
        let field = |place: (u32, u32)| bits(words.as_ref(), place);
        let family = if places.source.1 <= 32 {
            Family::V4
        } else {
            Family::V6
        };
        let left = |place: (u32, u32)| match place.1 {
            0 => 0,
            width => field(place) << (128 - width),
        };
        let protocol = Protocol(field(places.protocol) as u8);
        let ports = [places.source_port, places.destination_port].map(|place| field(place) as u16);
        self.header_of(self.rss.hash_ends(
            family,
            [left(places.source), left(places.destination)],
            self.rss.hashes_ports(protocol).then_some(ports),
        ))
    }

    #[inline]
    fn header_of_nic(&self, hash: u32) -> Option<u64> {
        Some(self.header_of(hash))
    }
}

impl Seeded for RssHeader {
    /// Headers of a NIC whose key is [`RssKey::from_seed`] of the same seed, and that does nothing for symmetry: a cache takes the
    /// seed of its configuration for received packets. An owner whose NIC hashes otherwise wraps this type in one of their own.
    fn from_seed(seed: [u64; 2]) -> Self {
        Self::new(Rss::new(RssKey::from_seed(seed)), seed[0] ^ seed[1])
    }
}

/// Where the hashed fields lie in a key: offset and width.
struct Places {
    source: (u32, u32),
    destination: (u32, u32),
    source_port: (u32, u32),
    destination_port: (u32, u32),
    protocol: (u32, u32),
}

impl Places {
    const fn of<K: Key>() -> Self {
        Self {
            source: place::<K>("source", 128),
            destination: place::<K>("destination", 128),
            source_port: place::<K>("source_port", 16),
            destination_port: place::<K>("destination_port", 16),
            protocol: place::<K>("protocol", 8),
        }
    }
}

/// The field of this name, no wider than `most`; nothing where there is none.
const fn place<K: Key>(name: &str, most: u32) -> (u32, u32) {
    let mut i = 0;
    while i < K::FIELDS.len() {
        let field = &K::FIELDS[i];
        if same(field.name.as_bytes(), name.as_bytes()) {
            let width = if field.width < most {
                field.width
            } else {
                most
            };
            return (field.offset, width);
        }
        i += 1;
    }
    (0, 0)
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Bits `offset` to `offset + width` of a string of words, right-aligned; at most 128.
#[inline]
fn bits(words: &[u64], (offset, width): (u32, u32)) -> u128 {
    if width == 0 {
        return 0;
    }
    let word = |at: u32| u128::from(words.get(at as usize).copied().unwrap_or(0));
    let (at, shift) = (offset / 64, offset % 64);
    // Three words hold any 128 bits.
    let high = word(at) << 64 | word(at + 1);
    let string = if shift == 0 {
        high
    } else {
        high << shift | word(at + 2) >> (64 - shift)
    };
    string >> (128 - width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{FlowKey, SevenTuple, Tuple};
    use core::net::{Ipv4Addr, Ipv6Addr};

    /// Microsoft's published vectors: destination, source, hash with ports, hash of addresses.
    const V4: [(&str, &str, u32, u32); 5] = [
        (
            "161.142.100.80:1766",
            "66.9.149.187:2794",
            0x51cc_c178,
            0x323e_8fc2,
        ),
        (
            "65.69.140.83:4739",
            "199.92.111.2:14230",
            0xc626_b0ea,
            0xd718_262a,
        ),
        (
            "12.22.207.184:38024",
            "24.19.198.95:12898",
            0x5c2b_394a,
            0xd2d0_a5de,
        ),
        (
            "209.142.163.6:2217",
            "38.27.205.30:48228",
            0xafc7_327f,
            0x8298_9176,
        ),
        (
            "202.188.127.2:1303",
            "153.39.163.191:44251",
            0x10e8_28a2,
            0x5d18_09c5,
        ),
    ];
    const V6: [(&str, &str, u32, u32); 3] = [
        (
            "[3ffe:2501:200:3::1]:1766",
            "[3ffe:2501:200:1fff::7]:2794",
            0x4020_7d3d,
            0x2cc1_8cd5,
        ),
        (
            "[ff02::1]:4739",
            "[3ffe:501:8::260:97ff:fe40:efab]:14230",
            0xdde5_1bbf,
            0x0f0c_461c,
        ),
        (
            "[fe80::200:f8ff:fe21:67cf]:38024",
            "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251",
            0x02d1_feef,
            0x4b61_e985,
        ),
    ];

    fn tuple(protocol: &str, destination: &str, source: &str) -> Tuple {
        let text = std::format!("{protocol} {source} > {destination}");
        text.parse()
            .unwrap_or_else(|why| panic!("{text:?}: {why:?}"))
    }

    #[test]
    fn published_vectors() {
        let rss = Rss::new(RssKey::MICROSOFT);
        for (destination, source, ports, addresses) in V4.into_iter().chain(V6) {
            for protocol in ["tcp", "udp"] {
                let flow = tuple(protocol, destination, source).fields();
                assert_eq!(rss.hash(&flow), ports, "{source} > {destination}");
                assert_eq!(rss.hash_fragment(&flow), addresses);
                let bare = rss.clone().with_ports_of(&[]);
                assert_eq!(bare.hash(&flow), addresses);
            }
        }
    }

    #[test]
    fn tables_do_what_single_bits_do() {
        let mut state = [3, 4];
        for round in 0..200 {
            let key = RssKey::from_seed([round, 9]);
            let fast = Toeplitz::new(&key);
            let mut input = [0u8; 36];
            for byte in &mut input {
                *byte = super::super::draw(&mut state) as u8;
            }
            for len in 0..=36 {
                let input = &input[..len];
                assert_eq!(
                    fast.hash(input),
                    crate::testing::nic::toeplitz(key.bytes(), input)
                );
            }
        }
    }

    #[test]
    fn both_directions_meet() {
        let [asymmetric, key] = [RssKey::from_seed([1, 2]), RssKey::symmetric(0x6d5a)];
        let ways = [
            Rss::new(key),
            Rss::new(asymmetric).with_symmetry(Symmetry::Xor),
            Rss::new(asymmetric).with_symmetry(Symmetry::OrXor),
            Rss::new(asymmetric).with_function(Function::XorFold),
        ];
        for (destination, source, ..) in V4.into_iter().chain(V6) {
            let there = tuple("tcp", destination, source);
            let back = there.inverse().expect("an answer");
            for rss in &ways {
                assert!(rss.is_symmetric());
                assert_eq!(rss.hash(&there.fields()), rss.hash(&back.fields()));
            }
            let rss = Rss::new(asymmetric);
            assert!(!rss.is_symmetric());
            assert_ne!(rss.hash(&there.fields()), rss.hash(&back.fields()));
        }
    }

    #[test]
    fn symmetric_or_xor_hashes_the_or_and_the_xor() {
        let rss = Rss::new(RssKey::MICROSOFT).with_symmetry(Symmetry::OrXor);
        let flow = tuple("udp", "10.0.0.1:3", "10.0.0.2:5").fields();
        let input = [10, 0, 0, 3, 0, 0, 0, 3, 0, 7, 0, 6];
        assert_eq!(
            rss.hash(&flow),
            crate::testing::nic::toeplitz(rss.key().bytes(), &input)
        );
        let rss = rss.with_symmetry(Symmetry::Xor);
        let input = [0, 0, 0, 3, 0, 0, 0, 3, 0, 6, 0, 6];
        assert_eq!(
            rss.hash(&flow),
            crate::testing::nic::toeplitz(rss.key().bytes(), &input)
        );
    }

    #[test]
    fn a_header_is_the_hash_of_the_key_s_fields() {
        for symmetry in [Symmetry::None, Symmetry::Xor, Symmetry::OrXor] {
            let rss = Rss::new(RssKey::from_seed([5, 6])).with_symmetry(symmetry);
            let header = RssHeader::new(rss.clone(), 77);
            for (destination, source, ..) in V4 {
                for protocol in ["tcp", "udp", "47"] {
                    let Tuple::V4(key) = tuple(protocol, destination, source) else {
                        continue;
                    };
                    let hash = rss.hash(&key.fields());
                    assert_eq!(header.header(&key), header.header_of(hash));
                }
            }
            for (destination, source, ..) in V6 {
                let Tuple::V6(key) = tuple("tcp", destination, source) else {
                    continue;
                };
                let key: SevenTuple<Ipv6Addr> = key;
                assert_eq!(
                    header.header(&key),
                    header.header_of(rss.hash(&key.fields()))
                );
            }
        }
        // A key without these fields has one header for all: legal, and slow.
        let header = RssHeader::new(Rss::new(RssKey::MICROSOFT), 1);
        let other = Ipv4Addr::new(1, 2, 3, 4);
        assert_eq!(header.header(&other), header.header_of(0));
    }
}
