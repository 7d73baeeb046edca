//! Which rules of a cell admit a flow, which meet a region, and where one is.
//!
//! Apart from the edits because all of it only reads.

use super::cell::{BUCKET, Cell, LIST, ONE};
use super::nibble::{intersect, nibbles, nibbles_of};
use super::{Buckets, CHUNK, Holder, key_below, value_in};
use crate::interest::rule::{Dimension, Flow, Rule};
use crate::interest::visit::Visit;

impl Buckets {
    /// Gives priority and slot of every rule of a cell that admits the flow to `visit`, but for those that it does not want.
    #[inline]
    pub(in crate::interest) fn admitting(&self, cell: &Cell, flow: &Flow, visit: &mut impl Visit) {
        match cell.kind() {
            ONE => {
                if cell.content.admits(flow) {
                    visit.visit(cell.content.priority, cell.content.slot());
                }
            }
            LIST => {
                for rule in self.rules.block(cell.base(), cell.count()) {
                    if !visit.wants(rule.priority) {
                        break;
                    }
                    if rule.admits(flow) {
                        visit.visit(rule.priority, rule.slot());
                    }
                }
            }
            _ => self.admitting_bucket(cell.base(), flow, visit),
        }
    }

    fn admitting_bucket(&self, number: u32, flow: &Flow, visit: &mut impl Visit) {
        let Some(Some(bucket)) = self.buckets.get(number as usize) else {
            return;
        };
        for (at, dimension) in Dimension::ALL.into_iter().enumerate().skip(bucket.level) {
            if bucket.split.get(at).is_some_and(|&rules| rules > 0) {
                let key = key_below(number, value_in(at, flow.value(dimension)));
                if let Some(cell) = self.below.get(key).filter(|cell| visit.wants(cell.first())) {
                    self.admitting(&cell, flow, visit);
                }
            }
        }
        let nibbles = nibbles_of(flow);
        let summaries = bucket.summaries.iter().zip(&bucket.firsts);
        for ((summary, first), chunks) in summaries.zip(bucket.chunks.chunks(64)) {
            if !visit.wants(*first) {
                continue;
            }
            let mut may = if chunks.len() < 3 {
                u64::MAX >> (64 - chunks.len())
            } else {
                intersect(summary, &nibbles)
            };
            while may != 0 {
                let chunk = chunks.get(may.trailing_zeros() as usize);
                may &= may - 1;
                let Some(chunk) = chunk else {
                    break;
                };
                if !visit.wants(chunk.first) {
                    continue;
                }
                let block = self.rules.block(chunk.base, chunk.count);
                let candidates = intersect(&chunk.groups, &nibbles);
                let mut sure = candidates & chunk.exact;
                while sure != 0 {
                    if let Some(rule) = block.get(sure.trailing_zeros() as usize) {
                        visit.visit(rule.priority, rule.slot());
                    }
                    sure &= sure - 1;
                }
                let mut unsure = candidates & !chunk.exact;
                while unsure != 0 {
                    if let Some(rule) = block.get(unsure.trailing_zeros() as usize) {
                        if rule.admits(flow) {
                            visit.visit(rule.priority, rule.slot());
                        }
                    }
                    unsure &= unsure - 1;
                }
            }
        }
    }

    /// Gives every rule of a cell that some flow meets together with `region` to `visit`.
    pub(in crate::interest) fn meeting(
        &self,
        cell: &Cell,
        region: &Rule,
        visit: &mut impl FnMut(&Rule),
    ) {
        match cell.kind() {
            ONE => {
                if cell.content.meets(region) {
                    visit(&cell.content);
                }
            }
            LIST => {
                let list = self.rules.block(cell.base(), cell.count());
                list.iter()
                    .filter(|rule| rule.meets(region))
                    .for_each(visit);
            }
            _ => self.meeting_bucket(cell.base(), region, visit),
        }
    }

    fn meeting_bucket(&self, number: u32, region: &Rule, visit: &mut impl FnMut(&Rule)) {
        let Some(Some(bucket)) = self.buckets.get(number as usize) else {
            return;
        };
        for (at, dimension) in Dimension::ALL.into_iter().enumerate().skip(bucket.level) {
            let (first, last) = region.span(dimension);
            for &value in bucket
                .values
                .range(value_in(at, first)..=value_in(at, last))
            {
                if let Some(cell) = self.below.get(key_below(number, value)) {
                    self.meeting(&cell, region, visit);
                }
            }
        }
        for chunk in &bucket.chunks {
            let mut candidates = u64::MAX >> (64 - chunk.count.clamp(1, 64));
            for (group, nibbles) in chunk.groups.iter().zip(nibbles(region)) {
                let words = group.iter().enumerate();
                candidates &= words
                    .filter(|(v, _)| nibbles >> v & 1 == 1)
                    .fold(0, |any, (_, word)| any | word);
            }
            let block = self.rules.block(chunk.base, chunk.count);
            while candidates != 0 {
                if let Some(rule) = block.get(candidates.trailing_zeros() as usize) {
                    if rule.meets(region) {
                        visit(rule);
                    }
                }
                candidates &= candidates - 1;
            }
        }
    }

    /// The rule of a slot in a cell. Cost: as [`take`](Self::take).
    pub(in crate::interest) fn find(&self, cell: &Cell, slot: u32) -> Option<Rule> {
        match cell.kind() {
            ONE => Some(cell.content).filter(|rule| rule.slot() == slot),
            LIST => {
                let list = self.rules.block(cell.base(), cell.count());
                list.iter().find(|rule| rule.slot() == slot).copied()
            }
            _ => {
                let place = self.places.get(u64::from(slot) + 1)?;
                match place.holder {
                    Holder::Chunks(number) => {
                        let bucket = self.buckets.get(number as usize)?.as_ref()?;
                        let chunk = bucket.chunks.get(place.at as usize / CHUNK)?;
                        Some(self.rules.at(chunk.base + place.at % CHUNK as u32))
                    }
                    Holder::Below(key) => {
                        let cell = self.below.get(key)?;
                        (cell.kind() != BUCKET).then(|| self.find(&cell, slot))?
                    }
                }
            }
        }
    }
}
