//! Connection tracking: which packets belong together, and which cannot.
//!
//! Apart from every other hook because it keeps the state that they ask about. It stands alone: a [`Conntrack`] judges packets
//! and needs neither cache nor pipeline; as a [hook](crate::hook::Hook) it stands first in one.
//!
//! ```text
//!  track(packet, now) ─► Tracked: class, direction, connection     an existing connection has advanced
//!        │ a new connection is pending: it exists for its first packet only
//!        ├─► confirm(connection, now)   its packet passed everything: it enters the table
//!        └─► refuse(connection)         it did not: nothing is left
//! ```
//!
//! A connection has two tuples, of its original and of its reply direction, as packets of either arrive. Until confirmation
//! the reply tuple may be changed ([`Conntrack::set_reply`]), which is all that translation means here. Locality bits are
//! no part of the tuples, since an answer to a translated packet is addressed to this machine.
//!
//! | protocol | state | proof of belonging |
//! |---|---|---|
//! | TCP | ten states | four bounds on sequence and acknowledgement numbers |
//! | UDP, UDP-Lite | one-way, two-way, stream | the tuple |
//! | ICMP, ICMPv6 queries | | identifier, type of answer |
//! | ICMP, ICMPv6 errors | those of the connection quoted | the quotation, and to whom it goes |
//! | GRE | one-way, two-way | the tuple; the call for version 1 |
//! | SCTP | eight states | verification tags |
//! | others | | addresses and protocol |
//!
//! # Modes
//!
//! The behaviour is that of Linux 6.18, packet by packet ([`Mode::Linux`]). [`Mode::Hardened`] is the same but for four doors, each of
//! which is open there to somebody who sees nothing of the connection:
//!
//! | | in Linux | hardened |
//! |---|---|---|
//! | 1 | a forged SYN, and a forged reset that acknowledges it, close an established connection | the reset passes and changes nothing |
//! | 2 | a SYN/ACK that is refused leaves its numbers behind | windows are set by what is accepted only |
//! | 3 | an ICMP error is related whatever number the quoted TCP segment has | it was sent, and not long ago |
//! | 4 | from the first FIN on any reset closes | it is exact; after the end none is believed |
//!
//! # Zones
//!
//! Equal tuples in different zones are different connections. A connection may have one zone for both its directions, or another for
//! its replies ([`Config::reply_zones`], [`Template::zones`]).
//!
//! # Time
//!
//! A connection's lifetime begins anew with each packet that belongs to it, its length chosen by what the connection is by then
//! ([`TimeoutClass`]), out of one of the profiles ([`Timeouts::LINUX`], [`Timeouts::RFC`], or others; [`Template::policy`]).
//!
//! *Slack* ([`Config::slack`]) leaves out what would move the end by less: connections end up to so much sooner, never later. A hook's
//! step keeps the time of every packet, so behind a cache nothing is different. Where somebody else forwards the packets of a connection
//! ([`Bypass`]) there are two ways to keep time:
//!
//! - *Flush.* The tracker takes the connection back before its time is over. Its next packet then comes here, or none does.
//! - *Callback.* The forwarder says now and then, and when the flow ages out, what it has seen ([`Conntrack::take_back`]), or at least
//!   when ([`Conntrack::take_back_blind`]).
//!
//! # Room
//!
//! A table that is full puts out, oldest first: what has expired, what has had no reply, what is not assured, what is closing. What is
//! established and assured stays, and then the newcomer's packet is dropped. A source may be given a limit of its own
//! ([`Config::per_source_max`]). Whatever is invalid, not believed or dropped has a [`Reason`], and each reason a
//! [counter](Conntrack::count).
//!
//! # Seen and managed
//!
//! [`Conntrack::iter`] with [`Connection::line`] lists as `conntrack -L` does, a [`Filter`] chooses by its words,
//! [`Conntrack::delete_where`] deletes what one chooses, [`Conntrack::next_news`] tells what happened:
//!
//! ```
//! use gufc::hooks::conntrack::{Config, Conntrack, Filter};
//! use gufc::key::Tuple;
//! use gufc::time::Instant;
//!
//! let config = Config { news_capacity: 1024, ..Config::new(1024, [1, 2]) };
//! let mut tracker: Conntrack<Tuple> = Conntrack::try_new(config)?;
//! let filter: Filter = "-p tcp --state SYN_SENT -s 10.0.0.0/8".parse()?;
//! for one in tracker.iter().filter(|one| filter.matches(one)) {
//!     println!("{}", one.line(Instant::START));
//! }
//! assert_eq!(tracker.delete_where(|one| filter.matches(one)), 0);
//! while let Some(item) = tracker.next_news() {
//!     println!("{item}");
//! }
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # A packet
//!
//! ```
//! use gufc::hook::{Class, Direction};
//! use gufc::hooks::conntrack::{Config, Confirmation, Conntrack};
//! use gufc::key::Tuple;
//! use gufc::time::Instant;
//! use gufc::wire::{Arrival, Frame};
//!
//! let mut tracker: Conntrack<Tuple> = Conntrack::try_new(Config::new(1024, [1, 2]))?;
//! // A datagram from 10.0.0.1:1000 to 10.0.0.2:53, without a checksum.
//! let mut bytes = [
//!     0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0x66, 0xcf, 10, 0, 0, 1, 10, 0, 0, 2,
//!     0x03, 0xe8, 0, 53, 0, 8, 0, 0,
//! ];
//! let frame: Frame = Frame::ip(&mut bytes, &Arrival::default())?;
//! let tracked = tracker.track(&frame, Instant::START);
//! assert_eq!((tracked.class, tracked.direction), (Class::New, Some(Direction::Original)));
//! let id = tracked.connection.ok_or("a connection")?;
//! assert_eq!(tracker.confirm(id, Instant::START), Confirmation::Confirmed);
//! assert_eq!(tracker.len(), 1);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod bypass;
mod config;
mod confirm;
mod connection;
mod expect;
mod export;
mod facts;
mod helper;
mod hook;
mod life;
mod list;
mod prints;
mod reason;
mod sctp;
mod seqadj;
mod status;
mod table;
mod tcp;
mod timeouts;
mod track;
mod words;

pub use crate::key::portable::{ImportError, Imported, Portable, Trust};
pub use bypass::Bypass;
pub use config::{Config, Mode, TcpConfig};
pub use confirm::Confirmation;
pub use connection::{ConnId, Connection, TcpSide, Traffic};
pub use expect::{ExpectError, Expectation};
pub use helper::{Help, Helper};
pub use hook::TrackStep;
pub use life::{Item, Maintained};
pub use list::Filter;
pub use reason::Reason;
pub use sctp::SctpPhase;
pub use status::{News, Status};
pub use tcp::TcpPhase;
pub use timeouts::{TimeoutClass, Timeouts};
pub use track::{Template, Tracked};
pub use words::ParseFilterError;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::hook::Direction;
use crate::key::{Family, FlowKey, Locality, Pattern, SevenTuple, Tuple, Zone};
use crate::packet::Segment;
use crate::time::Instant;
use crate::trie::{Folded, HeaderHash, Indexed, ReserveError};
use expect::Expectations;
use table::Table;

/// A key that a tracker can keep: one whose locality and zone can be set.
///
/// # Laws
///
/// * `k.at(l)` and `k.in_zone(z)` have that locality or zone, and all else of `k`.
/// * Equal keys have equal digests under the same hash; those of different keys differ but for 1 in 2^64 of their pairs.
pub trait Trackable: FlowKey + Indexed {
    /// The same flow with these locality bits.
    #[must_use]
    fn at(self, locality: Locality) -> Self;

    /// The same flow in `zone`.
    #[must_use]
    fn in_zone(self, zone: Zone) -> Self;

    /// 64 bits that stand for the key. Cost: one hash.
    fn digest(&self, hash: &Folded) -> u64;
}

impl Trackable for SevenTuple<Ipv4Addr> {
    fn at(self, locality: Locality) -> Self {
        self.at(locality)
    }

    fn in_zone(self, zone: Zone) -> Self {
        self.in_zone(zone)
    }

    #[inline]
    fn digest(&self, hash: &Folded) -> u64 {
        hash.header(self)
    }
}

impl Trackable for SevenTuple<Ipv6Addr> {
    fn at(self, locality: Locality) -> Self {
        self.at(locality)
    }

    fn in_zone(self, zone: Zone) -> Self {
        self.in_zone(zone)
    }

    #[inline]
    fn digest(&self, hash: &Folded) -> u64 {
        hash.header(self)
    }
}

impl Trackable for Tuple {
    fn at(self, locality: Locality) -> Self {
        self.at(locality)
    }

    fn in_zone(self, zone: Zone) -> Self {
        self.in_zone(zone)
    }

    #[inline]
    fn digest(&self, hash: &Folded) -> u64 {
        match self {
            Self::V4(tuple) => hash.header(tuple),
            Self::V6(tuple) => hash.header(tuple),
        }
    }
}

/// What a protocol's procedure says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It belongs to the connection.
    Accept {
        /// The lifetime that begins now; `None` leaves the old one, and the packet uncounted.
        refresh: Option<TimeoutClass>,
        /// The connection has earned its place.
        assured: bool,
        /// The protocol's state changed.
        changed: bool,
    },
    /// It passes and changes nothing.
    Ignore(Reason),
    /// It does not belong to the connection.
    Invalid {
        reason: Reason,
        /// The lifetime that the connection is cut to.
        shorten: Option<TimeoutClass>,
    },
    /// It belongs to the connection, and ends it.
    Kill,
    /// The connection is over; the packet opens the next.
    Repeat,
}

/// Connections at most: their tuples, twice as many, are numbered in the index.
const CAPACITY_MAX: u32 = 1 << 29;

/// A connection tracker.
#[derive(Debug)]
pub struct Conntrack<K: Trackable> {
    config: Config,
    table: Table<K>,
    /// Labels that are not zero, by slot.
    labels: BTreeMap<u32, u128>,
    /// Whether the hook asks helpers; else whoever owns the tracker does.
    listens: bool,
    /// What helpers remember, by slot.
    helpers: BTreeMap<u32, helper::Lines>,
    /// Which connections get a helper.
    assignments: Vec<(Pattern, Helper)>,
    /// Who announced a connection, by the slot of the announced.
    masters: BTreeMap<u32, ConnId>,
    /// Shifts of sequence numbers, by slot.
    shifts: BTreeMap<u32, seqadj::Shifts>,
    expectations: Expectations<K>,
    /// Connections by source address, where limited.
    sources: BTreeMap<(Family, u128, Zone), u32>,
    news: VecDeque<Item<K>>,
    counters: [u64; Reason::COUNT],
    news_lost: u64,
    early_dropped: u64,
    /// A connection that the last packet ended: out of the table, and readable until the next packet.
    ended: Option<u32>,
    /// A pending connection whose original tuple was looked for and not found, and the publications until then.
    unmatched: Option<(ConnId, u64)>,
    /// The next slot that maintenance looks at.
    hand: u32,
}

impl<K: Trackable> Conntrack<K> {
    /// A tracker with no connections. All memory that it ever takes for connections and their index is reserved here.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when the capacity is too large or memory is short.
    pub fn try_new(config: Config) -> Result<Self, ReserveError> {
        let capacity = config.capacity.clamp(1, CAPACITY_MAX);
        let mut config = Config { capacity, ..config };
        if config.timeouts.is_empty() {
            config.timeouts.push(Timeouts::LINUX);
        }
        Ok(Self {
            table: Table::try_new(capacity, config.seed, config.accounting)?,
            labels: BTreeMap::new(),
            listens: true,
            helpers: BTreeMap::new(),
            assignments: Vec::new(),
            masters: BTreeMap::new(),
            shifts: BTreeMap::new(),
            expectations: Expectations::new(),
            sources: BTreeMap::new(),
            news: VecDeque::with_capacity(config.news_capacity),
            counters: [0; Reason::COUNT],
            news_lost: 0,
            early_dropped: 0,
            ended: None,
            unmatched: None,
            hand: 0,
            config,
        })
    }

    /// What it was made from.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Connections, those not yet confirmed included.
    pub fn len(&self) -> usize {
        self.table.len() as usize - usize::from(self.ended.is_some())
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes reserved for connections and their index. Labels, announcements, counted sources and news come to it, each only
    /// where used.
    pub fn reserved_bytes(&self) -> usize {
        self.table.reserved_bytes()
    }

    /// What [`reserved_bytes`](Self::reserved_bytes) will say of a tracker with this configuration. Nothing is allocated.
    ///
    /// ```
    /// use gufc::hooks::conntrack::{Config, Conntrack};
    /// use gufc::key::Tuple;
    ///
    /// let config = Config::new(1_000_000, [1, 2]);
    /// // Both address families, index included.
    /// assert!(Conntrack::<Tuple>::bytes_for(&config) <= 256 * 1_000_000);
    /// ```
    pub fn bytes_for(config: &Config) -> usize {
        Table::<K>::bytes_for(config.capacity.clamp(1, CAPACITY_MAX), config.accounting)
    }

    /// How often a packet met a reason.
    pub fn count(&self, reason: Reason) -> u64 {
        self.counters[reason as usize]
    }

    /// Connections put out to make room for others.
    pub fn early_dropped(&self) -> u64 {
        self.early_dropped
    }

    /// The connection of this name, also one that the last packet ended.
    pub fn connection(&self, id: ConnId) -> Option<Connection<'_, K>> {
        self.table.slot_of(id).map(|slot| self.view(slot))
    }

    /// Which connection a packet with this key, and the locality and zone that it has there, belongs to now. Changes
    /// nothing. Cost: one index look-up.
    pub fn find(&self, key: &K, now: Instant) -> Option<(ConnId, Direction)> {
        let (slot, direction) = self.table.find(&key.at(Locality::default()))?;
        (!self.table.hot(slot).clock.has_passed(now)).then(|| (self.table.id_of(slot), direction))
    }

    /// What looking a tuple up goes through; for tests.
    #[doc(hidden)]
    pub fn trace(&self, key: &K) -> crate::trie::Trace {
        self.table.trace(&key.at(Locality::default()))
    }

    /// Every connection, confirmed or not, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = Connection<'_, K>> {
        (0..self.table.slots())
            .filter(|slot| self.table.is_used(*slot) && self.ended != Some(*slot))
            .map(|slot| self.view(slot))
    }

    /// Whether a plain segment of an open connection is within all bounds, so that [`advance`](Self::advance) does to the
    /// connection what [`track`](Self::track) would do, and the packet is established. Changes nothing.
    ///
    /// Only for TCP connections that are assured and in ESTABLISHED; false for all others, for a segment that is in any way
    /// unusual, and for a name that names nothing any more. The checksum is not verified here. Cost: one cache line.
    #[inline]
    pub fn fits(&self, id: ConnId, direction: Direction, segment: &Segment, now: Instant) -> bool {
        self.table.hot_of(id).is_some_and(|hot| {
            !hot.clock.has_passed(now)
                && hot.clock.is_plain()
                && tcp::fits(&hot.tcp, direction, segment)
        })
    }

    /// Takes over a segment that [fits](Self::fits); `length` is its packet's. Cost: the same cache line, and one more where
    /// traffic is accounted.
    #[inline]
    pub fn advance(
        &mut self,
        id: ConnId,
        direction: Direction,
        segment: &Segment,
        length: u32,
        now: Instant,
    ) {
        let Some(hot) = self.table.hot_of_mut(id) else {
            return;
        };
        let policy = usize::from(hot.clock.policy());
        let timeouts = self.config.timeouts.get(policy).unwrap_or(&Timeouts::LINUX);
        let class = tcp::advance(&mut hot.tcp, direction, segment, &self.config.tcp, timeouts);
        hot.clock
            .refresh(timeouts.end(now, class), class, self.config.slack);
        self.table.account(id.slot, direction, 1, u64::from(length));
    }

    fn timeouts(&self, policy: u8) -> &Timeouts {
        let policies = &self.config.timeouts;
        policies
            .get(usize::from(policy))
            .or(policies.first())
            .unwrap_or(&Timeouts::LINUX)
    }

    fn view(&self, slot: u32) -> Connection<'_, K> {
        let hot = self.table.hot(slot);
        Connection {
            id: self.table.id_of(slot),
            hot,
            cold: self.table.cold(slot),
            traffic: self.table.traffic(slot),
            label: self.labels.get(&slot).copied().unwrap_or(0),
            master: self.masters.get(&slot).copied(),
            lifetime: self.timeouts(hot.clock.policy()).of(hot.clock.class()),
        }
    }

    /// Whether the parts agree with one another; for tests. Cost: O(capacity log capacity).
    #[doc(hidden)]
    pub fn check(&self) -> Result<(), &'static str> {
        self.expectations.check()?;
        self.table.check()
    }
}
