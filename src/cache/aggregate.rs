//! One entry for many flows: where no hook has state by flow, what was said of one packet holds for all the flows around it that meet the
//! same rules, and a scan costs a handful of entries.
//!
//! Apart from sessions because an aggregate has no directions, no reply and no cookie: it is a [`Span`] of flows and what every
//! packet of these meets. Which flows it stands for follows from the rules and from nothing that packets say. They stand apart
//! from one another in each of [a few orders](crate::key::SpanOrder), so that whatever is sent, looking for one is one search in each:
//!
//! ```text
//!  packet ──► index of keys ──► no session ──► in each order the last that begins before the flow: does it end behind it?
//!                                                yes: no edit since touches its span? run it     no: the hooks judge
//!                                                                                                  then: how far does that reach?
//! ```

use alloc::vec::Vec;
use core::fmt;

use super::FlowCache;
use crate::epoch::{Generation, Since, Ticket};
use crate::hook::{Context, HookSet};
use crate::key::{Fields, FlowKey, Span, SpanOrder};
use crate::packet::{Origin, Packet};
use crate::pipeline::{Pipeline, Walk};
use crate::time::Instant;
use crate::trie::Indexed;
use crate::verdict::{Path, Verdict};

/// A flow's place in one of the orders of all flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    class: u64,
    fields: [u128; 4],
}

impl Place {
    fn of(origin: Origin, order: SpanOrder, flow: &Fields) -> Self {
        Self {
            class: class(origin, flow),
            fields: order.place(flow),
        }
    }

    /// Where a span begins and ends.
    fn ends(origin: Origin, span: &Span) -> [Self; 2] {
        let class = class(origin, &span.first());
        span.ends().map(|fields| Self { class, fields })
    }
}

/// What is the same for all flows of a span: the higher bits of their places.
fn class(origin: Origin, flow: &Fields) -> u64 {
    let bits = |bit: bool, at: u32| u64::from(bit) << at;
    u64::from(flow.zone.id()) << 16
        | u64::from(flow.protocol.0) << 8
        | (flow.family as u64) << 4
        | bits(flow.locality.source, 2)
        | bits(flow.locality.destination, 1)
        | origin as u64
}

/// Flows that an aggregate stands for.
#[derive(Clone, Copy, Debug)]
struct Part {
    span: Span,
    /// The destiny was right for the whole span at this generation.
    stamp: Generation,
}

#[derive(Debug)]
struct Aggregate<D> {
    /// One at most in each order. What an edit touches goes; the others stay.
    parts: [Option<Part>; SpanOrder::ALL.len()],
    origin: Origin,
    destiny: D,
    packets: u64,
    bytes: u64,
    last_seen: Instant,
    /// Whether a packet came since the hand passed.
    visited: bool,
}

/// All aggregates. The parts of one order are apart from one another.
#[derive(Debug)]
pub(super) struct Aggregates<D> {
    /// For each order where each part begins, sorted, and the slot that it is of.
    orders: [Vec<(Place, u32)>; PARTS],
    slots: Vec<Option<Aggregate<D>>>,
    free: Vec<u32>,
    most: usize,
    /// Where the hand stands that looks for one that nobody needs.
    hand: u32,
}

/// Parts that an aggregate has at most.
const PARTS: usize = SpanOrder::ALL.len();

impl<D> Aggregates<D> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            orders: [(); PARTS].map(|()| Vec::with_capacity(most)),
            slots: Vec::with_capacity(most),
            free: Vec::with_capacity(most),
            most,
            hand: 0,
        }
    }

    pub(super) const fn bytes_for(most: usize) -> usize {
        most * (PARTS * size_of::<(Place, u32)>()
            + size_of::<Option<Aggregate<D>>>()
            + size_of::<u32>())
    }

    pub(super) fn bytes(&self) -> usize {
        let places: usize = self.orders.iter().map(Vec::capacity).sum();
        places * size_of::<(Place, u32)>()
            + self.slots.capacity() * size_of::<Option<Aggregate<D>>>()
            + self.free.capacity() * size_of::<u32>()
    }

    pub(super) const fn are_wanted(&self) -> bool {
        self.most > 0
    }

    /// Aggregates there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Slots in use or used before.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    fn at(&self, slot: u32) -> Option<&Aggregate<D>> {
        self.slots.get(slot as usize)?.as_ref()
    }

    fn at_mut(&mut self, slot: u32) -> Option<&mut Aggregate<D>> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// The one that a flow is in, and in which order. Cost: O(log n) comparisons for each order.
    fn find(&self, origin: Origin, flow: &Fields) -> Option<(u32, SpanOrder)> {
        SpanOrder::ALL.into_iter().find_map(|order| {
            let slot = self.last_from(order, &Place::of(origin, order, flow))?;
            let one = self.at(slot)?;
            let part = one.parts[order as usize].as_ref()?;
            (one.origin == origin && part.span.holds(flow)).then_some((slot, order))
        })
    }

    /// The last one that begins at a place or before it.
    fn last_from(&self, order: SpanOrder, place: &Place) -> Option<u32> {
        let places = &self.orders[order as usize];
        let behind = places.partition_point(|(start, _)| start <= place);
        Some(places.get(behind.checked_sub(1)?)?.1)
    }

    /// Takes a part out; gives the aggregate when it was the last. Cost: O(n) places moved.
    fn remove(&mut self, slot: u32, order: SpanOrder) -> Option<Aggregate<D>> {
        let one = self.at_mut(slot)?;
        let part = one.parts[order as usize].take()?;
        let [place, _] = Place::ends(one.origin, &part.span);
        let last = one.parts.iter().all(Option::is_none);
        let places = &mut self.orders[order as usize];
        if let Ok(at) = places.binary_search_by(|(start, _)| start.cmp(&place)) {
            places.remove(at);
        }
        if !last {
            return None;
        }
        self.free.push(slot);
        self.slots.get_mut(slot as usize)?.take()
    }

    /// One that has a flow of the span in a part of its order.
    fn overlapping(&self, origin: Origin, span: &Span) -> Option<u32> {
        let [first, last] = Place::ends(origin, span);
        let slot = self.last_from(span.order(), &last)?;
        let one = self.at(slot)?;
        let part = one.parts[span.order() as usize].as_ref()?;
        let [start, end] = Place::ends(one.origin, &part.span);
        (start <= last && first <= end).then_some(slot)
    }

    /// Puts one in its places, where nothing overlaps it; gives it back where there is no room.
    fn insert(&mut self, one: Aggregate<D>) -> Option<Aggregate<D>> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < self.most => {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            }
            None => return Some(one),
        };
        for part in one.parts.iter().flatten() {
            let [place, _] = Place::ends(one.origin, &part.span);
            let places = &mut self.orders[part.span.order() as usize];
            let at = places.partition_point(|(start, _)| *start < place);
            places.insert(at, (place, slot));
        }
        if let Some(home) = self.slots.get_mut(slot as usize) {
            *home = Some(one);
        }
        None
    }

    fn is_full(&self) -> bool {
        self.len() >= self.most
    }

    /// One among `scan` that no packet came to since the hand passed last.
    fn victim(&mut self, scan: usize) -> Option<u32> {
        for _ in 0..scan {
            let slot = self.hand;
            self.hand = if (slot as usize) + 1 < self.slots.len() {
                slot + 1
            } else {
                0
            };
            if let Some(one) = self.at_mut(slot) {
                if !core::mem::take(&mut one.visited) {
                    return Some(slot);
                }
            }
        }
        None
    }

    /// Whether the parts in the order are those in the slots, apart from one another.
    pub(super) fn check(&self, now: Generation) -> Result<(), &'static str> {
        let all = || self.slots.iter().flatten();
        let parts = all().flat_map(|one| &one.parts).flatten().count();
        if self.len() > self.most
            || all().count() != self.len()
            || parts != self.orders.iter().map(Vec::len).sum::<usize>()
        {
            return Err("aggregates are miscounted");
        }
        if all().any(|one| one.parts.iter().all(Option::is_none)) {
            return Err("an aggregate stands for nobody");
        }
        for order in SpanOrder::ALL {
            let mut behind = None;
            for (place, slot) in &self.orders[order as usize] {
                let part = self.at(*slot).and_then(|one| {
                    let part = one.parts[order as usize].as_ref()?;
                    Some((one.origin, part))
                });
                let Some((origin, part)) = part else {
                    return Err("an aggregate stands in the order and nowhere else");
                };
                let [first, last] = Place::ends(origin, &part.span);
                if first != *place || last < first || behind.is_some_and(|behind| first <= behind) {
                    return Err("aggregates overlap");
                }
                if part.stamp > now {
                    return Err("an aggregate's stamp is from the future");
                }
                behind = Some(last);
            }
        }
        Ok(())
    }
}

/// One aggregate, as listings show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Aggregated {
    /// The flows that it stands for.
    pub span: Span,
    /// How their packets come.
    pub origin: Origin,
    /// The generation at which it was last known good.
    pub stamp: Generation,
    /// When its last packet came.
    pub last_seen: Instant,
    /// Packets that it has had.
    pub packets: u64,
    /// Bytes, by the network headers.
    pub bytes: u64,
}

impl fmt::Display for Aggregated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} [aggregate, generation {}, {} packets]",
            self.span, self.stamp, self.packets
        )
    }
}

impl<D> Aggregate<D> {
    fn listed(&self, part: &Part) -> Aggregated {
        Aggregated {
            span: part.span,
            origin: self.origin,
            stamp: part.stamp,
            last_seen: self.last_seen,
            packets: self.packets,
            bytes: self.bytes,
        }
    }
}

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// The spans of all aggregates. One that reaches further in several orders is there once for each, with its counters. Changes
    /// nothing, not even recency. Cost: O(1) for each.
    pub fn aggregates(&self) -> impl Iterator<Item = Aggregated> {
        let all = self.aggregates.slots.iter().flatten();
        all.flat_map(|one| {
            let parts = one.parts.iter().flatten();
            parts.map(|part| one.listed(part))
        })
    }

    /// The aggregate that stands for a flow, and what its packets meet.
    pub(super) fn aggregate_of(
        &self,
        origin: Origin,
        flow: &Fields,
    ) -> Option<(Aggregated, &H::Destiny)> {
        let (slot, order) = self.aggregates.find(origin, flow)?;
        let one = self.aggregates.at(slot)?;
        let part = one.parts[order as usize].as_ref()?;
        Some((one.listed(part), &one.destiny))
    }

    /// A packet whose flow has no session: runs the aggregate that stands for it, if there is one that no edit touches. `None`, and
    /// nothing done to the packet, where hooks must judge it.
    ///
    /// Cost: one search in each order; after edits one box test for each region since, at most as many as the log holds.
    pub(super) fn run_aggregate<P: Packet<Key = K>>(
        &mut self,
        packet: &mut P,
        context: &mut Context,
    ) -> Option<(Verdict, Path)>
    where
        H: Walk<P>,
    {
        let arrived = packet.key();
        // What an edit touches in one order may be right in another, where less is named.
        let (slot, order) = loop {
            let found = self.aggregates.find(packet.origin(), &arrived.fields())?;
            if self.is_fresh(found) {
                break found;
            }
            self.end_part(found);
        };
        let one = self.aggregates.at_mut(slot)?;
        if let Some(part) = &mut one.parts[order as usize] {
            part.stamp = self.log.current();
        }
        if !self.hooks.fits(&one.destiny, packet, context) {
            return None;
        }
        one.packets += 1;
        one.bytes += u64::from(packet.length());
        one.last_seen = context.now;
        one.visited = true;
        let verdict = if self.hooks.samples() {
            let scratch = &mut self.scratch;
            let (verdict, differs) =
                self.hooks
                    .run_beside(&one.destiny, HookSet::NONE, packet, context, scratch);
            self.looked(&arrived, differs);
            verdict
        } else {
            self.hooks.run(&one.destiny, packet, context)
        };
        Some((verdict, Path::Aggregated))
    }

    /// Whether no edit since its stamp touches a part.
    fn is_fresh(&mut self, (slot, order): (u32, SpanOrder)) -> bool {
        let one = self.aggregates.at(slot);
        let Some(part) = one.and_then(|one| one.parts[order as usize].as_ref()) else {
            return false;
        };
        match self.log.since(part.stamp) {
            Since::Fresh => true,
            Since::Lost => {
                self.stats.log_lost += 1;
                false
            }
            Since::Regions(mut regions) => {
                let tests = &mut self.stats.region_tests;
                !regions.any(|(_, region)| {
                    *tests += 1;
                    part.span.overlaps(&region.pattern)
                })
            }
        }
    }

    /// Tries to keep what the hooks said of a new flow as an aggregate; gives it back where it holds for this flow only, where the
    /// owner wants none, and where there is no room.
    ///
    /// Cost: in each order what [`Hook::reach`](crate::hook::Hook::reach) costs each hook, at the pace of
    /// [`Config::reaches`](super::Config::reaches); `evict_scan` aggregates looked at; O(aggregates) places moved.
    pub(super) fn aggregate(
        &mut self,
        ticket: Ticket,
        origin: Origin,
        flow: &Fields,
        (destiny, complete, length): (H::Destiny, bool, u32),
        now: Instant,
    ) -> Result<(), (Ticket, H::Destiny)> {
        if !self.reaches.take(now) {
            return Err((ticket, destiny));
        }
        let mut spans: [Option<Span>; PARTS] = SpanOrder::ALL.map(|order| {
            let mut span = Span::class_of(flow, order);
            if !self.hooks.reaches(&destiny, complete, flow, &mut span) {
                return None;
            }
            let span = span.in_order(flow);
            (span.holds(flow) && !span.is_one()).then_some(span)
        });
        for at in 0..PARTS {
            let Some(span) = spans[at] else { continue };
            let mut others = (0..PARTS).filter(|other| *other != at);
            let covered = others.any(|other| {
                // Of two that are the same, the first stays.
                spans[other]
                    .is_some_and(|one| one.covers(&span) && (other < at || !span.covers(&one)))
            });
            if covered {
                spans[at] = None;
            }
        }
        if spans.iter().all(Option::is_none) {
            return Err((ticket, destiny));
        }
        // Those that this one takes the place of were right for less, or are older than some edit.
        for span in spans.iter().flatten() {
            while let Some(slot) = self.aggregates.overlapping(origin, span) {
                self.end_part((slot, span.order()));
            }
        }
        if self.aggregates.is_full() {
            match self.aggregates.victim(self.config.evict_scan) {
                Some(slot) => self.end_aggregate(slot),
                None => return Err((ticket, destiny)),
            }
        }
        let stamp = ticket.redeem();
        let one = Aggregate {
            parts: spans.map(|span| Some(Part { span: span?, stamp })),
            origin,
            destiny,
            packets: 1,
            bytes: u64::from(length),
            last_seen: now,
            visited: false,
        };
        match self.aggregates.insert(one) {
            None => self.stats.aggregates_begun += 1,
            // There was room.
            Some(one) => self.hooks.release(one.destiny),
        }
        Ok(())
    }

    /// Ends one part of an aggregate, and with the last the aggregate.
    fn end_part(&mut self, (slot, order): (u32, SpanOrder)) {
        if let Some(one) = self.aggregates.remove(slot, order) {
            self.hooks.release(one.destiny);
            self.stats.aggregates_ended += 1;
        }
    }

    pub(super) fn end_aggregate(&mut self, slot: u32) {
        for order in SpanOrder::ALL {
            self.end_part((slot, order));
        }
    }

    /// Ends an aggregate that no packet came to for as long as an established session lasts; gives whether it did.
    pub(super) fn end_idle_aggregate(&mut self, slot: u32, now: Instant) -> bool {
        let [.., limit] = self.idle;
        let idle = self
            .aggregates
            .at(slot)
            .is_some_and(|one| now.nanos().saturating_sub(one.last_seen.nanos()) >= limit);
        if idle {
            self.end_aggregate(slot);
        }
        idle
    }
}
