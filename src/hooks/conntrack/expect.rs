//! Announced connections: a connection says that another will come, and the tracker lets it in as related.
//!
//! Apart because it is the one place where a connection is known before its first packet; what reads the announcements are
//! [helpers](super::Helper), or the owner himself.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::connection::Rank;
use super::{ConnId, Conntrack, Status, Trackable};
use crate::key::{Family, FlowKey, Locality, Protocol, Zone};
use crate::time::Instant;

/// An announced connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation<K> {
    /// Who announces it. The expectation ends with it; the connection that comes does not.
    pub master: ConnId,
    /// The original tuple of the connection to come. Its destination, protocol and zone count as they are.
    pub tuple: K,
    /// Whether its source may have any address.
    pub any_address: bool,
    /// Whether its source may have any port.
    pub any_port: bool,
    /// The kind of announcement, of the master's own counting.
    pub class: u8,
    /// How many of its class the master may have at once; the oldest gives way. At least 1.
    pub class_max: u8,
    /// Whether it stays when its connection has come.
    pub permanent: bool,
    /// When it ends.
    pub until: Instant,
}

impl<K: FlowKey> Expectation<K> {
    /// Where it is looked for.
    fn target(&self) -> Target {
        Target::of(&self.tuple)
    }

    fn covers(&self, tuple: &K) -> bool {
        let (own, other) = (self.tuple.source(), tuple.source());
        (self.any_address || own.address == other.address)
            && (self.any_port || own.port == other.port)
    }

    /// Whether one packet could be both.
    fn overlaps(&self, other: &Self) -> bool {
        let (own, theirs) = (self.tuple.source(), other.tuple.source());
        (self.any_address || other.any_address || own.address == theirs.address)
            && (self.any_port || other.any_port || own.port == theirs.port)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.tuple == other.tuple
            && self.any_address == other.any_address
            && self.any_port == other.any_port
    }
}

/// Why a connection could not be announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpectError {
    /// The master is not a confirmed connection.
    Master,
    /// Another connection has announced the same, or part of it.
    Busy,
    /// There are as many announcements as the owner allowed.
    Full,
}

impl fmt::Display for ExpectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "the announcing connection is not in the table",
            Self::Busy => "another connection has announced it",
            Self::Full => "no place for another announcement",
        })
    }
}

impl core::error::Error for ExpectError {}

/// The part of a tuple that every expectation has exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    protocol: Protocol,
    family: Family,
    address: u128,
    port: u16,
    zone: Zone,
}

impl Target {
    fn of<K: FlowKey>(tuple: &K) -> Self {
        let fields = tuple.fields();
        Self {
            protocol: fields.protocol,
            family: fields.family,
            address: fields.destination,
            port: fields.destination_port,
            zone: fields.zone,
        }
    }
}

/// All expectations of a tracker.
#[derive(Clone, Debug)]
pub(super) struct Expectations<K> {
    by_target: BTreeMap<Target, Vec<Expectation<K>>>,
    /// In order of announcement.
    by_master: BTreeMap<ConnId, Vec<(Target, u8)>>,
    count: u32,
}

impl<K: FlowKey> Expectations<K> {
    pub(super) const fn new() -> Self {
        Self {
            by_target: BTreeMap::new(),
            by_master: BTreeMap::new(),
            count: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, one: Expectation<K>) {
        let target = one.target();
        self.by_target.entry(target).or_default().push(one);
        let owned = self.by_master.entry(one.master).or_default();
        owned.push((target, one.class));
        self.count += 1;
    }

    /// Takes away the first that `which` says, at one target.
    fn take(
        &mut self,
        target: Target,
        which: impl Fn(&Expectation<K>) -> bool,
    ) -> Option<Expectation<K>> {
        let list = self.by_target.get_mut(&target)?;
        let one = list.remove(list.iter().position(which)?);
        if list.is_empty() {
            self.by_target.remove(&target);
        }
        if let Some(owned) = self.by_master.get_mut(&one.master) {
            if let Some(at) = owned.iter().position(|o| *o == (target, one.class)) {
                owned.remove(at);
            }
            if owned.is_empty() {
                self.by_master.remove(&one.master);
            }
        }
        self.count -= 1;
        Some(one)
    }

    /// Takes away all of a master.
    pub(super) fn end_all(&mut self, master: ConnId) {
        for (target, _) in self.by_master.remove(&master).unwrap_or_default() {
            if let Some(list) = self.by_target.get_mut(&target) {
                let before = list.len();
                list.retain(|one| one.master != master);
                self.count -= (before - list.len()) as u32;
                if list.is_empty() {
                    self.by_target.remove(&target);
                }
            }
        }
    }

    /// Takes away what has expired. Cost: O(n log n), n = expectations.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.is_empty() {
            return;
        }
        let mut gone = Vec::new();
        self.by_target.retain(|target, list| {
            list.retain(|one| {
                let lives = one.until > now;
                if !lives {
                    gone.push((one.master, (*target, one.class)));
                }
                lives
            });
            !list.is_empty()
        });
        for (master, owned) in gone {
            self.count -= 1;
            if let Some(list) = self.by_master.get_mut(&master) {
                if let Some(at) = list.iter().position(|one| *one == owned) {
                    list.remove(at);
                }
                if list.is_empty() {
                    self.by_master.remove(&master);
                }
            }
        }
    }

    /// Whether the two maps agree; for tests.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let listed: usize = self.by_target.values().map(Vec::len).sum();
        let owned: usize = self.by_master.values().map(Vec::len).sum();
        if listed != owned || listed != self.count as usize {
            return Err("every announcement has a target and a master");
        }
        Ok(())
    }
}

impl<K: Trackable> Conntrack<K> {
    /// Announces a connection. The same announcement again, by the same connection, prolongs it.
    ///
    /// # Errors
    ///
    /// [`ExpectError`]; nothing has changed.
    ///
    /// Cost: O(log n + s), n = announcements, s = those for the same destination; O(n) when there is no place.
    pub fn expect(&mut self, one: Expectation<K>, now: Instant) -> Result<(), ExpectError> {
        let one = Expectation {
            tuple: one.tuple.at(Locality::default()),
            ..one
        };
        let alive = self.table.slot_of(one.master).is_some_and(|slot| {
            let cold = self.table.cold(slot);
            cold.rank != Rank::Pending && !cold.status.contains(Status::DYING)
        });
        if !alive {
            return Err(ExpectError::Master);
        }
        let target = one.target();
        let list = self.expectations.by_target.get_mut(&target);
        for other in list.into_iter().flatten() {
            if other.master == one.master && other.class == one.class && other.is_same(&one) {
                *other = one;
                return Ok(());
            }
            if other.until > now && other.overlaps(&one) {
                return Err(ExpectError::Busy);
            }
        }
        let owned = self.expectations.by_master.get(&one.master);
        let same_class = |(_, class): &&(Target, u8)| *class == one.class;
        let mut of_class = owned.into_iter().flatten().filter(same_class);
        let oldest = of_class.next().map(|(target, _)| *target);
        let count = usize::from(oldest.is_some()) + of_class.count();
        if let Some(oldest) = oldest.filter(|_| count >= usize::from(one.class_max.max(1))) {
            self.expectations.take(oldest, |other| {
                other.master == one.master && other.class == one.class
            });
        }
        if self.expectations.count >= self.config.expectations_max {
            self.expectations.expire(now);
        }
        if self.expectations.count >= self.config.expectations_max {
            return Err(ExpectError::Full);
        }
        self.expectations.add(one);
        Ok(())
    }

    /// Every announcement, expired ones included until they are found to be.
    pub fn expectations(&self) -> impl Iterator<Item = &Expectation<K>> {
        self.expectations.by_target.values().flatten()
    }

    /// Who announced a connection with this original tuple. The announcement is used up.
    pub(super) fn announced(&mut self, tuple: &K, now: Instant) -> Option<ConnId> {
        if self.expectations.is_empty() {
            return None;
        }
        let target = Target::of(tuple);
        let fits = |one: &Expectation<K>| one.until > now && one.covers(tuple);
        let list = self.expectations.by_target.get(&target)?;
        let one = *list.iter().find(|one| fits(one))?;
        if !one.permanent {
            self.expectations.take(target, fits);
        }
        Some(one.master)
    }
}
