//! Translation: connections that look different on both sides of this machine, decided once and then a constant.
//!
//! Apart from the tracker because what it decides is one tuple: what answers will look like. It owns the tracker that it
//! stands over, for a connection's tuple may change only between its first packet and its confirmation.
//!
//! ```text
//!  stage         Track       Destination             Route  Filter   Source                   (settle)
//!  first packet  tracked     rules for destinations                  rules for sources        confirmed, or refused
//!  later ones    the window  a constant rewrite                      a constant rewrite
//!
//!  original   10.0.0.2:4000 > 192.0.2.1:80            as it arrives
//!  reply      10.0.9.9:8080 > 203.0.113.1:4000        as the answer arrives: its inverse is what the original leaves as
//! ```
//!
//! Behaviour is that of Linux 6.18: ports are kept where they are free, one client end keeps one outside end where it can,
//! what no rule matches is still kept from clashing, and ports are drawn within their class. Nothing about a connection is
//! decided anew later: an edit of rules leaves the connections that there are alone, unless it says otherwise.
//!
//! # The text form
//!
//! A rule is what it matches, in the words of the [filter](super::filter#the-text-form), and one of these actions:
//!
//! | action | does |
//! |---|---|
//! | `snat to 192.0.2.1`, `snat to 192.0.2.1-192.0.2.9:1024-2047` | changes the source |
//! | `dnat to 10.0.0.5:80`, `dnat to [fd00::5]:80`, `dnat to :8080` | changes the destination |
//! | `masquerade`, `masquerade to :1024-2047` | the source becomes the egress interface's address |
//! | `redirect`, `redirect to :3128` | the destination becomes the ingress interface's address |
//! | `snat prefix to 192.0.2.0/24`, `dnat prefix to 10.1.0.0/16` | changes the prefix, keeps the rest |
//! | `snat to pool 0` | the source becomes an outside end of a [`Pool`]: one for each inside end, whoever it talks to |
//! | `nat64 to pool 0` | both ends become IPv4 ([NAT64](PoolConfig::prefix64)) |
//! | `no snat`, `no dnat` | leaves the end as it is; no further rule is asked |
//!
//! `snat` and `dnat` may be followed by `random`, `persistent`, or `shift N` (the port keeps its distance from N),
//! `masquerade` by `random`. A `comment "..."` may end the rule. What the RFCs ask of each is in the
//! [manual](crate::manual::nat).
//!
//! ```
//! use gufc::hooks::conntrack::{Config, Conntrack};
//! use gufc::hooks::nat::{Nat, Place};
//! use gufc::key::Tuple;
//! use gufc::packet::Interface;
//!
//! let tracker: Conntrack<Tuple> = Conntrack::try_new(Config::new(1024, [1, 2]))?;
//! let mut nat = Nat::try_new(tracker, 100, [3, 4])?;
//! nat.set_addresses(Interface(2), &["192.0.2.1".parse()?]);
//! nat.insert(Place::Last, "ip saddr 10.0.0.0/8 oif 2 masquerade".parse()?)?;
//! nat.insert(Place::Last, "tcp dport 8080 dnat to 10.0.0.5:80".parse()?)?;
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

mod action;
mod announced;
mod bits;
mod clamp;
mod cross;
mod deterministic;
mod dice;
mod homing;
mod hook;
mod mapping;
mod npt;
mod pool;
mod rules;
mod select;
mod side;
mod text;

pub use action::{Action, End, Range};
pub use clamp::Clamp;
pub use deterministic::Deterministic;
pub use homing::{Homed, Homing};
pub use hook::NatStep;
pub use mapping::{Mapping, PoolId};
pub use npt::{Npt, NptCounters, NptStep};
pub use pool::{Allocation, Block, Filtering, Lent, Pool, PoolConfig, PoolError};
pub use rules::{EditError, Place, Rule, RuleId};
#[doc(hidden)]
pub use select::Foretold;
pub use text::{parse_rule, parse_rules};

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::epoch::{Change, View};
use crate::hook::Direction;
use crate::hooks::conntrack::{ConnId, Conntrack, Maintained, Status, Trackable};
use crate::interest::Scratch;
use crate::key::{Endpoint, Family, Locality};
use crate::packet::{Interface, Mtus};
use crate::time::Instant;
use crate::trie::ReserveError;
use crate::verdict::{Answer, Verdict};
use announced::Announced;
use dice::Dice;
use mapping::Mappings;
use rules::Rules;
use select::{Selection, moved};
use side::Sides;

/// What has been counted since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections whose source or destination was changed.
    pub translated: u64,
    /// Ends that no rule was for and that had to change all the same, to avoid a clash.
    pub unclashed: u64,
    /// First packets dropped because no tuple was free.
    pub exhausted: u64,
    /// First packets dropped because the interface had no address of the family.
    pub no_address: u64,
    /// ICMP errors dropped because they quote too little, are damaged, or must not pass a translator.
    pub errors_dropped: u64,
    /// Segments dropped because what they announce, or the numbers that follow from it, could not be written:
    /// [`Conntrack::count`] says why.
    pub unhelped: u64,
    /// First packets from outside that a mapping's filtering did not let in.
    pub filtered: u64,
    /// First packets dropped because a pool lent no port: [`Pool::refused`] says why.
    pub unlent: u64,
    /// First packets dropped because they are for no address, or of no protocol, that the other family has.
    pub unreachable: u64,
    /// Packets of connections between the families that could not be translated.
    pub untranslated: u64,
    /// Connections ended because a masqueraded packet was to leave by another interface.
    pub moved: u64,
    /// Ports chosen so that answers come home; see [`Nat::set_homing`].
    pub home: u64,
    /// Ports chosen though answers do not: none that leads home was free, or there is none.
    pub away: u64,
    /// Places looked at for free tuples.
    pub probes: u64,
    /// The most places that one choice looked at.
    pub probes_max: u32,
}

/// Why a first packet must not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Exhausted,
    NoAddress,
    Filtered,
    Unlent,
    Untranslatable,
}

/// A first packet that must not pass, and the pool that had nothing for it, if a pool was asked.
#[derive(Clone, Copy, Debug)]
struct Refused {
    why: Refusal,
    by: Option<PoolId>,
}

impl Refusal {
    /// That of a pool.
    const fn by(self, pool: PoolId) -> Refused {
        Refused {
            why: self,
            by: Some(pool),
        }
    }
}

impl From<Refusal> for Refused {
    fn from(why: Refusal) -> Self {
        Self { why, by: None }
    }
}

/// What the destination of the packet on its way was decided by, until its source is.
#[derive(Clone, Copy, Debug)]
struct Opening {
    id: ConnId,
    rule: Option<RuleId>,
    mapping: Option<u32>,
}

/// What becomes of the connections that a rule decided when the rule goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Live {
    /// They go on as they are.
    #[default]
    Keep,
    /// They end: the next packet begins anew.
    End,
}

/// A translator over a connection tracker.
#[derive(Debug)]
pub struct Nat<K: Trackable> {
    tracker: Conntrack<K>,
    rules: Rules,
    sides: Sides<K>,
    mappings: Mappings<K>,
    announced: Announced,
    opening: Option<Opening>,
    /// The time of the last call that was told one.
    now: Instant,
    dice: Dice,
    addresses: BTreeMap<Interface, Vec<IpAddr>>,
    local: BTreeSet<IpAddr>,
    counters: Counters,
    /// What is said where a rule without a pool has nothing left.
    answer: Option<Answer>,
    mtus: Mtus,
    /// What the last packet that became IPv4 was numbered with.
    identification: u16,
    foretold: Foretold,
    homing: Option<Box<dyn Homing>>,
    scratch: Scratch,
}

/// What the hook is called.
const NAME: &str = "nat";

impl<K: Trackable> Nat<K> {
    /// A translator over `tracker` without rules, for at most `rules` of them. `seed` is a secret: who knows it can foretell
    /// ports. Memory for connections is reserved here.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when memory is short.
    pub fn try_new(
        mut tracker: Conntrack<K>,
        rules: usize,
        seed: [u64; 2],
    ) -> Result<Self, ReserveError> {
        tracker.remember_ended();
        // Helpers are asked here, for they may have to write.
        tracker.leave_helpers();
        let dice = Dice::new(seed);
        let inner = [dice.hash(&[0]), dice.hash(&[1])];
        Ok(Self {
            sides: Sides::try_new(tracker.config().capacity, inner)?,
            mappings: Mappings::try_new(inner)?,
            announced: Announced::default(),
            opening: None,
            now: Instant::START,
            rules: Rules::new(rules, dice.hash(&[2])),
            dice,
            tracker,
            addresses: BTreeMap::new(),
            local: BTreeSet::new(),
            counters: Counters::default(),
            answer: None,
            mtus: Mtus::default(),
            identification: 0,
            foretold: Foretold::default(),
            homing: None,
            scratch: Scratch::new(),
        })
    }

    /// The tracker.
    pub fn tracker(&self) -> &Conntrack<K> {
        &self.tracker
    }

    /// The tracker, for its owner's business with it.
    pub fn tracker_mut(&mut self) -> &mut Conntrack<K> {
        &mut self.tracker
    }

    /// Says which addresses an interface has; the first of a family is what is masqueraded and redirected to. They count
    /// as addresses of this machine ([`Locality`]). Connections that have been decided on keep what they have.
    pub fn set_addresses(&mut self, interface: Interface, addresses: &[IpAddr]) {
        if addresses.is_empty() {
            self.addresses.remove(&interface);
        } else {
            self.addresses.insert(interface, addresses.to_vec());
        }
        self.local = self.addresses.values().flatten().copied().collect();
    }

    /// Says by what ports of sources are chosen that rules translate, if they have ports: by where answers arrive, rather than the
    /// port that the client has. A rule's range of ports still holds, and leaves nothing to choose if it is too narrow.
    ///
    /// Of several translators with one outside address each needs a chooser of its own.
    pub fn set_homing(&mut self, homing: Option<Box<dyn Homing>>) {
        self.homing = homing;
    }

    /// Says what the sender of a first packet is told for which a rule without a pool has no free port, or the interface no address.
    /// `None`, as in the beginning: nothing, as in Linux. What a pool has nothing left for, [the pool](PoolConfig::answer) answers.
    ///
    /// ```
    /// use gufc::hooks::conntrack::{Config, Conntrack};
    /// use gufc::hooks::nat::Nat;
    /// use gufc::key::Tuple;
    /// use gufc::verdict::Answer;
    ///
    /// let tracker: Conntrack<Tuple> = Conntrack::try_new(Config::new(1024, [1, 2]))?;
    /// let mut nat = Nat::try_new(tracker, 100, [3, 4])?;
    /// nat.set_answer(Some(Answer::HostUnreachable));
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    pub fn set_answer(&mut self, answer: Option<Answer>) {
        self.answer = answer;
    }

    /// Ends the connections that were masqueraded for an interface, because it is down or its address has changed. Returns
    /// how many. Cost: O(slots).
    pub fn flush(&mut self, interface: Interface) -> usize {
        self.end_where(|side| side.masqueraded == Some(interface))
    }

    fn end_where(&mut self, condemn: impl Fn(&side::Side<K>) -> bool) -> usize {
        let condemned: Vec<ConnId> = self
            .sides
            .iter()
            .filter(|(_, side)| condemn(side))
            .map(|(id, _)| id)
            .collect();
        let count = condemned.len();
        for id in condemned {
            self.tracker.delete(id);
        }
        self.bury();
        count
    }

    /// Adds a rule. No connection is touched: the change is nothing.
    ///
    /// # Errors
    ///
    /// [`EditError`]; nothing has changed.
    ///
    /// Cost: an insertion into the interest index; O(n) of them for n rules where the rule does not go last.
    pub fn insert(&mut self, place: Place, rule: Rule) -> Result<(RuleId, Change), EditError> {
        let family = match rule.action {
            Action::Pool(pool) | Action::Nat64(pool) => {
                let own = self.mappings.pool(pool).ok_or(EditError::Action)?;
                let crosses = matches!(rule.action, Action::Nat64(_));
                if own.config().prefix64.is_some() != crosses {
                    return Err(EditError::Action);
                }
                own.family().filter(|_| !crosses)
            }
            _ => None,
        };
        Ok((self.rules.insert(place, rule, family)?, Change::nothing()))
    }

    /// Takes a rule out. With [`Live::End`] the connections that it decided end, and the change is the rule's pattern.
    ///
    /// # Errors
    ///
    /// [`EditError::NoSuchRule`].
    ///
    /// Cost: O(n) for n rules; O(slots) with [`Live::End`].
    pub fn remove(&mut self, id: RuleId, live: Live) -> Result<(Rule, Change), EditError> {
        let rule = self.rules.remove(id)?;
        let mut change = Change::nothing();
        if live == Live::End {
            self.end_where(|side| side.rules.contains(&Some(id)));
            let view = match rule.action.end() {
                End::Source => View::Routed,
                End::Destination => View::Arrived,
            };
            change = change.touches(NAME, view, rule.matches.pattern);
        }
        Ok((rule, change))
    }

    /// A rule, and how many connections it has decided.
    pub fn rule(&self, id: RuleId) -> Option<(&Rule, u64)> {
        self.rules.get(id)
    }

    /// The rules for an end, in order, each with the number of connections that it has decided.
    pub fn rules(&self, end: End) -> impl Iterator<Item = (RuleId, &Rule, u64)> {
        self.rules.iter(end)
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What has been counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Connections whose source has been decided on and that have not ended.
    pub fn connections(&self) -> usize {
        self.sides.len()
    }

    /// Bytes reserved beside the tracker's.
    pub fn reserved_bytes(&self) -> usize {
        self.sides.reserved_bytes()
    }

    /// The rules that decided a connection's source and destination.
    pub fn decided_by(&self, id: ConnId) -> [Option<RuleId>; 2] {
        self.sides.side(id).map_or([None; 2], |side| side.rules)
    }

    /// [`Conntrack::maintain`], and what follows from it.
    pub fn maintain(&mut self, now: Instant, budget: u32) -> Maintained {
        self.now = now;
        let maintained = self.tracker.maintain(now, budget);
        self.bury();
        maintained
    }

    /// Adds a pool, for rules to send sources to.
    ///
    /// # Errors
    ///
    /// [`ReserveError`] when memory is short.
    pub fn add_pool(&mut self, config: PoolConfig) -> Result<PoolId, ReserveError> {
        let seed = [self.dice.draw(), self.dice.draw()];
        let pool = Pool::try_new(config, seed)?;
        let capacity = self.tracker.config().capacity as usize;
        self.mappings.add_pool(pool, capacity, seed)
    }

    /// A pool.
    pub fn pool(&self, id: PoolId) -> Option<&Pool> {
        self.mappings.pool(id)
    }

    /// Every mapping of every pool.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping<K>> {
        self.mappings.iter()
    }

    /// Forwards a port: what comes for `outside` goes to the source of `inside`, and what that sends leaves as `outside`
    /// where a rule names the pool.
    /// `inside` is a key of the protocol wanted; its destination does not count.
    ///
    /// # Errors
    ///
    /// [`PoolError::Exhausted`] where either end has a mapping already; [`PoolError::Outsider`] where there is no such pool,
    /// or the ends are of two families and the pool has no prefix to join them.
    pub fn forward(
        &mut self,
        pool: PoolId,
        inside: &K,
        outside: Endpoint,
    ) -> Result<(), PoolError> {
        self.mappings.forward(pool, inside, outside).map(|_| ())
    }

    /// Takes a forward away again. False where there is none, or connections use it.
    pub fn unforward(&mut self, inside: &K) -> bool {
        self.mappings.unfix(inside, self.now)
    }

    /// Makes the next choice for the translator, if it is a legal one: for a test that follows a recording.
    #[doc(hidden)]
    pub fn foretell(&mut self, foretold: Foretold) {
        self.foretold = foretold;
    }

    /// Whether the parts agree with one another; for tests. Cost: O(capacity log capacity).
    #[doc(hidden)]
    pub fn check(&mut self) -> Result<(), &'static str> {
        self.bury();
        self.tracker.check()?;
        self.sides.check()?;
        self.mappings.check()?;
        let mut kept = 0;
        for (id, side) in self.sides.iter() {
            if self.tracker.connection(id).is_none() {
                return Err("a record belongs to a connection");
            }
            kept += side.mappings.iter().flatten().count() as u32;
        }
        kept += self.announced.check(|id| self.sides.side(id).is_some())?;
        if kept != self.mappings.iter().map(|one| one.sessions).sum() {
            return Err("a mapping counts its connections");
        }
        Ok(())
    }

    /// Counts a first packet that must not pass, and says what befalls it.
    ///
    /// Only who sent it from inside is told: what filtering keeps out gets no answer, nor what has no address in the other family.
    fn refuse(&mut self, Refused { why, by }: Refused) -> Verdict {
        let counters = &mut self.counters;
        let (count, is_told) = match why {
            Refusal::Exhausted => (&mut counters.exhausted, true),
            Refusal::NoAddress => (&mut counters.no_address, true),
            Refusal::Unlent => (&mut counters.unlent, true),
            Refusal::Filtered => (&mut counters.filtered, false),
            Refusal::Untranslatable => (&mut counters.unreachable, false),
        };
        *count += 1;
        let pool = by.and_then(|id| self.mappings.pool(id));
        let answer = pool.map_or(self.answer, |pool| pool.config().answer);
        match answer.filter(|_| is_told) {
            Some(answer) => Verdict::Reject(answer),
            None => Verdict::Drop,
        }
    }

    /// Ends the records of connections that have left the tracker.
    fn bury(&mut self) {
        while let Some(id) = self.tracker.next_ended() {
            self.announced.end(&mut self.mappings, id, self.now);
            let Some(side) = self.sides.end(id) else {
                continue;
            };
            let peers = [side.peer, None];
            for (mapping, peer) in side.mappings.into_iter().zip(peers) {
                if let Some(mapping) = mapping {
                    self.mappings.leave(mapping, peer, self.now);
                }
            }
        }
    }

    /// Gives a pending connection's source the outside end of its inside end's mapping.
    fn decide_by_pool(&mut self, id: ConnId, pool: PoolId, now: Instant) -> Result<(), Refusal> {
        let current = match self.tracker.connection(id) {
            Some(connection) => connection.tuple(Direction::Reply).inverse(),
            None => None,
        };
        let Some(current) = current else {
            return Ok(());
        };
        let tracker = &self.tracker;
        let answer_to = |outside| current.with(outside, current.destination())?.inverse();
        let is_free = |answer: &K| !tracker.is_taken(answer, id, now);
        let is_of_use = |outside| answer_to(outside).is_some_and(|answer| is_free(&answer));
        let mapping = match self.mappings.of_inside(pool, &current, now, is_of_use) {
            Ok(mapping) => mapping,
            Err(PoolError::Protocol) => {
                // No ports: the address alone.
                let own = self.mappings.pool(pool);
                let address = own.and_then(|pool| pool.address_of(current.source().address));
                let range = Range::address(address.ok_or(Refusal::NoAddress)?);
                return self.decide(id, End::Source, &range, true, now);
            }
            Err(_) => return Err(Refusal::Unlent),
        };
        let outside = self.mappings.get(mapping).map(|one| one.outside);
        let Some(answer) = outside.and_then(answer_to).filter(is_free) else {
            self.mappings.end_if_unused(mapping, now);
            return Err(Refusal::Exhausted);
        };
        self.tracker.set_reply(id, answer);
        let mut bits = End::Source.done();
        if outside != Some(current.source()) {
            bits = bits.union(End::Source.bit());
        }
        self.tracker.set_status(id, bits);
        let filtering = self.mappings.pool(pool).map(|one| one.config().filtering);
        let peer = (filtering == Some(Filtering::AddressDependent))
            .then_some(current.destination().address);
        self.sides.begin(id, &current);
        match self.sides.side_mut(id) {
            Some(side) => {
                side.mappings[0] = Some(mapping);
                side.peer = peer;
                self.mappings.join(mapping, peer);
            }
            None => self.mappings.end_if_unused(mapping, now),
        }
        Ok(())
    }

    /// Whether an address is this machine's own.
    fn is_local(&self, address: IpAddr) -> bool {
        self.local.contains(&address)
    }

    /// The first address of an interface in a family.
    fn address_of(&self, interface: Interface, family: Family) -> Option<IpAddr> {
        let addresses = self.addresses.get(&interface)?;
        let mut own = addresses.iter().copied();
        own.find(|address| Family::align(*address).0 == family)
    }

    /// Decides one end of a pending connection. Cost: see [`Selection::select`].
    fn decide(
        &mut self,
        id: ConnId,
        end: End,
        range: &Range,
        planned: bool,
        now: Instant,
    ) -> Result<(), Refusal> {
        let reply = |tracker: &Conntrack<K>| {
            let connection = tracker.connection(id)?;
            connection.tuple(Direction::Reply).inverse()
        };
        let Some(current) = reply(&self.tracker) else {
            return Ok(());
        };
        let turn = match self.homing {
            Some(_) => self.dice.draw() as u32,
            None => 0,
        };
        let mut selection = Selection {
            tracker: &mut self.tracker,
            sides: &self.sides,
            dice: &mut self.dice,
            foretold: self.foretold,
            id,
            now,
        };
        let ported = end == End::Source && planned && current.protocol().has_ports();
        let selected = match &mut self.homing {
            Some(homing) if ported => {
                let (homed, selected) =
                    selection.select_home(&current, range, turn, homing.as_mut());
                match homed {
                    Homed::Home(_) => self.counters.home += 1,
                    Homed::Away(_) => self.counters.away += 1,
                    Homed::Full => return Err(Refusal::Exhausted),
                }
                selected
            }
            _ => selection.select(&current, range, end),
        };
        self.counters.probes += u64::from(selected.probes);
        self.counters.probes_max = self.counters.probes_max.max(selected.probes);
        let mut bits = end.done();
        if selected.tuple != current {
            let Some(answer) = selected.tuple.inverse() else {
                return Err(Refusal::Exhausted);
            };
            self.tracker.set_reply(id, answer);
            bits = bits.union(end.bit());
            self.counters.unclashed += u64::from(!planned);
        }
        self.tracker.set_status(id, bits);
        if end == End::Source {
            self.sides.begin(id, &current);
        }
        Ok(())
    }

    /// Whether the answers to a connection that is about to be confirmed would be another's.
    fn is_clashing(&self, id: ConnId, now: Instant) -> bool {
        self.tracker.connection(id).is_some_and(|connection| {
            let reply = connection.tuple(Direction::Reply);
            self.tracker.is_taken(reply, id, now)
        })
    }

    /// The key that a packet of a connection has with one end translated.
    fn translated(&self, key: &K, end: End, target: &K, ports: bool) -> K {
        let new = moved(key, end, target, ports);
        let (old, fields) = (key.fields(), new.fields());
        let mut locality: Locality = fields.locality;
        if old.source != fields.source {
            locality.source = self.is_local(new.source().address);
        }
        if old.destination != fields.destination {
            locality.destination = self.is_local(new.destination().address);
        }
        new.at(locality)
    }

    /// The addresses and ports that an action stands for, for one packet; `None` where the end stays.
    fn range_of(
        &self,
        action: Action,
        key: &K,
        interface: Option<Interface>,
    ) -> Result<Option<Range>, Refusal> {
        let own = |ports, random| {
            let interface = interface.ok_or(Refusal::NoAddress)?;
            let address = self.address_of(interface, key.fields().family);
            let range = Range::address(address.ok_or(Refusal::NoAddress)?);
            Ok(Some(Range {
                ports,
                random,
                ..range
            }))
        };
        match action {
            Action::Leave(_) | Action::Pool(_) | Action::Nat64(_) => Ok(None),
            Action::Change(_, range) => Ok(Some(range)),
            // Somebody who has no address yet.
            Action::Masquerade { .. } if key.source().address.is_unspecified() => Ok(None),
            Action::Masquerade { ports, random } => own(ports, random),
            Action::Redirect { ports } => own(ports, false),
            Action::Netmap(end, prefix) => {
                let end = match end {
                    End::Source => key.source(),
                    End::Destination => key.destination(),
                };
                let (family, bits) = Family::align(end.address);
                let address = family.address(prefix.bits() | bits & !prefix.mask());
                Ok(Some(Range::address(address)))
            }
        }
    }

    /// The range that keeps an end's address.
    fn null_range(&self, id: ConnId, end: End) -> Option<Range> {
        let connection = self.tracker.connection(id)?;
        let reply = connection.tuple(Direction::Reply);
        Some(Range::address(match end {
            End::Source => reply.destination().address,
            End::Destination => reply.source().address,
        }))
    }

    /// What a child of a connection's announcement becomes: the ends that its master's have (Linux: follow the master).
    fn follow_master(&self, id: ConnId) -> Option<[(End, Range); 2]> {
        let child = self.tracker.connection(id)?;
        let original = child.tuple(Direction::Original);
        let master = self.tracker.connection(child.master()?)?;
        // Who announced it: the end that the child goes to, as its peer sees it.
        let announcer = Direction::BOTH.into_iter().find(|direction| {
            let seen = master.tuple(direction.reverse()).destination().address;
            seen == original.destination().address
        })?;
        let tuple = master.tuple(announcer);
        let outside = original.destination();
        let inside = self.tracker.announced_as(master.id(), outside);
        let inside = inside.unwrap_or(Endpoint::new(tuple.source().address, outside.port));
        let port = crate::key::Ports::one(inside.port);
        let source = Range::address(tuple.destination().address);
        let destination = Range::address(inside.address).with_ports(port);
        Some([(End::Source, source), (End::Destination, destination)])
    }
}

/// Whether a connection's status says that both ends have been decided on.
fn is_decided(status: Status) -> bool {
    status.contains(Status::SRC_NAT_DONE.union(Status::DST_NAT_DONE))
}
