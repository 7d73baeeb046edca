//! How a key type gets its index: one trait for the key, one for the index, and the index of a dual-stack dataplane.
//!
//! Apart because a cache is generic over its key and must not care whether that key is one string of bits or, like
//! [`Tuple`], either of two.

use core::fmt::Debug;
use core::net::{Ipv4Addr, Ipv6Addr};

use super::check::Stats;
use super::header::{Folded, HeaderHash, Seeded};
use super::index::{Full, LcIndex, ReserveError, Subtree, Trace};
use super::order::Cursor;
use crate::key::{Address, Key, SevenTuple, Tuple};

/// A key type that knows its index.
///
/// A key type of your own joins in one line, if it is a [`Key`]:
///
/// ```
/// use gufc::key::{Field, Key};
/// use gufc::trie::{Indexed, KeyIndex, LcIndex};
///
/// /// A tunnel id and a flow label.
/// #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
/// struct Label(u64);
///
/// impl Key for Label {
///     const BITS: u32 = 64;
///     const FIELDS: &'static [Field] = &[Field { name: "label", offset: 0, width: 64 }];
///     type Words = [u64; 1];
///     fn words(&self) -> [u64; 1] { [self.0] }
///     fn from_words([word]: [u64; 1]) -> Self { Self(word) }
/// }
///
/// impl Indexed for Label {
///     type Index = LcIndex<Self>;
/// }
///
/// let mut index = <Label as Indexed>::Index::with_seed([1, 2], 10)?;
/// index.insert(&Label(5), 50)?;
/// assert_eq!(index.find(&Label(5)), Some(50));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
pub trait Indexed: Copy + Eq + Debug + 'static {
    /// Its exact-match index.
    type Index: KeyIndex<Self>;
}

impl<A: Address> Indexed for SevenTuple<A> {
    type Index = LcIndex<Self>;
}

impl Indexed for Ipv4Addr {
    type Index = LcIndex<Self>;
}

impl Indexed for Ipv6Addr {
    type Index = LcIndex<Self>;
}

impl Indexed for Tuple {
    type Index = DualIndex;
}

/// An exact-match index from keys to ids: what [`LcIndex`] does, as a trait. See there for each method.
///
/// # Laws
///
/// * `find` after `insert(k, i)` is `Some(i)`, after `remove(k)` is `None`, and no other key's answer changes.
/// * `find_hashed(header(k), k) == find(k)`; `find_many` is `find` for each.
/// * A call that fails changes nothing.
pub trait KeyIndex<K: Copy>: Sized + Debug {
    /// An index for up to `capacity` entries; all memory is reserved here.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when `capacity` is too large or memory is short.
    fn with_seed(seed: [u64; 2], capacity: usize) -> Result<Self, ReserveError>;

    /// Bytes that an index for `capacity` entries reserves.
    fn bytes_for(capacity: usize) -> usize;

    /// The header of `key`.
    fn header(&self, key: &K) -> u64;

    /// The id of `key`.
    fn find(&self, key: &K) -> Option<u32> {
        self.find_hashed(self.header(key), key)
    }

    /// The id of `key` whose header is known.
    fn find_hashed(&self, header: u64, key: &K) -> Option<u32>;

    /// The id of `key`, of which a NIC says that its hash is `hash`. An index whose headers are made of such hashes looks there
    /// first, and hashes the key itself only where it finds nothing, for the NIC may be wrong; every other index does not care.
    #[inline]
    fn find_by_nic(&self, hash: u32, key: &K) -> Option<u32> {
        let _ = hash;
        self.find(key)
    }

    /// The ids of `keys`, in order, into `ids`.
    fn find_many(&self, keys: &[K], ids: &mut [Option<u32>]);

    /// Reads what inserting or removing these keys is going to read, so that the misses in the machine's caches overlap; what it
    /// gives means nothing. Default: reads nothing.
    fn warm_many(&self, keys: &[K]) -> u64 {
        let _ = keys;
        0
    }

    /// The bits of the subtree that `key` belongs to ([`LcIndex::subtree`]): a cookie that never goes stale.
    fn subtree(&self, key: &K) -> u32;

    /// The id of `key`, if it is in the subtree of these bits ([`LcIndex::find_from`]).
    fn find_from(&self, subtree: u32, key: &K) -> Option<u32>;

    /// Puts `key` under `id`; the id that it had.
    ///
    /// # Errors
    ///
    /// [`Full`]; nothing was changed.
    fn insert(&mut self, key: &K, id: u32) -> Result<Option<u32>, Full> {
        self.insert_hashed(self.header(key), key, id)
    }

    /// [`insert`](Self::insert) with the header known.
    ///
    /// # Errors
    ///
    /// [`Full`]; nothing was changed.
    fn insert_hashed(&mut self, header: u64, key: &K, id: u32) -> Result<Option<u32>, Full>;

    /// Takes `key` out; its id.
    fn remove(&mut self, key: &K) -> Option<u32> {
        self.remove_hashed(self.header(key), key)
    }

    /// [`remove`](Self::remove) with the header known.
    fn remove_hashed(&mut self, header: u64, key: &K) -> Option<u32>;

    /// Entries.
    fn len(&self) -> usize;

    /// Whether there is no entry.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Most entries.
    fn capacity(&self) -> usize;

    /// Calls `each` with every entry, in no particular order.
    fn for_each(&self, each: impl FnMut(K, u32));

    /// Forgets all entries.
    fn clear(&mut self);

    /// The next entry in trie order; the cursor survives edits.
    fn next(&self, cursor: &mut Cursor<K>) -> Option<(K, u32)>;

    /// What a lookup reads.
    fn trace(&self, key: &K) -> Trace;

    /// Bytes reserved.
    fn reserved_bytes(&self) -> usize;

    /// Bytes that have come into use of those reserved.
    fn touched_bytes(&self) -> usize;

    /// Whether all invariants hold.
    ///
    /// # Errors
    ///
    /// What is broken.
    fn check(&self) -> Result<(), &'static str>;
}

impl<K: Key, H: Seeded> KeyIndex<K> for LcIndex<K, H> {
    fn with_seed(seed: [u64; 2], capacity: usize) -> Result<Self, ReserveError> {
        Self::try_with_hash(H::from_seed(seed), capacity)
    }
    #[inline]
    fn find_by_nic(&self, hash: u32, key: &K) -> Option<u32> {
        match self.header_of_nic(hash) {
            Some(header) => self.find_hashed(header, key).or_else(|| self.find(key)),
            None => self.find(key),
        }
    }
    fn bytes_for(capacity: usize) -> usize {
        Self::bytes_for(capacity)
    }
    #[inline]
    fn header(&self, key: &K) -> u64 {
        self.header(key)
    }
    #[inline]
    fn find_hashed(&self, header: u64, key: &K) -> Option<u32> {
        self.find_hashed(header, key)
    }
    #[inline]
    fn find_many(&self, keys: &[K], ids: &mut [Option<u32>]) {
        self.find_many(keys, ids);
    }
    #[inline]
    fn warm_many(&self, keys: &[K]) -> u64 {
        let mut read = 0;
        for keys in keys.chunks(STAGE) {
            let mut headers = [0; STAGE];
            for (header, key) in headers.iter_mut().zip(keys) {
                *header = self.header(key);
            }
            read ^= self.warm_many_hashed(headers.get(..keys.len()).unwrap_or(&[]));
        }
        read
    }
    #[inline]
    fn subtree(&self, key: &K) -> u32 {
        self.subtree(key).to_bits()
    }
    #[inline]
    fn find_from(&self, subtree: u32, key: &K) -> Option<u32> {
        self.find_from(Subtree::from_bits(subtree), key)
    }
    #[inline]
    fn insert_hashed(&mut self, header: u64, key: &K, id: u32) -> Result<Option<u32>, Full> {
        self.insert_hashed(header, key, id)
    }
    #[inline]
    fn remove_hashed(&mut self, header: u64, key: &K) -> Option<u32> {
        self.remove_hashed(header, key)
    }
    fn len(&self) -> usize {
        self.len()
    }
    fn capacity(&self) -> usize {
        self.capacity()
    }
    fn for_each(&self, mut each: impl FnMut(K, u32)) {
        self.iter().for_each(|(key, id)| each(key, id));
    }
    fn clear(&mut self) {
        self.clear();
    }
    fn next(&self, cursor: &mut Cursor<K>) -> Option<(K, u32)> {
        self.next(cursor)
    }
    fn trace(&self, key: &K) -> Trace {
        self.trace(key)
    }
    fn reserved_bytes(&self) -> usize {
        self.reserved_bytes()
    }
    fn touched_bytes(&self) -> usize {
        self.touched_bytes()
    }
    fn check(&self) -> Result<(), &'static str> {
        self.check()
    }
}

/// The index of a dual-stack dataplane: IPv4 and IPv6 flows, each stored at its own width, under one capacity.
///
/// Each family reserves room for its own share of the capacity, by default all of it, so that any mix fits; an embedded
/// owner who knows the mix says so with [`try_new`](Self::try_new).
///
/// ```
/// use gufc::key::Tuple;
/// use gufc::trie::{DualIndex, KeyIndex};
///
/// let mut index = DualIndex::with_seed([1, 2], 100)?;
/// let (old, new): (Tuple, Tuple) = ("udp 10.0.0.1:53 > 10.0.0.2:99".parse()?, "udp [2001:db8::1]:53 > [2001:db8::2]:99".parse()?);
/// index.insert(&old, 4)?;
/// index.insert(&new, 6)?;
/// let mut ids = [None; 2];
/// index.find_many(&[new, old], &mut ids);
/// assert_eq!(ids, [Some(6), Some(4)]);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct DualIndex<H: HeaderHash = Folded> {
    v4: LcIndex<SevenTuple<Ipv4Addr>, H>,
    v6: LcIndex<SevenTuple<Ipv6Addr>, H>,
    capacity: usize,
}

impl DualIndex {
    /// An index for up to `capacity` flows, of these at most `v4` of IPv4 and `v6` of IPv6.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when a number is too large or memory is short.
    pub fn try_new(
        seed: [u64; 2],
        capacity: usize,
        v4: usize,
        v6: usize,
    ) -> Result<Self, ReserveError> {
        Ok(Self {
            v4: LcIndex::try_new(seed, v4.min(capacity))?,
            v6: LcIndex::try_new(seed, v6.min(capacity))?,
            capacity,
        })
    }
}

impl<H: HeaderHash> DualIndex<H> {
    /// The shapes of the IPv4 and the IPv6 trie.
    pub fn stats(&self) -> [Stats; 2] {
        [self.v4.stats(), self.v6.stats()]
    }
}

/// Keys that are hashed, or sorted by family, at a time.
const STAGE: usize = 32;

impl KeyIndex<Tuple> for DualIndex {
    fn with_seed(seed: [u64; 2], capacity: usize) -> Result<Self, ReserveError> {
        Self::try_new(seed, capacity, capacity, capacity)
    }

    fn bytes_for(capacity: usize) -> usize {
        LcIndex::<SevenTuple<Ipv4Addr>>::bytes_for(capacity)
            + LcIndex::<SevenTuple<Ipv6Addr>>::bytes_for(capacity)
    }

    #[inline]
    fn header(&self, key: &Tuple) -> u64 {
        match key {
            Tuple::V4(key) => self.v4.header(key),
            Tuple::V6(key) => self.v6.header(key),
        }
    }

    #[inline]
    fn find_hashed(&self, header: u64, key: &Tuple) -> Option<u32> {
        match key {
            Tuple::V4(key) => self.v4.find_hashed(header, key),
            Tuple::V6(key) => self.v6.find_hashed(header, key),
        }
    }

    fn find_many(&self, keys: &[Tuple], ids: &mut [Option<u32>]) {
        for (keys, ids) in keys.chunks(STAGE).zip(ids.chunks_mut(STAGE)) {
            let mut old = Group::<SevenTuple<Ipv4Addr>>::new();
            let mut new = Group::<SevenTuple<Ipv6Addr>>::new();
            for (place, key) in keys.iter().enumerate() {
                match key {
                    Tuple::V4(key) => old.push(key, place),
                    Tuple::V6(key) => new.push(key, place),
                }
            }
            old.find(&self.v4, ids);
            new.find(&self.v6, ids);
        }
    }

    fn warm_many(&self, keys: &[Tuple]) -> u64 {
        let mut read = 0;
        for keys in keys.chunks(STAGE) {
            let (mut old, mut new) = ([0; STAGE], [0; STAGE]);
            let (mut olds, mut news) = (0, 0);
            for key in keys {
                match key {
                    Tuple::V4(key) => {
                        old[olds] = self.v4.header(key);
                        olds += 1;
                    }
                    Tuple::V6(key) => {
                        new[news] = self.v6.header(key);
                        news += 1;
                    }
                }
            }
            read ^= self.v4.warm_many_hashed(&old[..olds]);
            read ^= self.v6.warm_many_hashed(&new[..news]);
        }
        read
    }

    #[inline]
    fn subtree(&self, key: &Tuple) -> u32 {
        match key {
            Tuple::V4(key) => self.v4.subtree(key).to_bits(),
            Tuple::V6(key) => self.v6.subtree(key).to_bits(),
        }
    }

    #[inline]
    fn find_from(&self, subtree: u32, key: &Tuple) -> Option<u32> {
        let subtree = Subtree::from_bits(subtree);
        match key {
            Tuple::V4(key) => self.v4.find_from(subtree, key),
            Tuple::V6(key) => self.v6.find_from(subtree, key),
        }
    }

    fn insert_hashed(&mut self, header: u64, key: &Tuple, id: u32) -> Result<Option<u32>, Full> {
        if self.len() >= self.capacity && self.find_hashed(header, key).is_none() {
            return Err(Full);
        }
        match key {
            Tuple::V4(key) => self.v4.insert_hashed(header, key, id),
            Tuple::V6(key) => self.v6.insert_hashed(header, key, id),
        }
    }

    fn remove_hashed(&mut self, header: u64, key: &Tuple) -> Option<u32> {
        match key {
            Tuple::V4(key) => self.v4.remove_hashed(header, key),
            Tuple::V6(key) => self.v6.remove_hashed(header, key),
        }
    }

    fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn for_each(&self, mut each: impl FnMut(Tuple, u32)) {
        self.v4.iter().for_each(|(key, id)| each(key.into(), id));
        self.v6.iter().for_each(|(key, id)| each(key.into(), id));
    }

    fn clear(&mut self) {
        self.v4.clear();
        self.v6.clear();
    }

    /// All IPv4 flows, then all IPv6 flows.
    fn next(&self, cursor: &mut Cursor<Tuple>) -> Option<(Tuple, u32)> {
        let mut new = Cursor::new();
        match cursor.key() {
            Some(Tuple::V6(key)) => new = Cursor::after(&self.v6, key),
            place => {
                let mut old = match place {
                    Some(Tuple::V4(key)) => Cursor::after(&self.v4, key),
                    _ => Cursor::new(),
                };
                if let Some((key, id)) = self.v4.next(&mut old) {
                    *cursor = old.map(Tuple::V4);
                    return Some((key.into(), id));
                }
            }
        }
        let (key, id) = self.v6.next(&mut new)?;
        *cursor = new.map(Tuple::V6);
        Some((key.into(), id))
    }

    fn trace(&self, key: &Tuple) -> Trace {
        match key {
            Tuple::V4(key) => self.v4.trace(key),
            Tuple::V6(key) => self.v6.trace(key),
        }
    }

    fn reserved_bytes(&self) -> usize {
        self.v4.reserved_bytes() + self.v6.reserved_bytes()
    }
    fn touched_bytes(&self) -> usize {
        self.v4.touched_bytes() + self.v6.touched_bytes()
    }

    fn check(&self) -> Result<(), &'static str> {
        self.v4.check()?;
        self.v6.check()?;
        if self.len() > self.capacity {
            return Err("more flows than the capacity of both families");
        }
        Ok(())
    }
}

/// One family's lookups out of a mixed group, and where their answers go.
struct Group<K> {
    keys: [K; STAGE],
    places: [u8; STAGE],
    len: usize,
}

impl<K: Key> Group<K> {
    fn new() -> Self {
        Self {
            keys: [K::from_words(K::Words::default()); STAGE],
            places: [0; STAGE],
            len: 0,
        }
    }

    #[inline]
    fn push(&mut self, key: &K, place: usize) {
        if let (Some(to), Some(at)) = (self.keys.get_mut(self.len), self.places.get_mut(self.len)) {
            *to = *key;
            *at = place as u8;
            self.len += 1;
        }
    }

    fn find<H: HeaderHash>(&self, index: &LcIndex<K, H>, ids: &mut [Option<u32>]) {
        let mut found = [None; STAGE];
        let keys = self.keys.get(..self.len).unwrap_or(&[]);
        index.find_many(keys, &mut found);
        for (&place, &id) in self.places.iter().zip(&found).take(self.len) {
            if let Some(to) = ids.get_mut(usize::from(place)) {
                *to = id;
            }
        }
    }
}
