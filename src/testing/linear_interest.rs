//! The twin of [`InterestIndex`](crate::interest::InterestIndex): a list, tested from end to end.

use alloc::vec::Vec;

use crate::interest::InterestId;
use crate::key::{Fields, Pattern};

/// Patterns in the order of priority, equals in the order of insertion.
#[derive(Clone, Debug, Default)]
pub struct LinearInterests<T> {
    list: Vec<(InterestId, Pattern, u64, T)>,
}

impl<T> LinearInterests<T> {
    /// No patterns.
    pub const fn new() -> Self {
        Self { list: Vec::new() }
    }

    /// Patterns held.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether no pattern is held.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a pattern behind those of equal priority, under the id that the index gave it.
    pub fn insert(&mut self, id: InterestId, pattern: Pattern, priority: u64, value: T) {
        let at = self.list.partition_point(|&(_, _, p, _)| p <= priority);
        self.list.insert(at, (id, pattern, priority, value));
    }

    /// Adds patterns in one go: sorts once.
    pub fn extend(&mut self, patterns: impl IntoIterator<Item = (InterestId, Pattern, u64, T)>) {
        self.list.extend(patterns);
        self.list.sort_by_key(|&(_, _, priority, _)| priority);
    }

    /// Takes the pattern with this id out.
    pub fn remove(&mut self, id: InterestId) -> Option<T> {
        let at = self.list.iter().position(|&(i, ..)| i == id)?;
        Some(self.list.remove(at).3)
    }

    /// Takes all patterns out for which `gone` says so.
    pub fn remove_all(&mut self, mut gone: impl FnMut(InterestId) -> bool) {
        self.list.retain(|&(id, ..)| !gone(id));
    }

    /// The pattern with this id.
    pub fn get(&self, id: InterestId) -> Option<(&Pattern, u64, &T)> {
        self.iter()
            .find(|&(i, ..)| i == id)
            .map(|(_, pattern, priority, value)| (pattern, priority, value))
    }

    /// The patterns that match a flow, in order.
    pub fn matches(&self, flow: &Fields) -> Vec<InterestId> {
        self.iter()
            .filter(|(_, pattern, ..)| holds_flows(pattern) && pattern.matches(flow))
            .map(|(id, ..)| id)
            .collect()
    }

    /// The patterns that some flow of `region` matches, in order.
    pub fn overlapping(&self, region: &Pattern) -> Vec<InterestId> {
        self.iter()
            .filter(|(_, pattern, ..)| {
                holds_flows(pattern) && holds_flows(region) && pattern.overlaps(region)
            })
            .map(|(id, ..)| id)
            .collect()
    }

    /// All patterns in order.
    pub fn iter(&self) -> impl Iterator<Item = (InterestId, &Pattern, u64, &T)> {
        self.list
            .iter()
            .map(|(id, pattern, priority, value)| (*id, pattern, *priority, value))
    }
}

/// Whether some flow can match the pattern.
pub fn holds_flows(pattern: &Pattern) -> bool {
    let ends = |ports: crate::key::Ports| ports.first <= ports.last;
    !pattern.is_empty() && ends(pattern.source_ports) && ends(pattern.destination_ports)
}
