//! Stories with a NIC: the same packets through queues, shards, cookies, offloads and faults, and through one dataplane without
//! any of them, which sees the packets in the order in which they were delivered.
//!
//! Proptest and the fuzzer both make a story of bytes.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::hooks::{ToyMarker, ToyNat, ToyTracker};
use super::script::{Op as Edit, RULES, actor, edit_parts, routes};
use super::toy::{Choices, ToyPacket, packet};
use super::uncached::Uncached;
use crate::cache::Config;
use crate::cookie::FlowCookie;
use crate::epoch::{Change, Generation};
use crate::hooks::filter::{EditError, Filter, Policy};
use crate::hooks::route::Routes;
use crate::key::{FlowKey, Pattern, Protocol, Tuple};
use crate::nic::{
    Bucket, Driver, Facts, Fault, Faults, Function, Indirection, Intake, Nic, NicConfig, OffloadId,
    Queue, Refusal, Rss, RssKey, Symmetry, Told, Width,
};
use crate::packet::{Origin, TcpFlags};
use crate::shard::{Homes, Placed, Placing, Shard, ShardId};
use crate::time::{Duration, Instant};
use crate::verdict::{Egress, Outcome};

/// The pipeline of these stories: all that it remembers belongs to a connection, or is a sum.
pub type Hooks = (ToyTracker, Routes, Filter, ToyMarker);

fn hooks() -> Hooks {
    let web = Pattern {
        protocol: Some(Protocol::TCP),
        ..Pattern::ANY
    };
    (
        ToyTracker::default(),
        routes(),
        Filter::new("filter", 12, 5, Policy::Accept),
        ToyMarker::new(web, false),
    )
}

fn edit(op: &Edit, hooks: &mut Hooks) -> Result<Change, EditError> {
    let (tracker, routes, filter, _) = hooks;
    let nat = &mut ToyNat { map: None };
    edit_parts(op, tracker, nat, routes, filter).map(|((), change)| change)
}

/// One operation.
#[derive(Clone, Debug)]
pub enum Op {
    /// A packet comes in from the wire, or, if it is local, from a process.
    Packet(ToyPacket),
    /// Some packets of a queue are delivered.
    Poll(u8, u8),
    /// All packets are delivered.
    Drain,
    /// Hooks are edited.
    Edit(Edit),
    /// Time passes.
    Tick(u8),
    /// Every shard is maintained.
    Maintain(u8),
    /// Forget the session of a packet.
    Evict(ToyPacket),
    /// A bucket of the indirection table goes to another queue.
    Move(u8, u8),
    /// The indirection table is rebalanced by the load so far.
    Rebalance(u8),
    /// Ask for a mark: of its entry or its subtree, in its queue or another.
    Mark(ToyPacket, bool, Option<u8>),
    /// End a mark.
    Unmark(ToyPacket),
    /// Ask for an offload, with some plain packets both ways before and after.
    Offload(ToyPacket),
    /// End one.
    Withdraw(ToyPacket),
}

fn next(choices: &mut Choices<'_>, cast: &[ToyPacket]) -> Op {
    let who = |choices: &mut Choices<'_>| actor(choices, cast);
    match choices.below(40) {
        0..=13 => Op::Packet(who(choices)),
        14..=18 => Op::Poll(choices.byte(), choices.below(8) as u8),
        19 | 20 => Op::Drain,
        21..=23 => Op::Edit(Edit::Insert(
            choices.below(RULES.len() as u16).into(),
            choices.below(8) as u8,
        )),
        24 => Op::Edit(Edit::Remove(choices.byte())),
        25 => Op::Edit(match choices.below(4) {
            0 => Edit::Strict(choices.below(2) == 1),
            1 => Edit::NextHop(choices.below(2) as u8, choices.below(3) as u8),
            _ => Edit::Route(choices.byte(), choices.below(6) as u8),
        }),
        26 => Op::Tick(choices.byte()),
        27 => Op::Maintain(choices.byte()),
        28 => Op::Evict(who(choices)),
        29 => Op::Move(choices.byte(), choices.byte()),
        30 => Op::Rebalance(choices.below(4) as u8),
        31..=33 => Op::Mark(
            who(choices),
            choices.below(4) == 0,
            (choices.below(4) == 0).then(|| choices.byte()),
        ),
        34 => Op::Unmark(who(choices)),
        35..=37 => Op::Offload(who(choices)),
        _ => Op::Withdraw(who(choices)),
    }
}

/// What a story has seen: for tests that want all of it to happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Packets delivered by queues.
    pub delivered: u64,
    /// Packets answered by an entry.
    pub cached: u64,
    /// Packets whose cookie named their entry or subtree.
    pub cookie_hits: u64,
    /// Packets whose cookie was followed, and named nothing of theirs.
    pub cookie_misses: u64,
    /// Cookies that the driver did not follow: recycled, forged, leaving.
    pub refused: u64,
    /// Packets forwarded by the NIC.
    pub forwarded: u64,
    /// Offloads withdrawn by edits.
    pub withdrawn_by_edit: u64,
    /// Pairs suspended by a control packet.
    pub suspended: u64,
    /// Packets handed over by their hash.
    pub handed: u64,
    /// Packets handed over by a handle.
    pub remote: u64,
    /// Faults struck.
    pub faults: u64,
    /// Commands sent again.
    pub retries: u64,
    /// Packets that found a queue full.
    pub overflows: u64,
}

impl Seen {
    /// Adds another story's.
    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.cached += other.cached;
        self.cookie_hits += other.cookie_hits;
        self.cookie_misses += other.cookie_misses;
        self.refused += other.refused;
        self.forwarded += other.forwarded;
        self.withdrawn_by_edit += other.withdrawn_by_edit;
        self.suspended += other.suspended;
        self.handed += other.handed;
        self.remote += other.remote;
        self.faults += other.faults;
        self.retries += other.retries;
        self.overflows += other.overflows;
    }
}

/// Where an offloaded flow lives, and what becomes of its packets.
#[derive(Clone, Copy, Debug)]
struct Forwarded {
    shard: usize,
    outcomes: [Outcome; 2],
    departed: [Tuple; 2],
}

/// The dataplane with a NIC and its twin, side by side.
pub struct Story {
    nic: Nic<Tuple, ToyPacket>,
    driver: Driver<Tuple>,
    shards: Vec<Shard<Tuple, Hooks>>,
    twin: Uncached<Hooks>,
    now: Instant,
    edits: u64,
    /// The last answer of each flow that its entry gave, and how many edits there had been.
    answers: BTreeMap<Tuple, (u64, Outcome)>,
    forwarded: BTreeMap<u32, Forwarded>,
    /// By flow, where its entry lives.
    lives: BTreeMap<Tuple, usize>,
    seen: Seen,
}

const PATIENCE: Duration = Duration::from_millis(2);

impl Story {
    /// A story as the first bytes say.
    pub fn new(choices: &mut Choices<'_>) -> Self {
        let queues = choices.one(&[1u16, 2, 3, 4]);
        let key = choices.one(&[RssKey::MICROSOFT, RssKey::symmetric(0x6d5a)]);
        let rss = Rss::new(key);
        let rss = match choices.below(4) {
            0 => rss.with_symmetry(Symmetry::Xor),
            1 => rss.with_symmetry(Symmetry::OrXor),
            2 => rss.with_function(Function::XorFold),
            // Under Microsoft's key replies go elsewhere.
            _ => rss,
        };
        let table = Indirection::equal(5, queues);
        let mut faults = Faults::new([choices.byte().into(), choices.byte().into()]);
        for fault in [
            Fault::Drop,
            Fault::Duplicate,
            Fault::Reorder,
            Fault::Delay,
            Fault::StaleCookie,
            Fault::ForgedCookie,
            Fault::LostCompletion,
        ] {
            faults = faults.with(fault, choices.one(&[0, 0, 16, 96]));
        }
        let config = NicConfig {
            queue_capacity: choices.one(&[3, 64]),
            filters: choices.one(&[3, 64]),
            commands: choices.one(&[2, 64]),
            delay: Duration::from_micros(choices.one(&[0, 300, 5_000])),
            age: Duration::from_secs(2),
            ..NicConfig::new(queues)
        };
        let nic = Nic::new(config, rss.clone(), table.clone(), faults);
        let width = choices.one(&[Width::Bits16, Width::Bits24, Width::Bits32]);
        let driver = Driver::new(width, choices.one(&[2, 16]), choices.one(&[1, 8]), PATIENCE);
        // Of four, three at most are established: they make room for one another.
        let sessions = choices.one(&[4, 64]);
        let config = Config {
            sessions,
            regions: choices.one(&[1, 64]),
            evict_scan: 4,
            idle_provisional: Duration::from_secs(4),
            idle_established: Duration::from_secs(if sessions == 4 { 3 } else { 100_000 }),
            idle_denied: Duration::from_secs(2),
            ..Config::new([1, 2])
        };
        let shards = (0..queues)
            .map(|id| {
                Shard::new(
                    ShardId(id),
                    config.clone(),
                    hooks(),
                    rss.clone(),
                    Homes::of_queues(&table),
                    Placing::HandOver,
                    4_096,
                    Duration::from_secs(100_000),
                )
                .expect("a valid configuration")
            })
            .collect();
        Self {
            nic,
            driver,
            shards,
            twin: Uncached { hooks: hooks() },
            now: Instant::from_secs(1),
            edits: 0,
            answers: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            lives: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        let mut seen = self.seen;
        for shard in &self.shards {
            let stats = shard.cache().stats();
            seen.cached += stats.cached();
            seen.cookie_hits += stats.cookie_hits;
            seen.cookie_misses += stats.cookie_misses;
            seen.handed += shard.stats().handed;
            seen.remote += shard.stats().remote;
        }
        let cookies = self.driver.cookies();
        let refusals = [Refusal::Forged, Refusal::Recycled, Refusal::Leaving];
        seen.refused = refusals.iter().map(|why| cookies.refused(*why)).sum();
        let nic = self.nic.stats();
        (seen.forwarded, seen.suspended, seen.overflows) =
            (nic.forwarded, nic.suspended, nic.overflows);
        seen.withdrawn_by_edit = self.driver.stats().withdrawn_by_edit;
        seen.retries = self.driver.stats().retries;
        let all = [
            Fault::Drop,
            Fault::Duplicate,
            Fault::Reorder,
            Fault::Delay,
            Fault::StaleCookie,
            Fault::ForgedCookie,
            Fault::LostCompletion,
        ];
        seen.faults = all
            .iter()
            .map(|fault| self.nic.faults().struck(*fault))
            .sum();
        seen
    }

    /// A packet is delivered to a shard: it goes where it belongs, and its twin to the twin.
    fn deliver(&mut self, at: usize, sent: ToyPacket) -> Result<(), String> {
        let mut got = sent;
        let at = at % self.shards.len();
        let mut place = at;
        let mut placed = self.shards[at].process(&mut got, self.now);
        for hop in 0.. {
            if hop > 2 {
                return Err(format!("{sent:?}: handed over for ever"));
            }
            match placed {
                Placed::Here(outcome, announcement) => {
                    if let Some(announcement) = announcement {
                        let to = usize::from(announcement.to.0);
                        self.shards[to].learn(announcement, self.now);
                    }
                    return self.compare(place, sent, got, outcome);
                }
                Placed::Elsewhere(remote, handed) => {
                    if got.key != sent.key {
                        return Err(format!("{sent:?}: changed on its way"));
                    }
                    got.cookie = got.cookie.or(remote.cookie);
                    place = usize::from(remote.shard.0);
                    placed = self.shards[place].take_over(&mut got, handed, self.now);
                }
            }
        }
        Ok(())
    }

    fn compare(
        &mut self,
        shard: usize,
        sent: ToyPacket,
        got: ToyPacket,
        outcome: Outcome,
    ) -> Result<(), String> {
        self.lives.insert(sent.key, shard);
        if outcome.path.is_cached() {
            self.answers.insert(sent.key, (self.edits, outcome));
        } else {
            self.answers.remove(&sent.key);
            // Hooks have judged a packet of the flow: what the NIC forwards may not be right any more.
            let back = sent.key.inverse();
            for flow in [Some(sent.key), back].into_iter().flatten() {
                self.answers.remove(&flow);
                self.take_back(&flow)?;
            }
        }
        self.judge_twin(sent, got.key, got.hop_limit, &outcome)
    }

    fn judge_twin(
        &mut self,
        mut sent: ToyPacket,
        departed: Tuple,
        hop_limit: u8,
        outcome: &Outcome,
    ) -> Result<(), String> {
        let before = sent;
        sent.cookie = None;
        let expected = self.twin.process(&mut sent, self.now);
        if !outcome.agrees(&expected) || (sent.key, sent.hop_limit) != (departed, hop_limit) {
            return Err(format!(
                "{before:?}: expected {expected:?} as {}, got {outcome:?} as {departed}",
                sent.key
            ));
        }
        Ok(())
    }

    /// Takes a flow back from the NIC, and waits until it is.
    fn take_back(&mut self, flow: &Tuple) -> Result<(), String> {
        let Some(id) = self.driver.offload_of(flow) else {
            return Ok(());
        };
        self.driver.withdraw(&mut self.nic, id, self.now);
        // The NIC is asked again when an answer is lost: time is all that it takes.
        for _ in 0..10_000 {
            if self.driver.offload_of(flow) != Some(id) {
                return Ok(());
            }
            self.now = self.now + PATIENCE;
            self.settle()?;
        }
        Err(format!("{flow}: never taken back"))
    }

    /// Answers are read, and what was forwarded is credited.
    fn settle(&mut self) -> Result<(), String> {
        self.driver.tick(&mut self.nic, self.now, 64);
        let (shards, forwarded) = (&mut self.shards, &mut self.forwarded);
        let mut lost = Ok(());
        self.driver.collect(&mut self.nic, |OffloadId(pair), told| {
            let home = forwarded.get(&pair).map(|known| known.shard);
            let cache = home.and_then(|shard| shards.get_mut(shard));
            let kept = cache.is_some_and(|shard| {
                let cache = shard.cache_mut();
                match told {
                    Told::Forwarded(flow, tally) => cache.credit(Origin::Received, flow, &tally),
                    Told::Ended(flows) => {
                        forwarded.remove(&pair);
                        cache.take_back(flows)
                    }
                }
            });
            if !kept {
                lost = Err(format!("{told:?}: not to be credited"));
            }
        });
        lost
    }

    fn receive(&mut self, packet: ToyPacket) -> Result<(), String> {
        if packet.origin == Origin::Local {
            let home = self.shards[0].home(&packet.key);
            return self.deliver(usize::from(home.0), packet);
        }
        let facts = Facts {
            // What a NIC cannot parse it does not match.
            fragment: packet.fragment.is_part() || packet.defect.is_some(),
            control: packet
                .flags
                .intersects(TcpFlags::SYN.union(TcpFlags::FIN).union(TcpFlags::RST)),
            length: packet.length,
        };
        match self.nic.receive(&packet.key, facts, packet, self.now) {
            Intake::Forwarded(pair, direction, packet) => {
                let Some(known) = self.forwarded.get(&pair).copied() else {
                    return Err(format!("{packet:?}: forwarded by nobody's wish"));
                };
                let mut outcome = known.outcomes[direction];
                // A next hop is a cell, read as it is now.
                let (_, routes, ..) = self.shards[known.shard].cache().hooks();
                outcome.egress = outcome.egress.map(|egress| Egress {
                    interface: routes
                        .next_hop(crate::hooks::route::NextHopId(egress.next_hop))
                        .map_or(egress.interface, |hop| hop.interface),
                    ..egress
                });
                self.judge_twin(
                    packet,
                    known.departed[direction],
                    packet.hop_limit,
                    &outcome,
                )
            }
            _ => Ok(()),
        }
    }

    fn poll(&mut self, queue: u16, most: usize) -> Result<(), String> {
        for _ in 0..most {
            let Some(received) = self.nic.poll(Queue(queue)) else {
                return Ok(());
            };
            self.seen.delivered += 1;
            let cookie: Option<FlowCookie> = self.driver.resolve(received.cookie).ok();
            let packet = ToyPacket {
                cookie,
                ..received.packet
            };
            self.deliver(usize::from(queue), packet)?;
        }
        Ok(())
    }

    fn publish(&mut self, op: &Edit) -> Result<(), String> {
        self.edits += 1;
        let expected = self.twin.edit(|hooks| edit(op, hooks).map(|c| ((), c)));
        let mut change = None;
        for shard in &mut self.shards {
            let mut touched = Change::nothing();
            let done = shard.edit(|hooks| {
                let change = edit(op, hooks)?;
                touched = change.clone();
                Ok::<_, EditError>(change)
            });
            if done.is_some() != expected.is_ok() {
                return Err(format!("{op:?}: not as the twin"));
            }
            if change.get_or_insert(touched.clone()) != &touched {
                return Err(format!("{op:?}: shards say differently what it touches"));
            }
        }
        let generation = Generation::from_number(self.edits);
        let change = change.unwrap_or_default();
        self.driver
            .publish(&mut self.nic, &change, generation, self.now);
        // The barrier: until it says so, the NIC may forward by the rules before. No packet is sent meanwhile.
        for _ in 0..10_000 {
            if self.driver.is_visible(generation) {
                return Ok(());
            }
            self.now = self.now + PATIENCE;
            self.settle()?;
        }
        Err(format!("{op:?}: never visible"))
    }

    /// Plain packets both ways, each delivered before the next.
    fn converse(&mut self, packet: &ToyPacket, rounds: usize) -> Result<(), String> {
        let back = packet.key.inverse().unwrap_or(packet.key);
        for key in [packet.key, back].repeat(rounds) {
            let plain = ToyPacket {
                length: packet.length,
                ..ToyPacket::new(key)
            };
            let origin = if key.fields().locality.source {
                Origin::Local
            } else {
                Origin::Received
            };
            self.receive(ToyPacket { origin, ..plain })?;
            self.nic.flush();
            for queue in 0..self.nic.queues() {
                self.poll(queue, usize::MAX)?;
            }
        }
        Ok(())
    }

    fn offload(&mut self, flow: &Tuple) {
        let Some(&shard) = self.lives.get(flow) else {
            return;
        };
        let cache = self.shards[shard].cache_mut();
        let Some(able) = cache.offloadable(Origin::Received, flow) else {
            return;
        };
        let answer = |flow: &Tuple| match self.answers.get(flow) {
            Some((edits, outcome)) if *edits == self.edits => Some(*outcome),
            _ => None,
        };
        let [Some(there), Some(back)] = able.flows.map(|flow| answer(&flow)) else {
            return;
        };
        // Lent before anything of it can be forwarded.
        let cache = self.shards[shard].cache_mut();
        if cache.lend(Origin::Received, flow).is_none() {
            return;
        }
        let offloaded = self
            .driver
            .offload(&mut self.nic, able.flows, able.views, self.now);
        let Ok(OffloadId(pair)) = offloaded else {
            self.shards[shard].cache_mut().take_back(&able.flows);
            return;
        };
        let forwarded = Forwarded {
            shard,
            outcomes: [there, back],
            departed: able.views.map(|views| views.departed),
        };
        self.forwarded.insert(pair, forwarded);
        for flow in able.flows {
            self.lives.insert(flow, shard);
        }
    }

    /// Plays one operation to both and compares what can be seen.
    ///
    /// # Errors
    ///
    /// The first difference.
    pub fn play(&mut self, op: &Op) -> Result<(), String> {
        let queues = self.nic.queues();
        match op {
            Op::Packet(packet) => self.receive(*packet)?,
            Op::Poll(queue, most) => self.poll(u16::from(*queue) % queues, (*most).into())?,
            Op::Drain => {
                self.nic.flush();
                for queue in 0..queues {
                    self.poll(queue, usize::MAX)?;
                }
            }
            Op::Edit(op) => self.publish(op)?,
            Op::Tick(n) => self.now = self.now + Duration::from_millis(u64::from(*n) * 20),
            Op::Maintain(budget) => {
                for shard in &mut self.shards {
                    shard.maintain(self.now, usize::from(*budget));
                }
            }
            Op::Evict(packet) => {
                self.take_back(&packet.key)?;
                if let Some(&shard) = self.lives.get(&packet.key) {
                    let cache = self.shards[shard].cache_mut();
                    cache.remove(packet.origin, &packet.key);
                }
            }
            Op::Move(bucket, queue) => {
                let queue = Queue(u16::from(*queue) % queues);
                let bucket = Bucket(u16::from(*bucket) % 32);
                self.nic.indirection_mut().set(bucket, queue);
            }
            Op::Rebalance(moves) => {
                let load = self.nic.take_load();
                let table = self.nic.indirection_mut();
                table.rebalance(&load, queues, usize::from(*moves));
            }
            Op::Mark(packet, subtree, queue) => {
                let key = packet.key;
                let home = usize::from(self.shards[0].home(&key).0);
                let shard = self.lives.get(&key).copied().unwrap_or(home);
                let cache = self.shards[shard].cache();
                let names = if *subtree {
                    Some(cache.subtree_cookie(Origin::Received, &key))
                } else {
                    cache.cookie(Origin::Received, &key)
                };
                let queue = queue.map(|queue| Queue(u16::from(queue) % queues));
                if let Some(names) = names {
                    // Without help the flow goes on as ever.
                    let _ = self.driver.mark(&mut self.nic, key, queue, names, self.now);
                }
            }
            Op::Unmark(packet) => {
                self.driver.unmark(&mut self.nic, &packet.key, self.now);
            }
            Op::Offload(packet) => {
                self.converse(packet, 3)?;
                self.offload(&packet.key);
                self.now = self.now + Duration::from_millis(6);
                self.converse(packet, 2)?;
            }
            Op::Withdraw(packet) => {
                if let Some(id) = self.driver.offload_of(&packet.key) {
                    self.driver.withdraw(&mut self.nic, id, self.now);
                }
            }
        }
        self.settle()?;
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        self.driver.check()?;
        let rules = |filter: &Filter| -> Vec<_> {
            filter
                .rules()
                .map(|(id, _, counter)| (id, counter.packets, counter.bytes))
                .collect()
        };
        let (tracker, _, filter, marker) = &self.twin.hooks;
        let mut counters: Vec<_> = rules(filter).iter().map(|(id, ..)| (*id, 0, 0)).collect();
        let mut merged = ToyTracker::default();
        merged.strict = tracker.strict;
        let mut shown = 0;
        for shard in &self.shards {
            shard.cache().check()?;
            let (tracker, _, filter, marker) = shard.cache().hooks();
            if !merged.merge(tracker) {
                return Err("two shards track one connection".into());
            }
            for (sum, (id, packets, bytes)) in counters.iter_mut().zip(rules(filter)) {
                if sum.0 != id {
                    return Err("shards differ in their rules".into());
                }
                sum.1 += packets;
                sum.2 += bytes;
            }
            shown += marker.shown;
        }
        if counters != rules(filter) {
            return Err(format!(
                "rule counters: expected {:?}, got {counters:?}",
                rules(filter)
            ));
        }
        if merged != *tracker {
            return Err(format!("tracker: expected {tracker:?}, got {merged:?}"));
        }
        if shown != marker.shown {
            return Err(format!("SYNs: expected {}, got {shown}", marker.shown));
        }
        Ok(())
    }
}

/// Plays the story that the bytes tell.
///
/// # Errors
///
/// What differed, and after which operations.
pub fn nic_story(bytes: &[u8]) -> Result<Seen, String> {
    let mut choices = Choices::new(bytes);
    let mut story = Story::new(&mut choices);
    let cast: Vec<ToyPacket> = (0..6).map(|_| packet(&mut choices)).collect();
    let mut ops = Vec::new();
    while !choices.is_empty() {
        let op = next(&mut choices, &cast);
        ops.push(format!("{op:?}"));
        if let Err(what) = story.play(&op) {
            let from = ops.len().saturating_sub(40);
            return Err(format!(
                "{what}\nafter {} operations:\n{}",
                ops.len(),
                ops[from..].join("\n")
            ));
        }
    }
    story.play(&Op::Drain)?;
    Ok(story.seen())
}
