//! Tuple space search, as the yardstick for the first match: a hash table for each pair of prefix lengths, probed in the order of
//! the best priority in each, until none can be better (Srinivasan, Suri and Varghese, SIGCOMM 1999, with the early end of Open
//! vSwitch's classifier).

use std::collections::HashMap;

use gufc::key::{Fields, Pattern};

/// Rules by their pair of prefix lengths.
pub(crate) struct TupleSpace {
    tables: Vec<Table>,
}

struct Table {
    masks: (u128, u128),
    best: u32,
    rules: HashMap<(u128, u128), Vec<(u32, Pattern)>>,
}

impl TupleSpace {
    /// Patterns in the order of priority.
    pub(crate) fn new<'a>(patterns: impl IntoIterator<Item = &'a Pattern>) -> Self {
        let mut tables: HashMap<(u128, u128), Table> = HashMap::new();
        for (at, pattern) in (0..).zip(patterns) {
            let mask = |len: u8| u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            let side = |cidr: Option<gufc::key::Cidr>| {
                cidr.map_or((0, 0), |cidr| (mask(cidr.len()), cidr.bits()))
            };
            let (source, destination) = (side(pattern.source), side(pattern.destination));
            let masks = (source.0, destination.0);
            let table = tables.entry(masks).or_insert_with(|| Table {
                masks,
                best: at,
                rules: HashMap::new(),
            });
            let key = (source.1, destination.1);
            table.rules.entry(key).or_default().push((at, *pattern));
        }
        let mut tables: Vec<Table> = tables.into_values().collect();
        tables.sort_by_key(|table| table.best);
        Self { tables }
    }

    /// How many tables there are.
    pub(crate) fn tables(&self) -> usize {
        self.tables.len()
    }

    /// The first pattern that matches.
    pub(crate) fn first(&self, flow: &Fields) -> Option<u32> {
        let mut best: Option<u32> = None;
        for table in &self.tables {
            if best.is_some_and(|best| best < table.best) {
                break;
            }
            let key = (
                flow.source & table.masks.0,
                flow.destination & table.masks.1,
            );
            let found = table.rules.get(&key).and_then(|rules| {
                let found = rules.iter().find(|(_, pattern)| pattern.matches(flow));
                found.map(|(at, _)| *at)
            });
            best = match (best, found) {
                (Some(best), Some(found)) => Some(best.min(found)),
                (best, found) => best.or(found),
            };
        }
        best
    }
}
