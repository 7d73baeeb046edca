//! The driver: what software believes of the NIC, and how it comes to the truth when answers are late, twice or lost.
//!
//! Apart from the device because each may be replaced: the driver's calls are those that a real NIC's library has (asynchronous
//! insertion and removal, completions, counters that outlive their rule).
//!
//! Two kinds of help:
//!
//! * **Marks**: a flow's packets bear a short cookie. Nothing depends on it being right; a flow whose mark is stale is looked up.
//! * **Offloads**: both directions of a flow are forwarded past software. Then no stamp is compared and no rule is read, so an
//!   edit has to *withdraw* the flows that it touches: [`publish`](Driver::publish) walks the offloads, and
//!   [`is_visible`](Driver::is_visible) is false until the NIC has confirmed each withdrawal. What they forwarded is read from
//!   the NIC's counters and credited ([`collect`](Driver::collect)), until and with the last packet.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::cookies::{Cookies, Life, Refusal, ShortCookie, Width};
use super::device::{Command, Completion, Mark, Nic};
use super::indirection::Queue;
use crate::cookie::FlowCookie;
use crate::epoch::{Change, Generation};
use crate::hook::{Tally, Views};
use crate::key::FlowKey;
use crate::time::{Duration, Instant};

/// Why a flow gets no help from the NIC. It is processed as ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unhelped {
    /// It has a mark or is offloaded already.
    Already,
    /// No cookie is left, or the offloads are at their capacity.
    Full,
    /// The NIC's command queue is full.
    Busy,
}

/// Counters of a driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverStats {
    /// Marks asked for.
    pub marks: u64,
    /// Marks that the NIC had no room for.
    pub marks_refused: u64,
    /// Marks that ended.
    pub unmarked: u64,
    /// Offloads asked for.
    pub offloads: u64,
    /// Offloads that the NIC did not take.
    pub offloads_refused: u64,
    /// Offloads withdrawn because an edit touched them.
    pub withdrawn_by_edit: u64,
    /// Offloads withdrawn for any reason.
    pub withdrawn: u64,
    /// Commands sent again because no answer came in time.
    pub retries: u64,
}

/// An offloaded flow, by number; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffloadId(pub u32);

/// What [`Driver::collect`] tells of an offload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<'a, K> {
    /// Packets of one direction were forwarded: for [`FlowCache::credit`](crate::cache::FlowCache::credit).
    Forwarded(&'a K, Tally),
    /// No more of its packets will be: for [`FlowCache::take_back`](crate::cache::FlowCache::take_back).
    Ended(&'a [K; 2]),
}

#[derive(Clone, Debug)]
struct Offload<K> {
    flows: [K; 2],
    views: [Views<K>; 2],
    life: Life,
    since: Instant,
    /// Whether the NIC was asked more than once. Then an answer is not the end of it: the same request may be on its way again.
    repeated: bool,
    /// The edit that withdrew it.
    touched: Option<Generation>,
    credited: [Tally; 2],
}

/// What the NIC was asked to mark.
#[derive(Clone, Copy, Debug)]
struct Asked<K> {
    flow: K,
    queue: Option<Queue>,
    /// As with offloads.
    repeated: bool,
}

/// The state of one NIC's marks and offloads, as software knows it.
///
/// ```
/// use gufc::cookie::FlowCookie;
/// use gufc::key::Tuple;
/// use gufc::nic::{Driver, Facts, Faults, Indirection, Nic, NicConfig, Queue, Rss, RssKey, Width};
/// use gufc::time::{Duration, Instant};
///
/// let rss = Rss::new(RssKey::MICROSOFT);
/// let mut nic = Nic::new(NicConfig::new(1), rss, Indirection::equal(7, 1), Faults::new([0, 0]));
/// let mut driver = Driver::new(Width::Bits24, 1_000, 16, Duration::from_millis(5));
/// let flow: Tuple = "udp 10.0.0.1:53 > 10.0.0.2:99".parse()?;
/// let entry = FlowCookie { slot: 4, generation: 0 };
/// driver.mark(&mut nic, flow, None, entry, Instant::START).unwrap();
///
/// let later = Instant::from_millis(1);
/// driver.tick(&mut nic, later, 16);
/// nic.receive(&flow, Facts::default(), (), later);
/// let received = nic.poll(Queue(0)).unwrap();
/// assert_eq!(driver.resolve(received.cookie), Ok(entry));
/// # Ok::<(), gufc::key::ParseTupleError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Driver<K> {
    cookies: Cookies,
    marks: BTreeMap<K, ShortCookie>,
    /// By cookie that is out.
    asked: BTreeMap<ShortCookie, Asked<K>>,
    offloads: BTreeMap<u32, Offload<K>>,
    /// Flows offloaded, either direction.
    offloaded: BTreeMap<K, u32>,
    /// Offloads being withdrawn because of an edit.
    waiting: BTreeSet<(Generation, u32)>,
    offloads_max: usize,
    next: u32,
    patience: Duration,
    stats: DriverStats,
}

impl<K: FlowKey> Driver<K> {
    /// A driver with cookies of this width for at most `marks` flows, and at most `offloads` offloaded flows. A command that has
    /// no answer after `patience` is sent again.
    pub fn new(width: Width, marks: usize, offloads: usize, patience: Duration) -> Self {
        Self {
            cookies: Cookies::new(width, marks),
            marks: BTreeMap::new(),
            asked: BTreeMap::new(),
            offloads: BTreeMap::new(),
            offloaded: BTreeMap::new(),
            waiting: BTreeSet::new(),
            offloads_max: offloads,
            next: 0,
            patience,
            stats: DriverStats::default(),
        }
    }

    /// The counters.
    pub const fn stats(&self) -> &DriverStats {
        &self.stats
    }

    /// The cookies.
    pub const fn cookies(&self) -> &Cookies {
        &self.cookies
    }

    /// What a packet's cookie names.
    ///
    /// # Errors
    ///
    /// [`Refusal`], counted by [`Cookies::refused`]: the packet is to be looked up by its key.
    #[inline]
    pub fn resolve(&mut self, short: ShortCookie) -> Result<FlowCookie, Refusal> {
        self.cookies.resolve(short)
    }

    /// Whether the flow has a mark, in whatever state.
    pub fn is_marked(&self, flow: &K) -> bool {
        self.marks.contains_key(flow)
    }

    /// Asks that a flow's packets bear a cookie for `names`, and come to `queue` if that is given.
    ///
    /// # Errors
    ///
    /// [`Unhelped`]; nothing was asked.
    pub fn mark<T: Clone>(
        &mut self,
        nic: &mut Nic<K, T>,
        flow: K,
        queue: Option<Queue>,
        names: FlowCookie,
        now: Instant,
    ) -> Result<ShortCookie, Unhelped> {
        if self.marks.contains_key(&flow) || self.offloaded.contains_key(&flow) {
            return Err(Unhelped::Already);
        }
        let Ok(cookie) = self.cookies.begin(names, now) else {
            return Err(Unhelped::Full);
        };
        let mark = Mark { queue, cookie };
        if nic.submit(Command::Mark { flow, mark }, now).is_err() {
            self.cookies.refuse(cookie, now);
            return Err(Unhelped::Busy);
        }
        self.marks.insert(flow, cookie);
        let asked = Asked {
            flow,
            queue,
            repeated: false,
        };
        self.asked.insert(cookie, asked);
        self.stats.marks += 1;
        Ok(cookie)
    }

    /// Ends a flow's mark; false where it has none, or its removal is under way. From now on its cookie is refused.
    pub fn unmark<T: Clone>(&mut self, nic: &mut Nic<K, T>, flow: &K, now: Instant) -> bool {
        let Some(cookie) = self.marks.get(flow).copied() else {
            return false;
        };
        if self.cookies.life(cookie) == Life::Draining || !self.cookies.begin_removal(cookie, now) {
            return false;
        }
        let flow = *flow;
        // If the NIC is busy, the overdue removal is sent again.
        let _ = nic.submit(Command::Unmark { flow, cookie }, now);
        true
    }

    /// Asks that both directions of a flow be forwarded past software.
    ///
    /// `views` are what an edit's regions are tested against, for each direction. The caller has made sure that the flow's entry
    /// is fresh, that nothing of its packets but their number matters to any hook, and that no edit comes in between.
    ///
    /// # Errors
    ///
    /// [`Unhelped`]; nothing was asked.
    pub fn offload<T: Clone>(
        &mut self,
        nic: &mut Nic<K, T>,
        flows: [K; 2],
        views: [Views<K>; 2],
        now: Instant,
    ) -> Result<OffloadId, Unhelped> {
        if flows
            .iter()
            .any(|flow| self.marks.contains_key(flow) || self.offloaded.contains_key(flow))
        {
            return Err(Unhelped::Already);
        }
        if self.offloads.len() >= self.offloads_max || self.next == u32::MAX {
            return Err(Unhelped::Full);
        }
        let pair = self.next;
        if nic.submit(Command::Forward { flows, pair }, now).is_err() {
            return Err(Unhelped::Busy);
        }
        self.next += 1;
        self.stats.offloads += 1;
        for flow in flows {
            self.offloaded.insert(flow, pair);
        }
        let offload = Offload {
            flows,
            views,
            life: Life::Installing,
            since: now,
            repeated: false,
            touched: None,
            credited: [Tally::default(); 2],
        };
        self.offloads.insert(pair, offload);
        Ok(OffloadId(pair))
    }

    /// The offload that a flow's packets belong to, in whatever state.
    pub fn offload_of(&self, flow: &K) -> Option<OffloadId> {
        self.offloaded.get(flow).copied().map(OffloadId)
    }

    /// Takes a flow back into software; false where it is not offloaded, or is on its way back.
    pub fn withdraw<T: Clone>(&mut self, nic: &mut Nic<K, T>, id: OffloadId, now: Instant) -> bool {
        self.withdraw_for(nic, id.0, None, now)
    }

    fn withdraw_for<T: Clone>(
        &mut self,
        nic: &mut Nic<K, T>,
        pair: u32,
        touched: Option<Generation>,
        now: Instant,
    ) -> bool {
        let Some(offload) = self.offloads.get_mut(&pair) else {
            return false;
        };
        if let Some(generation) = touched {
            // The first edit that touched it is the one that waits longest; later ones wait with it.
            self.waiting
                .insert((*offload.touched.get_or_insert(generation), pair));
        }
        if !matches!(offload.life, Life::Installing | Life::Live) {
            return false;
        }
        (offload.life, offload.since) = (Life::Draining, now);
        self.stats.withdrawn += 1;
        self.stats.withdrawn_by_edit += u64::from(touched.is_some());
        let _ = nic.submit(Command::Withdraw { pair }, now);
        true
    }

    /// An edit has been published: withdraws the offloads that it touches, and says how many.
    ///
    /// Cost: O(offloads × regions); flows that are not offloaded cost nothing.
    pub fn publish<T: Clone>(
        &mut self,
        nic: &mut Nic<K, T>,
        change: &Change,
        generation: Generation,
        now: Instant,
    ) -> usize {
        if change.is_nothing() {
            return 0;
        }
        let touched: Vec<u32> = self
            .offloads
            .iter()
            .filter(|(_, offload)| offload.life != Life::Quarantined)
            .filter(|(_, offload)| {
                change.regions().iter().any(|(_, region)| {
                    let view = |views: &Views<K>| region.pattern.contains(views.of(region.view));
                    offload.views.iter().any(view)
                })
            })
            .map(|(pair, _)| *pair)
            .collect();
        let mut withdrawn = 0;
        for pair in touched {
            withdrawn += usize::from(self.withdraw_for(nic, pair, Some(generation), now));
        }
        withdrawn
    }

    /// Whether no packet is forwarded by rules older than `generation` any more: all offloads that edits up to it touched have
    /// been withdrawn. Cost: O(log offloads).
    pub fn is_visible(&self, generation: Generation) -> bool {
        self.waiting
            .first()
            .is_none_or(|(touched, _)| *touched > generation)
    }

    /// Reads the NIC's answers, sends commands again that had none (looking at `budget` cookies), ends quarantines.
    pub fn tick<T: Clone>(&mut self, nic: &mut Nic<K, T>, now: Instant, budget: usize) {
        nic.advance(now);
        while let Some(completion) = nic.completion() {
            self.take(completion, nic, now);
        }
        self.retry(nic, now, budget);
        self.cookies.drained(nic.passed());
    }

    fn take<T: Clone>(&mut self, completion: Completion<K>, nic: &mut Nic<K, T>, now: Instant) {
        match completion {
            Completion::Marked(_, cookie) => {
                // An answer that comes twice, or after a change of mind, is counted by the cookies and changes nothing.
                let _ = self.cookies.installed(cookie, now);
            }
            Completion::NoRoom(_, cookie) => {
                let is_new = self.cookies.life(cookie) == Life::Installing;
                if is_new && !self.unmark_surely(nic, cookie, now) {
                    self.cookies.refuse(cookie, now);
                    self.forget(cookie);
                }
                self.stats.marks_refused += u64::from(is_new);
            }
            Completion::Aged(_, cookie) if self.unmark_surely(nic, cookie, now) => {}
            Completion::Unmarked(_, cookie) | Completion::Aged(_, cookie) => {
                if self.cookies.removed(cookie, nic.number(), now) {
                    self.stats.unmarked += 1;
                    self.forget(cookie);
                }
            }
            Completion::Forwarding(pair) => {
                if let Some(offload) = self.offloads.get_mut(&pair) {
                    if offload.life == Life::Installing {
                        offload.life = Life::Live;
                    }
                }
            }
            Completion::NotForwarding(pair) => {
                let Some(offload) = self.offloads.get_mut(&pair) else {
                    return;
                };
                if offload.life != Life::Installing {
                    return;
                }
                self.stats.offloads_refused += 1;
                if offload.repeated {
                    (offload.life, offload.since) = (Life::Draining, now);
                    let _ = nic.submit(Command::Withdraw { pair }, now);
                } else {
                    self.end(pair);
                }
            }
            Completion::Withdrawn(pair) => self.end(pair),
        }
    }

    /// Removes a filter that the NIC says is not there, if it may yet come to be: the NIC was asked again before it answered, and
    /// does what it is asked in order. False where it may not.
    fn unmark_surely<T: Clone>(
        &mut self,
        nic: &mut Nic<K, T>,
        cookie: ShortCookie,
        now: Instant,
    ) -> bool {
        let Some(asked) = self.asked.get(&cookie).filter(|asked| asked.repeated) else {
            return false;
        };
        let flow = asked.flow;
        if !self.cookies.begin_removal(cookie, now) {
            return false;
        }
        let _ = nic.submit(Command::Unmark { flow, cookie }, now);
        true
    }

    fn forget(&mut self, cookie: ShortCookie) {
        if let Some(asked) = self.asked.remove(&cookie) {
            self.marks.remove(&asked.flow);
        }
    }

    /// The NIC forwards the pair no more: what remains is to credit its last packets.
    fn end(&mut self, pair: u32) {
        let Some(offload) = self.offloads.get_mut(&pair) else {
            return;
        };
        offload.life = Life::Quarantined;
        if let Some(generation) = offload.touched {
            self.waiting.remove(&(generation, pair));
        }
    }

    fn retry<T: Clone>(&mut self, nic: &mut Nic<K, T>, now: Instant, budget: usize) {
        let mut late = Vec::new();
        self.cookies
            .overdue(now, self.patience, budget, |cookie, life| {
                late.push((cookie, life))
            });
        for (cookie, life) in late {
            let Some(asked) = self.asked.get_mut(&cookie) else {
                continue;
            };
            self.stats.retries += 1;
            let Asked { flow, queue, .. } = *asked;
            let command = match life {
                Life::Installing => {
                    asked.repeated = true;
                    Command::Mark {
                        flow,
                        mark: Mark { queue, cookie },
                    }
                }
                _ => Command::Unmark { flow, cookie },
            };
            let _ = nic.submit(command, now);
        }
        let suspended: Vec<u32> = self
            .offloads
            .iter()
            .filter(|(pair, offload)| offload.life == Life::Live && nic.is_suspended(**pair))
            .map(|(pair, _)| *pair)
            .collect();
        for pair in suspended {
            self.withdraw_for(nic, pair, None, now);
        }
        for (&pair, offload) in &mut self.offloads {
            let waits = matches!(offload.life, Life::Installing | Life::Draining);
            if !waits || now - offload.since < self.patience {
                continue;
            }
            offload.since = now;
            self.stats.retries += 1;
            let flows = offload.flows;
            let command = match offload.life {
                Life::Installing => {
                    offload.repeated = true;
                    Command::Forward { flows, pair }
                }
                _ => Command::Withdraw { pair },
            };
            let _ = nic.submit(command, now);
        }
    }

    /// Reads the NIC's counters, and tells of each flow direction that forwarded packets since the last call, and of each offload
    /// that has ended, the flow's last packets first. It is forgotten after that, and may be asked for again.
    ///
    /// Cost: O(offloads).
    pub fn collect<T: Clone>(
        &mut self,
        nic: &mut Nic<K, T>,
        mut told: impl FnMut(OffloadId, Told<'_, K>),
    ) {
        let mut ended = Vec::new();
        for (&pair, offload) in &mut self.offloads {
            let tallies = nic.tallies(pair).unwrap_or(offload.credited);
            for ((flow, tally), credited) in
                offload.flows.iter().zip(tallies).zip(&mut offload.credited)
            {
                let fresh = Tally {
                    packets: tally.packets - credited.packets,
                    bytes: tally.bytes - credited.bytes,
                    last: tally.last,
                };
                if fresh.packets > 0 {
                    told(OffloadId(pair), Told::Forwarded(flow, fresh));
                }
                *credited = tally;
            }
            if offload.life == Life::Quarantined {
                ended.push((pair, offload.flows));
            }
        }
        for (pair, flows) in ended {
            told(OffloadId(pair), Told::Ended(&flows));
            nic.release(pair);
            self.offloads.remove(&pair);
            for flow in flows {
                self.offloaded.remove(&flow);
            }
        }
    }

    /// Whether the parts agree.
    ///
    /// # Errors
    ///
    /// What does not.
    pub fn check(&self) -> Result<(), &'static str> {
        self.cookies.check()?;
        if self.marks.len() != self.asked.len() {
            return Err("marks and cookies are miscounted");
        }
        for (flow, cookie) in &self.marks {
            if self
                .asked
                .get(cookie)
                .is_none_or(|asked| asked.flow != *flow)
            {
                return Err("a mark's cookie belongs to another flow");
            }
        }
        for (generation, pair) in &self.waiting {
            let waits = self
                .offloads
                .get(pair)
                .is_some_and(|o| o.life == Life::Draining && o.touched == Some(*generation));
            if !waits {
                return Err("an edit waits for an offload that is not being withdrawn");
            }
        }
        Ok(())
    }
}
