//! Whether what the buckets say of themselves is so.
//!
//! Apart from what tests call on, because no lookup or edit does.

use super::cell::{BUCKET, Cell, LIST, LIST_MAX, ONE};
use super::nibble::{Groups, is_exact, mark, nibbles};
use super::{Buckets, CHUNK, Holder, earliest, key_below};
use crate::interest::rule::Rule;
use crate::interest::table::Slot;

impl Buckets {
    /// Tests one cell and all below it: gives the number of its rules, each given to `seen`.
    pub(in crate::interest) fn check(
        &self,
        cell: &Cell,
        seen: &mut dyn FnMut(&Rule),
    ) -> Result<usize, &'static str> {
        match cell.kind() {
            ONE => {
                seen(&cell.content);
                Ok(1)
            }
            LIST => {
                let list = self.rules.block(cell.base(), cell.count());
                if list.len() != cell.count() || !(2..=LIST_MAX).contains(&list.len()) {
                    return Err("bucket: length of a list");
                }
                let in_order = list
                    .windows(2)
                    .all(|two| two[0].priority <= two[1].priority);
                if !in_order || list.first().map(|rule| rule.priority) != Some(cell.first()) {
                    return Err("bucket: order of a list");
                }
                list.iter().for_each(seen);
                Ok(list.len())
            }
            _ => self.check_bucket(cell, seen),
        }
    }

    fn check_bucket(
        &self,
        cell: &Cell,
        seen: &mut dyn FnMut(&Rule),
    ) -> Result<usize, &'static str> {
        let number = cell.base();
        let Some(Some(bucket)) = self.buckets.get(number as usize) else {
            return Err("bucket: none of that number");
        };
        if bucket.key != cell.key() {
            return Err("bucket: another cell's");
        }
        let mut total = 0;
        let mut split = [0; 3];
        for &value in &bucket.values {
            let key = key_below(number, value);
            let below = self
                .below
                .get(key)
                .ok_or("bucket: a value without a cell")?;
            let mut fault = false;
            let count = self.check(&below, &mut |rule| {
                fault |= bucket.way(rule).map(|(v, _)| v) != Some(value);
                fault |= rule.priority < below.first() || rule.priority < cell.first();
                let place = self.places.get(u64::from(rule.slot()) + 1);
                fault |= match place.map(|p| p.holder) {
                    Some(Holder::Below(k)) => below.kind() != BUCKET && k != key,
                    Some(Holder::Chunks(_)) => below.kind() != BUCKET,
                    None => true,
                };
                seen(rule);
            })?;
            if fault {
                return Err("bucket: a rule in the wrong cell");
            }
            total += count;
            if let Some(split) = split.get_mut((value >> 22) as usize) {
                *split += count;
            }
        }
        if split != bucket.split {
            return Err("bucket: count of rules below");
        }
        if bucket.summaries.len() != bucket.chunks.len().div_ceil(64) {
            return Err("bucket: count of summaries");
        }
        let mut summary: Groups = [[0; 16]; 10];
        for (index, chunk) in bucket.chunks.iter().enumerate() {
            let mut groups: Groups = [[0; 16]; 10];
            let block = self.rules.block(chunk.base, chunk.count);
            let full = index + 1 < bucket.chunks.len();
            if block.len() != chunk.count || block.is_empty() || full && block.len() != CHUNK {
                return Err("bucket: length of a chunk");
            }
            for (at, rule) in block.iter().enumerate() {
                if rule.priority < cell.first() {
                    return Err("bucket: a rule earlier than its first");
                }
                if bucket.way(rule).is_some() {
                    return Err("bucket: a rule in the chunks that belongs below");
                }
                mark(&mut groups, &nibbles(rule), at);
                mark(&mut summary, &nibbles(rule), index % 64);
                let place = self.places.get(u64::from(rule.slot()) + 1);
                let here = (Holder::Chunks(number), (index * CHUNK + at) as u32);
                if place.map(|p| (p.holder, p.at)) != Some(here) {
                    return Err("bucket: whereabouts of a rule");
                }
                seen(rule);
            }
            let exact = (0..).zip(block).fold(0, |exact, (at, rule)| {
                exact | u64::from(is_exact(rule)) << at
            });
            if chunk.first != earliest(block) || chunk.exact != exact {
                return Err("bucket: summary of a chunk");
            }
            if *chunk.groups != groups {
                return Err("bucket: bits of a chunk");
            }
            total += block.len();
            if index % 64 == 63 || !full {
                if bucket.summaries.get(index / 64).map(|s| **s) != Some(summary) {
                    return Err("bucket: bits of a summary");
                }
                summary = [[0; 16]; 10];
            }
        }
        for (at, first) in bucket.firsts.iter().enumerate() {
            if *first != bucket.first_of(at) {
                return Err("bucket: earliest of a summary");
            }
        }
        if bucket.firsts.len() != bucket.summaries.len() {
            return Err("bucket: count of summaries");
        }
        if total != bucket.len || total == 0 {
            return Err("bucket: count of rules");
        }
        Ok(total)
    }

    /// Tests the tables, once all cells are tested.
    pub(in crate::interest) fn check_tables(&self) -> Result<(), &'static str> {
        self.below.check()?;
        self.places.check()?;
        let open = self.buckets.iter().filter(|b| b.is_some()).count();
        if open != self.len() {
            return Err("bucket: count of buckets");
        }
        let values: usize = self.buckets.iter().flatten().map(|b| b.values.len()).sum();
        if values != self.below.len() {
            return Err("bucket: cells below that no bucket knows");
        }
        Ok(())
    }
}
