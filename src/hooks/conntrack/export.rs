//! Connections as bytes, and back: a tracker that restarts or fails over knows the connections that it had.
//!
//! Apart because no packet ever needs it. What is carried is each confirmed connection by itself: tuples, protocol state, what is left of
//! its life, status, mark, label, counts. Left behind is what names other things: who announced whom, what helpers remember, shifts of
//! sequence numbers; and so are connections whose numbers are shifted, for without the shift they would be judged wrongly.
//!
//! ```text
//!  block        "gufk" | version 1 | key kind 1 | count 4 | connections ... | checksum 8        integers little-endian
//!  connection   kind and policy 1 | class 1 | status 2 | mark 4 | label 16 | age ns 8 | left ns 8 | packets 8, bytes 8, twice
//!               state 52 | original tuple | reply tuple
//! ```

use alloc::vec::Vec;

use super::connection::{Clock, Cold, Hot, Kind, Rank, Traffic};
use super::tcp::TcpState;
use super::{Conntrack, News, Status, TimeoutClass, Trackable};
use crate::hook::Direction;
use crate::key::portable::{self, ImportError, Imported, Portable, Trust, take, take_u64};
use crate::key::{FlowKey, Locality};
use crate::time::{Duration, Instant};

const MAGIC: [u8; 4] = *b"gufk";
const VERSION: u8 = 1;

/// Status bits that travel.
const CARRIED: u16 = Status::SEEN_REPLY.0
    | Status::ASSURED.0
    | Status::CONFIRMED.0
    | Status::SRC_NAT.0
    | Status::DST_NAT.0
    | Status::SRC_NAT_DONE.0
    | Status::DST_NAT_DONE.0
    | Status::FIXED_TIMEOUT.0;
/// Status bits of connections that do not.
const LEFT: Status = Status::SEQ_ADJUST
    .union(Status::DYING)
    .union(Status::NAT_CLASH);

/// A connection as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Carried<K> {
    policy: u8,
    class: TimeoutClass,
    status: Status,
    mark: u32,
    label: u128,
    age: u64,
    left: u64,
    traffic: [Traffic; 2],
    state: TcpState,
    tuples: [K; 2],
}

impl<K: Portable + FlowKey> Carried<K> {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&[self.policy, self.class as u8]);
        bytes.extend_from_slice(&self.status.0.to_le_bytes());
        bytes.extend_from_slice(&self.mark.to_le_bytes());
        bytes.extend_from_slice(&self.label.to_le_bytes());
        let counts = self.traffic.map(|one| [one.packets, one.bytes]);
        for number in [self.age, self.left].iter().chain(counts.as_flattened()) {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.state.to_bytes());
        for tuple in &self.tuples {
            tuple.write(bytes);
        }
    }

    /// Takes one off the front, if it is one that a tracker can have.
    fn read(bytes: &mut &[u8]) -> Option<Self> {
        let [policy, class] = take::<2>(bytes)?;
        let class = *TimeoutClass::ALL.get(usize::from(class))?;
        let status = Status(u16::from_le_bytes(take::<2>(bytes)?));
        let mark = u32::from_le_bytes(take::<4>(bytes)?);
        let label = u128::from_le_bytes(take::<16>(bytes)?);
        let mut number = || take_u64(bytes);
        let (age, left) = (number()?, number()?);
        let mut traffic = [Traffic::default(); 2];
        for one in &mut traffic {
            (one.packets, one.bytes) = (number()?, number()?);
        }
        let state = TcpState::from_bytes(&take::<52>(bytes)?);
        let tuples = [K::read(bytes)?, K::read(bytes)?];
        // No count comes near this, and none may overflow here.
        let small = |one: &Traffic| one.packets < 1 << 63 && one.bytes < 1 << 63;
        let alike = |tuple: &K| {
            let fields = tuple.fields();
            tuple.protocol() == tuples[0].protocol()
                && tuple.inverse().is_some()
                && fields.locality == Locality::default()
        };
        let sound = policy < 16
            && status.0 & !CARRIED == 0
            && status.contains(Status::CONFIRMED)
            && (!status.contains(Status::ASSURED) || status.contains(Status::SEEN_REPLY))
            && traffic.iter().all(small)
            && tuples.iter().all(alike);
        sound.then_some(Self {
            policy,
            class,
            status,
            mark,
            label,
            age,
            left,
            traffic,
            state,
            tuples,
        })
    }
}

impl<K: Trackable + Portable> Conntrack<K> {
    /// Appends the connections among the `budget` slots from `from` on to `bytes`, as one block, and gives where to go on; `None`
    /// when all slots have been looked at. Changes nothing. Begin with 0.
    ///
    /// A connection that is there from the first step to the last is in one block exactly.
    ///
    /// ```
    /// use gufc::hooks::conntrack::{Config, Conntrack, Trust};
    /// use gufc::key::Tuple;
    /// use gufc::time::Instant;
    ///
    /// let old: Conntrack<Tuple> = Conntrack::try_new(Config::new(1024, [1, 2]))?;
    /// let mut new: Conntrack<Tuple> = Conntrack::try_new(Config::new(1024, [3, 4]))?;
    /// let (mut next, now) = (Some(0), Instant::START);
    /// while let Some(from) = next {
    ///     let mut block = Vec::new();
    ///     next = old.export(from, 1_000, now, &mut block);
    ///     new.import(&block, Trust::Trust, now)?;
    /// }
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// Cost: O(budget); memory at most 206 bytes a connection for a [`Tuple`](crate::key::Tuple).
    pub fn export(&self, from: u32, budget: u32, now: Instant, bytes: &mut Vec<u8>) -> Option<u32> {
        let begin = portable::begin(bytes, MAGIC, VERSION, K::KIND);
        let slots = self.table.slots();
        let end = from.saturating_add(budget).min(slots);
        let mut count = 0;
        for slot in from..end {
            let (status, hot) = match self.table.is_used(slot) {
                true => (self.table.cold(slot).status, self.table.hot(slot)),
                false => continue,
            };
            let goes = status.contains(Status::CONFIRMED)
                && !status.intersects(LEFT)
                && !hot.clock.has_passed(now);
            if !goes {
                continue;
            }
            let cold = self.table.cold(slot);
            let carried = Carried {
                policy: hot.clock.policy(),
                class: hot.clock.class(),
                status: Status(status.0 & CARRIED),
                mark: cold.mark,
                label: self.labels.get(&slot).copied().unwrap_or(0),
                age: now.nanos().saturating_sub(cold.born.nanos()),
                left: hot.clock.end().nanos() - now.nanos(),
                traffic: self.table.traffic(slot),
                state: hot.tcp,
                tuples: cold.tuples,
            };
            carried.write(bytes);
            count += 1;
        }
        portable::seal(bytes, begin, count);
        (end < slots).then_some(end)
    }

    /// Takes over the connections of a block that [`export`](Self::export) made, as far as there is room; where a connection has
    /// one of their tuples, it stays and they are left out. Nobody is put out for them. Listeners are told of each as of a new one.
    ///
    /// # Errors
    ///
    /// [`ImportError`] when anything in the block is wrong; nothing was changed.
    ///
    /// Cost: O(block).
    pub fn import(
        &mut self,
        block: &[u8],
        trust: Trust,
        now: Instant,
    ) -> Result<Imported, ImportError> {
        let skip = |bytes: &mut &[u8]| Carried::<K>::read(bytes).is_some();
        let (count, mut rest) = portable::open(block, MAGIC, VERSION, K::KIND, skip)?;
        self.bury();
        let mut imported = Imported::default();
        for number in 0..count {
            let carried = Carried::<K>::read(&mut rest).ok_or(ImportError::Session(number))?;
            let [original, reply] = &carried.tuples;
            if self.table.find(original).is_some() || self.table.find(reply).is_some() {
                imported.known += 1;
            } else if self.revive(&carried, trust, now) {
                imported.begun += 1;
            } else {
                imported.refused += 1;
            }
        }
        Ok(imported)
    }

    /// Gives a carried connection a place; false where there is none.
    fn revive(&mut self, carried: &Carried<K>, trust: Trust, now: Instant) -> bool {
        let [original, reply] = carried.tuples;
        if !self.has_room_for(&original) {
            return false;
        }
        let kind = Kind::of(original.protocol());
        let mut clock = Clock::new(carried.class, carried.policy, kind);
        clock.set(now + Duration::from_nanos(carried.left), carried.class);
        let mut hot = Hot {
            tcp: carried.state,
            clock,
            ..Hot::default()
        };
        if trust == Trust::Reevaluate && kind == Kind::Tcp {
            hot.tcp.forget_windows();
        }
        let cold = Cold {
            tuples: [original, reply],
            born: Instant::from_nanos(now.nanos().saturating_sub(carried.age)),
            mark: carried.mark,
            previous: 0,
            next: 0,
            status: carried.status,
            rank: Rank::Pending,
        };
        let Some(id) = self.table.allocate(hot, cold) else {
            return false;
        };
        self.count_source(&original, true);
        let published = self.table.publish(id.slot, Direction::Original)
            && self.table.publish(id.slot, Direction::Reply);
        if !published {
            self.table.withdraw(id.slot);
            self.discard(id.slot);
            return false;
        }
        for direction in Direction::BOTH {
            let Traffic { packets, bytes } = carried.traffic[direction as usize];
            self.table.account(id.slot, direction, packets, bytes);
        }
        if carried.label != 0 {
            self.labels.insert(id.slot, carried.label);
        }
        self.rank(id.slot);
        self.tell(id.slot, News::NEW);
        true
    }
}
