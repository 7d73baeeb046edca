//! What a flow's entry keeps of the filter: a program, the rules that can still matter for it.
//!
//! Many flows match the same rules, so programs are shared: an entry keeps a number. A program lists the rules that match
//! the flow, in order, down to and with the first that ends the walk for each of its packets.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::ruleset::{RuleId, RuleSlot};

/// A program's number: the step of the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProgramId(pub(super) u32);

#[derive(Debug)]
pub(super) struct Program {
    /// The rules by id, which are never reused: what makes two programs the same.
    ids: Box<[RuleId]>,
    /// The same rules by slot, for running. The first is kept in place: most programs have no other.
    first: Option<RuleSlot>,
    more: Box<[RuleSlot]>,
    /// Whether no packet gets past: every verdict that can be reached is a denial.
    pub(super) denies_all: bool,
    /// Entries that keep it.
    users: u32,
}

impl Program {
    /// The rules by slot, in order.
    #[inline]
    pub(super) fn rules(&self) -> impl Iterator<Item = RuleSlot> {
        self.first.into_iter().chain(self.more.iter().copied())
    }
}

/// All programs in use.
#[derive(Debug)]
pub(super) struct Programs {
    programs: Vec<Option<Program>>,
    free: Vec<u32>,
    /// By rules and by what becomes of packets: the same rules end differently under another policy.
    by_rules: BTreeMap<(Box<[RuleId]>, bool), u32>,
    capacity: usize,
}

impl Programs {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            programs: Vec::new(),
            free: Vec::new(),
            by_rules: BTreeMap::new(),
            capacity,
        }
    }

    /// The program of these rules, made if there is none; one more user. `None` when there are too many.
    pub(super) fn take(
        &mut self,
        rules: &[(RuleId, RuleSlot)],
        denies_all: bool,
    ) -> Option<ProgramId> {
        let ids: Box<[RuleId]> = rules.iter().map(|(id, _)| *id).collect();
        let key = (ids, denies_all);
        if let Some(number) = self.by_rules.get(&key).copied() {
            if let Some(Some(program)) = self.programs.get_mut(number as usize) {
                program.users += 1;
            }
            return Some(ProgramId(number));
        }
        if self.by_rules.len() >= self.capacity {
            return None;
        }
        let mut slots = rules.iter().map(|(_, slot)| *slot);
        let (first, more) = (slots.next(), slots.collect());
        let program = Some(Program {
            ids: key.0.clone(),
            first,
            more,
            denies_all,
            users: 1,
        });
        let number = match self.free.pop() {
            Some(number) => {
                self.programs[number as usize] = program;
                number
            }
            None => {
                self.programs.push(program);
                (self.programs.len() - 1) as u32
            }
        };
        self.by_rules.insert(key, number);
        Some(ProgramId(number))
    }

    /// One user less; the last one takes the program with it.
    pub(super) fn release(&mut self, id: ProgramId) {
        let Some(place) = self.programs.get_mut(id.0 as usize) else {
            return;
        };
        let Some(program) = place else { return };
        program.users -= 1;
        if program.users == 0 {
            self.by_rules
                .remove(&(core::mem::take(&mut program.ids), program.denies_all));
            *place = None;
            self.free.push(id.0);
        }
    }

    #[inline]
    pub(super) fn get(&self, id: ProgramId) -> Option<&Program> {
        self.programs.get(id.0 as usize)?.as_ref()
    }

    /// Programs in use, and entries that keep them.
    pub(super) fn usage(&self) -> (usize, u64) {
        let users = self
            .programs
            .iter()
            .flatten()
            .map(|program| u64::from(program.users))
            .sum();
        (self.by_rules.len(), users)
    }
}
