//! From what a filter holds to what a table says, in as few edits as there can be.
//!
//! Sets are compared element by element. Chains are compared rule by rule: the longest sequence of rules that is in both
//! stays, with ids and counters; what is not in it goes or comes.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Filter;
use super::edit::{Edit, Transaction};
use super::name::Name;
use super::rule::Rule;
use super::ruleset::{Place, RuleId};
use super::table::Table;

/// Pairs of equal rules beyond which the k-th of equal rules is only compared with the k-th.
const PAIRS_MAX: usize = 1 << 20;

impl Filter {
    /// The smallest transaction that turns the filter into what a table says. Rules that stay keep ids and counters.
    ///
    /// Committed before anything else is, it leaves [`Filter::table`] equal to `table`. Whether the table makes sense (sets
    /// that exist, chains without circles) is for the commit to say.
    ///
    /// ```
    /// use gufc::hooks::filter::{Filter, Policy, Table};
    ///
    /// let mut filter = Filter::new("filter", 100, 1, Policy::Accept);
    /// let old: Table = "chain main {\n policy drop\n tcp dport 22 accept\n tcp dport 80 accept\n}".parse()?;
    /// let _ = filter.commit(filter.diff(&old))?;
    ///
    /// let new: Table = "chain main {\n policy drop\n udp dport 53 accept\n tcp dport 80 accept\n}".parse()?;
    /// let edits = filter.diff(&new);
    /// assert_eq!(edits.to_string(), "delete rule handle 0\ninsert rule handle 1 udp dport 53 accept\n");
    /// let _ = filter.commit(edits)?;
    /// assert_eq!(filter.table(), new);
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// Cost: O(n log n) for n rules and elements, and O(log n) for each pair of equal rules between the first and the last
    /// difference of a chain. With more than 2²⁰ such pairs the edit may be longer than the shortest.
    pub fn diff(&self, table: &Table) -> Transaction {
        let mut edits = self.begin();
        let none = Vec::new();
        let mut coming: Vec<Edit> = Vec::new();
        for (name, slot) in self.rules.chains() {
            let new = table.chains.get(&name);
            let old = self.rules.iter(slot).map(|held| (held.id, &held.rule));
            let old: Vec<(RuleId, &Rule)> = old.collect();
            let (going, mut inserted) = compare(name, &old, new.unwrap_or(&none));
            going.into_iter().for_each(|id| edits.remove(id));
            coming.append(&mut inserted);
        }
        for (name, _) in self.rules.chains() {
            if name != Name::MAIN && !table.chains.contains_key(&name) {
                edits.delete_chain(name);
            }
        }
        self.diff_sets(table, &mut edits);
        for (name, rules) in &table.chains {
            if self.rules.chain_named(*name).is_err() {
                edits.create_chain(*name);
                let insert =
                    |rule: &Rule| Edit::Insert(Place::LastOf(*name), Box::new(rule.clone()));
                coming.extend(rules.iter().map(insert));
            }
        }
        coming.into_iter().for_each(|edit| edits.push(edit));
        if table.policy != self.policy {
            edits.set_policy(table.policy);
        }
        edits
    }

    fn diff_sets(&self, table: &Table, edits: &mut Transaction) {
        let same_kind =
            |name: &Name, kind| table.sets.get(name).is_some_and(|new| new.kind == kind);
        for set in self.rules.sets() {
            if !same_kind(&set.name, set.kind) {
                edits.delete_set(set.name);
            }
        }
        // Smaller sets first: the room that they leave may be what others grow into.
        let mut growing = Vec::new();
        for set in self.rules.sets() {
            let Some(new) = table.sets.get(&set.name).filter(|new| new.kind == set.kind) else {
                continue;
            };
            let old = set.elements();
            for element in old.difference(&new.elements) {
                edits.delete_element(set.name, *element);
            }
            let resize = Edit::ResizeSet {
                name: set.name,
                capacity: new.capacity,
            };
            if new.capacity < set.capacity {
                edits.push(resize);
            } else if new.capacity > set.capacity {
                growing.push(resize);
            }
        }
        growing.into_iter().for_each(|resize| edits.push(resize));
        for (name, new) in &table.sets {
            let old = self
                .rules
                .sets()
                .find(|set| set.name == *name && set.kind == new.kind);
            if old.is_none() {
                edits.create_set(*name, new.kind, new.capacity);
            }
            let old = old.map(|set| set.elements()).unwrap_or_default();
            for element in new.elements.difference(&old) {
                edits.add_element(*name, *element);
            }
        }
    }
}

/// What goes from a chain and what comes.
pub(super) fn compare(
    chain: Name,
    old: &[(RuleId, &Rule)],
    new: &[Rule],
) -> (Vec<RuleId>, Vec<Edit>) {
    let head = old
        .iter()
        .zip(new)
        .take_while(|((_, a), b)| *a == *b)
        .count();
    let most = old.len().min(new.len()) - head;
    let backwards = old.iter().rev().zip(new.iter().rev()).take(most);
    let tail = backwards.take_while(|((_, a), b)| *a == *b).count();
    let behind = old.get(old.len() - tail).map(|(id, _)| *id);
    let old = old.get(head..old.len() - tail).unwrap_or(&[]);
    let new = new.get(head..new.len() - tail).unwrap_or(&[]);

    let (mut going, mut coming) = (Vec::new(), Vec::new());
    let insert = |coming: &mut Vec<Edit>, rules: &[Rule], before: Option<RuleId>| {
        let place = before.map_or(Place::LastOf(chain), Place::Before);
        coming.extend(
            rules
                .iter()
                .map(|rule| Edit::Insert(place, Box::new(rule.clone()))),
        );
    };
    let (mut here, mut there) = (0, 0);
    for (at, to) in common(old, new) {
        going.extend(old.get(here..at).into_iter().flatten().map(|(id, _)| *id));
        let stays = old.get(at).map(|(id, _)| *id);
        insert(&mut coming, new.get(there..to).unwrap_or(&[]), stays);
        (here, there) = (at + 1, to + 1);
    }
    going.extend(old.get(here..).into_iter().flatten().map(|(id, _)| *id));
    insert(&mut coming, new.get(there..).unwrap_or(&[]), behind);
    (going, coming)
}

/// A longest common sequence, as pairs of places.
///
/// After Hunt and Szymanski (Communications of the ACM 20(5), 1977): walk the old rules; for each length keep the smallest
/// place among the new ones at which a common sequence of that length can end.
fn common(old: &[(RuleId, &Rule)], new: &[Rule]) -> Vec<(usize, usize)> {
    let mut places: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, rule) in new.iter().enumerate() {
        places.entry(rule.to_string()).or_default().push(place);
    }
    let texts: Vec<String> = old.iter().map(|(_, rule)| rule.to_string()).collect();
    let pairs = |text| places.get(text).map_or(0, Vec::len);
    let thorough = texts.iter().map(pairs).sum::<usize>() <= PAIRS_MAX;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    // By length less one: the smallest end, and the chain of pairs that leads there.
    let mut ends: Vec<(usize, usize)> = Vec::new();
    let mut links: Vec<(usize, usize, Option<usize>)> = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let Some(found) = places.get(text) else {
            continue;
        };
        let number = seen.entry(text).or_default();
        let found = if thorough {
            &found[..]
        } else {
            found.get(*number..=*number).unwrap_or(&[])
        };
        *number += 1;
        // From the back, so that one rule does not follow itself.
        for &to in found.iter().rev() {
            let length = ends.partition_point(|(end, _)| *end < to);
            let before = length
                .checked_sub(1)
                .and_then(|l| ends.get(l))
                .map(|(_, link)| *link);
            if ends.get(length).is_some_and(|(end, _)| *end == to) {
                continue;
            }
            links.push((at, to, before));
            let end = (to, links.len() - 1);
            match ends.get_mut(length) {
                Some(place) => *place = end,
                None => ends.push(end),
            }
        }
    }
    let mut found = Vec::new();
    let mut link = ends.last().map(|(_, link)| *link);
    while let Some((at, to, before)) = link.and_then(|link| links.get(link)) {
        found.push((*at, *to));
        link = *before;
    }
    found.reverse();
    found
}
