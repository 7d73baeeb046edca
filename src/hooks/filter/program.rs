//! What a flow's entry keeps of the filter: a program, the rules that can still matter for it.
//!
//! Many flows match the same rules, so programs are shared: an entry keeps a number. A program lists the rules that match
//! the flow, in order, down to and with the first that ends the walk for each of its packets; where a rule goes to another
//! chain, that chain's rules stand behind it. Most programs are *straight*: each rule is followed by the next. Only where a
//! jump, a goto or a return depends on the packet does a program *branch*.
//!
//! A program stays what it was when it was made, policy included, whatever is edited since: an owner may let flows keep what
//! they had. So the slots of its rules are not given to others while it is in use.
//!
//! ```text
//!  main   0 ct state new jump web      program   0  rule 0   holds: 1   fails: 3
//!         1 drop                                 1  rule 2   holds: 3   fails: 2
//!  web    2 tcp flags rst return                 2  rule 3   (ends)
//!         3 accept                               3  rule 1   (ends)
//! ```

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::Policy;
use super::ruleset::{RuleId, RuleSlot};

/// A program's number: the step of the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProgramId(pub(super) u32);

/// Where a program goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    /// When the rule matches and does not end the walk.
    pub(super) holds: u32,
    /// When it does not match.
    pub(super) fails: u32,
}

/// A rule of a program; the slot [`NO_RULE`] goes on where `holds` says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) id: RuleId,
    pub(super) slot: RuleSlot,
    pub(super) branch: Branch,
}

/// What stands for a bare branch.
pub(super) const NO_RULE: RuleSlot = RuleSlot::MAX;

/// A program being put together.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) steps: Vec<Step>,
    /// Whether some step does not go on with the next one.
    pub(super) branches: bool,
    /// Whether no packet gets past.
    pub(super) denies_all: bool,
    /// Rules of the chains that are being walked, innermost last.
    pub(super) pending: Vec<RuleSlot>,
    /// Steps that leave those chains early.
    pub(super) leaving: Vec<usize>,
}

impl Draft {
    pub(super) fn clear(&mut self) {
        self.steps.clear();
        self.pending.clear();
        self.leaving.clear();
        self.branches = false;
        self.denies_all = true;
    }

    /// Adds a step that goes on with the next one either way; gives its place.
    pub(super) fn push(&mut self, id: RuleId, slot: RuleSlot) -> usize {
        let at = self.steps.len();
        let next = at as u32 + 1;
        let branch = Branch {
            holds: next,
            fails: next,
        };
        self.steps.push(Step { id, slot, branch });
        at
    }

    /// Lets the step at `at` go on with the next one to be added when it does not match.
    pub(super) fn fails_here(&mut self, at: usize) {
        let here = self.steps.len() as u32;
        if let Some(step) = self.steps.get_mut(at) {
            step.branch.fails = here;
        }
        self.branches = true;
    }

    /// Lets all that leave since there were `leaving` such steps go on with the next one to be added.
    pub(super) fn land(&mut self, leaving: usize) {
        let here = self.steps.len() as u32;
        while self.leaving.len() > leaving {
            let step = self.leaving.pop().and_then(|at| self.steps.get_mut(at));
            if let Some(step) = step {
                step.branch.holds = here;
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Program {
    /// The rules by id, which are never reused: what makes two programs the same. Where they branch follows from them.
    ids: Box<[RuleId]>,
    /// The same rules by slot, for running. The first is kept in place: most programs have no other.
    first: Option<RuleSlot>,
    more: Box<[RuleSlot]>,
    /// The steps of a program that branches.
    branching: Option<Box<[(RuleSlot, Branch)]>>,
    /// Whether no packet gets past: every verdict that can be reached is a denial.
    pub(super) denies_all: bool,
    /// What becomes of packets that come to the end.
    pub(super) policy: Policy,
    /// Entries that keep it.
    users: u32,
}

impl Program {
    /// Whether it is what a draft would become.
    pub(super) fn is_of(&self, draft: &Draft, policy: Policy) -> bool {
        let ids = draft.steps.iter().map(|step| step.id);
        self.policy == policy && self.ids.iter().copied().eq(ids)
    }

    /// The rules by slot, in order.
    #[inline]
    pub(super) fn rules(&self) -> impl Iterator<Item = RuleSlot> {
        self.first.into_iter().chain(self.more.iter().copied())
    }

    /// The steps, if they branch.
    #[inline]
    pub(super) fn branching(&self) -> Option<&[(RuleSlot, Branch)]> {
        self.branching.as_deref()
    }
}

/// All programs in use.
#[derive(Debug)]
pub(super) struct Programs {
    programs: Vec<Option<Program>>,
    free: Vec<u32>,
    /// By policy and rules: the same rules end differently under another one.
    by_rules: [BTreeMap<Box<[RuleId]>, u32>; 2],
    capacity: usize,
    /// The one taken last: the next flow often has the same.
    last: ProgramId,
    /// Room for the rules of a draft.
    ids: Vec<RuleId>,
}

impl Programs {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            programs: Vec::new(),
            free: Vec::new(),
            by_rules: Default::default(),
            capacity,
            last: ProgramId(0),
            ids: Vec::new(),
        }
    }

    /// Whether a draft is what a program was made from.
    pub(super) fn is_of(&self, id: ProgramId, draft: &Draft, policy: Policy) -> bool {
        self.get(id).is_some_and(|program| {
            let ids = draft.steps.iter().map(|step| &step.id);
            program.policy == policy && program.ids.iter().eq(ids)
        })
    }

    /// The program of a draft, and whether it had to be made; one more user. `None` when there are too many.
    pub(super) fn take(&mut self, draft: &Draft, policy: Policy) -> Option<(ProgramId, bool)> {
        if let Some(known) = self.known(draft, policy) {
            if let Some(Some(program)) = self.programs.get_mut(known.0 as usize) {
                program.users += 1;
            }
            self.last = known;
            return Some((known, false));
        }
        if self.count() >= self.capacity {
            return None;
        }
        let ids: Box<[RuleId]> = self.ids.as_slice().into();
        let mut slots = draft.steps.iter().map(|step| step.slot);
        let (first, more) = (slots.next(), slots.collect());
        let steps = || draft.steps.iter().map(|step| (step.slot, step.branch));
        let program = Some(Program {
            ids: ids.clone(),
            first,
            more,
            branching: draft.branches.then(|| steps().collect()),
            denies_all: draft.denies_all,
            policy,
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
        self.by_rules[policy as usize].insert(ids, number);
        Some((ProgramId(number), true))
    }

    /// The program of a draft, if there is one. Leaves the rules of the draft in `ids` if not.
    fn known(&mut self, draft: &Draft, policy: Policy) -> Option<ProgramId> {
        if self.is_of(self.last, draft, policy) {
            return Some(self.last);
        }
        self.ids.clear();
        self.ids.extend(draft.steps.iter().map(|step| step.id));
        let known = self.by_rules[policy as usize].get(self.ids.as_slice());
        known.copied().map(ProgramId)
    }

    /// One user less; the last one takes the program with it, which is then given back.
    pub(super) fn release(&mut self, id: ProgramId) -> Option<Program> {
        let place = self.programs.get_mut(id.0 as usize)?;
        let program = place.as_mut()?;
        program.users -= 1;
        if program.users > 0 {
            return None;
        }
        let mut program = place.take()?;
        let ids = core::mem::take(&mut program.ids);
        self.by_rules[program.policy as usize].remove(&ids);
        self.free.push(id.0);
        Some(program)
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
        (self.count(), users)
    }

    fn count(&self) -> usize {
        self.by_rules.iter().map(BTreeMap::len).sum()
    }
}
