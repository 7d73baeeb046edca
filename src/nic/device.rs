//! The simulated NIC: filters, hash, queues, commands that take their time, and faults.
//!
//! Apart from the driver because it is the other side: it keeps its own truth, and what the driver believes of it may be late or
//! wrong. It is faithful where drivers are hurt: filters are few and appear later than they were asked for, answers get lost,
//! filters age away, queues overflow, and a packet that was taken in before a change is delivered after it.
//!
//! ```text
//!  packet ─► exact filter? ──── mark: queue and cookie ──────────────┐
//!               │  └────────── forward: counted, software never sees it (unless SYN, FIN or RST: suspends the pair)
//!            wide filter? ───── mark                                  ├─► queue, bounded ─► poll
//!               │                                                     │
//!            hash ─► indirection table ───────────────────────────────┘
//! ```

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::cookies::ShortCookie;
use super::faults::{Fault, Faults};
use super::indirection::{Indirection, Queue};
use super::rss::Rss;
use crate::hook::Tally;
use crate::key::{FlowKey, Pattern};
use crate::time::{Duration, Instant};

/// Sizes and delays of a [`Nic`].
#[derive(Clone, Debug)]
pub struct NicConfig {
    /// Receive queues, at least 1.
    pub queues: u16,
    /// Packets that a queue holds, at least 1; one more is dropped and counted.
    pub queue_capacity: usize,
    /// Exact filters at once; a forwarded pair takes two.
    pub filters: usize,
    /// Commands that may wait; one more is refused.
    pub commands: usize,
    /// From command to effect.
    pub delay: Duration,
    /// A filter that no packet has met for so long is removed by the NIC itself.
    pub age: Duration,
}

impl NicConfig {
    /// Queues of 1,024 packets, 8,192 filters, 256 commands waiting, 100 µs from command to effect, aging after 30 s.
    pub const fn new(queues: u16) -> Self {
        Self {
            queues,
            queue_capacity: 1_024,
            filters: 8_192,
            commands: 256,
            delay: Duration::from_micros(100),
            age: Duration::from_secs(30),
        }
    }
}

/// What a NIC sees of a packet beside its flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// A part of a fragmented datagram: no ports, so no filter matches and addresses alone are hashed.
    pub fragment: bool,
    /// TCP with SYN, FIN or RST: never forwarded past software.
    pub control: bool,
    /// Bytes.
    pub length: u32,
}

/// What a filter does with its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The queue; `None` leaves it to the hash.
    pub queue: Option<Queue>,
    /// The cookie that the packets bear.
    pub cookie: ShortCookie,
}

/// What the driver asks of the NIC. Commands take effect in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<K> {
    /// Mark the packets of a flow. Asked again with the same cookie it is done already.
    Mark {
        /// The flow.
        flow: K,
        /// What to do.
        mark: Mark,
    },
    /// Forward the packets of both directions without software, and count them under this number.
    Forward {
        /// Both directions.
        flows: [K; 2],
        /// A number of the driver's choice.
        pair: u32,
    },
    /// Remove the filter of a flow, if it bears this cookie.
    Unmark {
        /// The flow.
        flow: K,
        /// Its cookie.
        cookie: ShortCookie,
    },
    /// Forward the packets of a pair no more. Its counters stay until they are [released](Nic::release).
    Withdraw {
        /// The number of the pair.
        pair: u32,
    },
}

/// The NIC's answer to a command, or its news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion<K> {
    /// The filter is there.
    Marked(K, ShortCookie),
    /// There is no room for the filter.
    NoRoom(K, ShortCookie),
    /// The filter is not there (any more).
    Unmarked(K, ShortCookie),
    /// The filter has aged away.
    Aged(K, ShortCookie),
    /// The pair is forwarded.
    Forwarding(u32),
    /// There is no room for the pair, or one of its flows has a filter.
    NotForwarding(u32),
    /// The pair is not forwarded (any more).
    Withdrawn(u32),
}

/// A packet as a queue delivers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received<T> {
    /// The packet.
    pub packet: T,
    /// The hash over its flow.
    pub hash: u32,
    /// Its cookie.
    pub cookie: ShortCookie,
    /// Its number, by order of intake.
    pub number: u64,
}

/// What became of a packet at intake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intake<T> {
    /// It waits in this queue, or is held and will.
    Queued(Queue),
    /// The queue was full.
    Overflow(Queue),
    /// It was forwarded without software: the pair, the direction (0 or 1 of the pair's flows), the packet.
    Forwarded(u32, usize, T),
    /// A fault took it.
    Lost,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Mark(Mark),
    Forward { pair: u32, direction: usize },
}

#[derive(Clone, Copy, Debug)]
struct Filter {
    action: Action,
    last_hit: Instant,
}

#[derive(Clone, Debug)]
struct Pair<K> {
    flows: [K; 2],
    /// Whether the filters are there.
    installed: bool,
    /// A control packet has come: software has the flow again.
    suspended: bool,
    tallies: [Tally; 2],
}

/// Counters of a NIC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NicStats {
    /// Packets put into queues.
    pub queued: u64,
    /// Packets dropped because a queue was full.
    pub overflows: u64,
    /// Packets that met a mark.
    pub marked: u64,
    /// Packets forwarded without software.
    pub forwarded: u64,
    /// Commands refused because too many waited.
    pub busy: u64,
    /// Filters refused because there were too many.
    pub no_room: u64,
    /// Filters removed because no packet met them.
    pub aged: u64,
    /// Pairs suspended by a control packet.
    pub suspended: u64,
}

/// Too many commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// Packets that a delay may hold at once.
const HELD_MAX: usize = 64;
/// Cookies remembered for the fault of the stale cookie.
const PAST: usize = 32;

/// A NIC.
///
/// `K` names flows, `T` is a packet (bytes, or whatever stands for them).
///
/// ```
/// use gufc::key::Tuple;
/// use gufc::nic::{Facts, Faults, Indirection, Intake, Nic, NicConfig, Rss, RssKey};
/// use gufc::time::Instant;
///
/// let rss = Rss::new(RssKey::MICROSOFT);
/// let mut nic = Nic::new(NicConfig::new(4), rss, Indirection::equal(7, 4), Faults::new([0, 0]));
/// let flow: Tuple = "tcp 66.9.149.187:2794 > 161.142.100.80:1766".parse()?;
/// let Intake::Queued(queue) = nic.receive(&flow, Facts::default(), "bytes", Instant::START) else { panic!() };
/// let received = nic.poll(queue).unwrap();
/// assert_eq!((received.packet, received.hash), ("bytes", 0x51cc_c178));
/// # Ok::<(), gufc::key::ParseTupleError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Nic<K, T> {
    config: NicConfig,
    rss: Rss,
    indirection: Indirection,
    filters: BTreeMap<K, Filter>,
    wide: Vec<(Pattern, Mark)>,
    pairs: BTreeMap<u32, Pair<K>>,
    commands: VecDeque<(Instant, Command<K>)>,
    completions: VecDeque<Completion<K>>,
    queues: Vec<VecDeque<Received<T>>>,
    /// Delayed packets, each with the number of the packet after which it goes on.
    held: VecDeque<(u64, Queue, Received<T>)>,
    /// Numbers of packets that are queued or held.
    outstanding: BTreeSet<u64>,
    number: u64,
    faults: Faults,
    past: VecDeque<ShortCookie>,
    /// Load of each bucket since it was last [taken](Self::take_load).
    load: Vec<u64>,
    stats: NicStats,
    next_aging: Instant,
}

impl<K: FlowKey, T: Clone> Nic<K, T> {
    /// A NIC without filters.
    pub fn new(config: NicConfig, rss: Rss, indirection: Indirection, faults: Faults) -> Self {
        let queues = (0..config.queues.max(1)).map(|_| VecDeque::new()).collect();
        let load = alloc::vec![0; indirection.len()];
        Self {
            config,
            rss,
            indirection,
            filters: BTreeMap::new(),
            wide: Vec::new(),
            pairs: BTreeMap::new(),
            commands: VecDeque::new(),
            completions: VecDeque::new(),
            queues,
            held: VecDeque::new(),
            outstanding: BTreeSet::new(),
            number: 0,
            faults,
            past: VecDeque::new(),
            load,
            stats: NicStats::default(),
            next_aging: Instant::START,
        }
    }

    /// What is hashed, and how.
    pub const fn rss(&self) -> &Rss {
        &self.rss
    }

    /// The indirection table.
    pub const fn indirection(&self) -> &Indirection {
        &self.indirection
    }

    /// The indirection table, to change it. Packets already queued stay where they are.
    pub const fn indirection_mut(&mut self) -> &mut Indirection {
        &mut self.indirection
    }

    /// The counters.
    pub const fn stats(&self) -> &NicStats {
        &self.stats
    }

    /// The faults, with what has struck.
    pub const fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Receive queues.
    pub fn queues(&self) -> u16 {
        self.queues.len() as u16
    }

    /// Filters there are.
    pub fn filters(&self) -> usize {
        self.filters.len()
    }

    /// Packets of each bucket since the last call: what [`Indirection::rebalance`] asks for.
    pub fn take_load(&mut self) -> Vec<u64> {
        let fresh = alloc::vec![0; self.indirection.len()];
        core::mem::replace(&mut self.load, fresh)
    }

    /// Sets the wide filters: the first that matches marks what no exact filter does. They name subtrees, or just queues.
    pub fn set_wide(&mut self, wide: Vec<(Pattern, Mark)>) {
        self.wide = wide;
    }

    /// The number of the last packet taken in.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// All packets up to this number have been delivered, or lost.
    pub fn passed(&self) -> u64 {
        match self.outstanding.first() {
            Some(first) => first - 1,
            None => self.number,
        }
    }

    /// A packet comes in from the wire.
    ///
    /// Cost: O(log filters), and O(wide filters).
    pub fn receive(&mut self, flow: &K, facts: Facts, packet: T, now: Instant) -> Intake<T> {
        self.advance(now);
        if self.faults.strikes(Fault::Drop) {
            return Intake::Lost;
        }
        let fields = flow.fields();
        let hash = if facts.fragment {
            self.rss.hash_fragment(&fields)
        } else {
            self.rss.hash(&fields)
        };
        let mut mark = None;
        if !facts.fragment {
            match self.meet(flow, facts, now) {
                Some(Action::Mark(found)) => mark = Some(found),
                Some(Action::Forward { pair, direction }) => {
                    return Intake::Forwarded(pair, direction, packet);
                }
                None => {
                    let wide = self.wide.iter().find(|(pattern, _)| pattern.contains(flow));
                    mark = wide.map(|(_, mark)| *mark);
                }
            }
        }
        let bucket = self.indirection.bucket(hash);
        if let Some(load) = self.load.get_mut(usize::from(bucket.0)) {
            *load += 1;
        }
        let queue = mark
            .and_then(|mark| mark.queue)
            .unwrap_or(self.indirection.queue_of(bucket));
        let queue = Queue(queue.0 % self.queues());
        let cookie = self.cookie_of(mark);
        let twice = self.faults.strikes(Fault::Duplicate);
        for _ in 0..=usize::from(twice) {
            self.number += 1;
            let received = Received {
                packet: packet.clone(),
                hash,
                cookie,
                number: self.number,
            };
            self.outstanding.insert(self.number);
            if self.faults.strikes(Fault::Delay) && self.held.len() < HELD_MAX {
                let until = self.number + 1 + self.faults.chance() % 16;
                self.held.push_back((until, queue, received));
            } else if !self.enqueue(queue, received) {
                return Intake::Overflow(queue);
            }
        }
        self.let_go(self.number);
        Intake::Queued(queue)
    }

    /// The exact filter's action on a packet; `None` where there is none, or software has to see the packet.
    fn meet(&mut self, flow: &K, facts: Facts, now: Instant) -> Option<Action> {
        let filter = self.filters.get_mut(flow)?;
        filter.last_hit = now;
        let action = filter.action;
        if let Action::Forward { pair, direction } = action {
            let pair = self.pairs.get_mut(&pair)?;
            if facts.control && !pair.suspended {
                pair.suspended = true;
                self.stats.suspended += 1;
            }
            if pair.suspended {
                return None;
            }
            if let Some(tally) = pair.tallies.get_mut(direction) {
                tally.packets += 1;
                tally.bytes += u64::from(facts.length);
                tally.last = now;
            }
            self.stats.forwarded += 1;
        }
        Some(action)
    }

    /// The cookie that a packet bears, as the faults will have it.
    fn cookie_of(&mut self, mark: Option<Mark>) -> ShortCookie {
        if self.faults.strikes(Fault::ForgedCookie) {
            return ShortCookie(self.faults.chance() as u32);
        }
        if self.faults.strikes(Fault::StaleCookie) && !self.past.is_empty() {
            let which = self.faults.chance() as usize % self.past.len();
            return self.past.get(which).copied().unwrap_or_default();
        }
        let Some(mark) = mark else {
            return ShortCookie::NONE;
        };
        self.stats.marked += 1;
        if self.past.len() == PAST {
            self.past.pop_front();
        }
        self.past.push_back(mark.cookie);
        mark.cookie
    }

    fn enqueue(&mut self, queue: Queue, received: Received<T>) -> bool {
        let reorders = self.faults.strikes(Fault::Reorder);
        let capacity = self.config.queue_capacity.max(1);
        match self.queues.get_mut(queue.index()) {
            Some(waiting) if waiting.len() < capacity => {
                waiting.push_back(received);
                let len = waiting.len();
                if reorders && len > 1 {
                    waiting.swap(len - 1, len - 2);
                }
                self.stats.queued += 1;
                true
            }
            _ => {
                self.outstanding.remove(&received.number);
                self.stats.overflows += 1;
                false
            }
        }
    }

    /// Puts held packets whose time has come into their queues.
    fn let_go(&mut self, number: u64) {
        for _ in 0..self.held.len() {
            let Some((until, queue, received)) = self.held.pop_front() else {
                return;
            };
            if until <= number {
                self.enqueue(queue, received);
            } else {
                self.held.push_back((until, queue, received));
            }
        }
    }

    /// Puts all held packets into their queues: the wire has fallen silent.
    pub fn flush(&mut self) {
        self.let_go(u64::MAX);
    }

    /// The next packet of a queue.
    pub fn poll(&mut self, queue: Queue) -> Option<Received<T>> {
        let received = self.queues.get_mut(queue.index())?.pop_front()?;
        self.outstanding.remove(&received.number);
        Some(received)
    }

    /// Asks for something; it takes effect after the configured delay.
    ///
    /// # Errors
    ///
    /// [`Busy`] when too many commands wait; counted.
    pub fn submit(&mut self, command: Command<K>, now: Instant) -> Result<(), Busy> {
        if self.commands.len() >= self.config.commands {
            self.stats.busy += 1;
            return Err(Busy);
        }
        self.commands.push_back((now + self.config.delay, command));
        Ok(())
    }

    /// Time passes: commands take effect, filters age. Called by [`receive`](Self::receive) too.
    pub fn advance(&mut self, now: Instant) {
        while let Some((at, command)) = self.commands.front().copied() {
            if at > now {
                break;
            }
            self.commands.pop_front();
            let completion = self.execute(command, now);
            self.complete(completion);
        }
        if now >= self.next_aging {
            // Half the age at most passes unnoticed.
            self.next_aging = now + self.config.age / 2;
            let aged: Vec<(K, ShortCookie)> = self
                .filters
                .iter()
                .filter(|(_, filter)| now - filter.last_hit >= self.config.age)
                .filter_map(|(flow, filter)| match filter.action {
                    Action::Mark(mark) => Some((*flow, mark.cookie)),
                    // The driver asks for a pair's counters and withdraws it by itself.
                    Action::Forward { .. } => None,
                })
                .collect();
            for (flow, cookie) in aged {
                self.filters.remove(&flow);
                self.stats.aged += 1;
                self.complete(Completion::Aged(flow, cookie));
            }
        }
    }

    fn complete(&mut self, completion: Completion<K>) {
        if !self.faults.strikes(Fault::LostCompletion) {
            self.completions.push_back(completion);
        }
    }

    fn execute(&mut self, command: Command<K>, now: Instant) -> Completion<K> {
        match command {
            Command::Mark { flow, mark } => match self.filters.get(&flow) {
                Some(Filter {
                    action: Action::Mark(there),
                    ..
                }) if there.cookie == mark.cookie => Completion::Marked(flow, mark.cookie),
                None if self.filters.len() < self.config.filters => {
                    let filter = Filter {
                        action: Action::Mark(mark),
                        last_hit: now,
                    };
                    self.filters.insert(flow, filter);
                    Completion::Marked(flow, mark.cookie)
                }
                _ => {
                    self.stats.no_room += 1;
                    Completion::NoRoom(flow, mark.cookie)
                }
            },
            Command::Unmark { flow, cookie } => {
                if let Some(Filter {
                    action: Action::Mark(there),
                    ..
                }) = self.filters.get(&flow)
                {
                    if there.cookie == cookie {
                        self.filters.remove(&flow);
                    }
                }
                Completion::Unmarked(flow, cookie)
            }
            Command::Forward { flows, pair } => self.forward(flows, pair, now),
            Command::Withdraw { pair } => {
                if let Some(known) = self.pairs.get_mut(&pair) {
                    known.installed = false;
                    let flows = known.flows;
                    for flow in flows {
                        let ours = self.filters.get(&flow).is_some_and(|filter| {
                            matches!(filter.action, Action::Forward { pair: p, .. } if p == pair)
                        });
                        if ours {
                            self.filters.remove(&flow);
                        }
                    }
                }
                Completion::Withdrawn(pair)
            }
        }
    }

    fn forward(&mut self, flows: [K; 2], pair: u32, now: Instant) -> Completion<K> {
        if let Some(known) = self.pairs.get(&pair) {
            return if known.installed {
                Completion::Forwarding(pair)
            } else {
                Completion::NotForwarding(pair)
            };
        }
        let taken = flows.iter().any(|flow| self.filters.contains_key(flow));
        let room = self.config.filters.saturating_sub(self.filters.len()) >= 2
            && self.pairs.len() < self.config.filters;
        if taken || !room || flows[0] == flows[1] {
            self.stats.no_room += 1;
            return Completion::NotForwarding(pair);
        }
        for (direction, flow) in flows.into_iter().enumerate() {
            let filter = Filter {
                action: Action::Forward { pair, direction },
                last_hit: now,
            };
            self.filters.insert(flow, filter);
        }
        let known = Pair {
            flows,
            installed: true,
            suspended: false,
            tallies: [Tally::default(); 2],
        };
        self.pairs.insert(pair, known);
        Completion::Forwarding(pair)
    }

    /// The next answer, if one has come.
    pub fn completion(&mut self) -> Option<Completion<K>> {
        self.completions.pop_front()
    }

    /// What a pair has forwarded so far, by direction; also of one that was withdrawn and not released.
    pub fn tallies(&self, pair: u32) -> Option<[Tally; 2]> {
        self.pairs.get(&pair).map(|pair| pair.tallies)
    }

    /// Whether a control packet has given a pair back to software.
    pub fn is_suspended(&self, pair: u32) -> bool {
        self.pairs.get(&pair).is_some_and(|pair| pair.suspended)
    }

    /// Gives the counters of a withdrawn pair back.
    pub fn release(&mut self, pair: u32) {
        if self.pairs.get(&pair).is_some_and(|pair| !pair.installed) {
            self.pairs.remove(&pair);
        }
    }
}
