//! The filter: an ordered list of rules, first match; its entry keeps only the rules that can still matter.
//!
//! A rule reads a flow's key, and perhaps something of each packet besides: TCP flags, length, interfaces, marks, connection
//! state. The first part is settled when the flow is cached. What is left is a *program*: the matching rules in order, down
//! to the first that decides every packet. Most programs are one rule long and test nothing.
//!
//! ```text
//!  rules                                   flow tcp 10.0.0.1:5000 > 192.0.2.1:80
//!  0  ct state invalid drop                0  can still matter: reads each packet
//!  1  udp dport 53 accept                  -  not this flow
//!  2  tcp dport 80 tcp flags syn log       2  can still matter: reads each packet
//!  3  tcp dport 80 accept                  3  decides
//!  4  drop                                 -  never reached
//!                                          program: [0, 2, 3]
//! ```
//!
//! Every rule counts, exactly, though most packets never meet it: running a program counts for its rules.
//!
//! # The text form
//!
//! | match | of | example |
//! |---|---|---|
//! | `ip saddr`, `ip daddr`, `ip6 saddr`, `ip6 daddr` | prefix, `!=` | `ip saddr != 10.0.0.0/8` |
//! | `meta nfproto` | family | `meta nfproto ipv6` |
//! | `meta l4proto`, `ip protocol`, `ip6 nexthdr` | protocol, `!=` | `meta l4proto gre` |
//! | `tcp`, `udp`, `udplite`, `sctp` with `sport` or `dport` | port or range, `!=` | `tcp dport 8000-8999` |
//! | `icmp`, `icmpv6` with `type`, `code`, `id` | number or name | `icmp type echo-request` |
//! | `fib saddr type`, `fib daddr type` | locality, `!=` | `fib daddr type local` |
//! | `zone` | zone | `zone 7` |
//! | `tcp flags` | any of; value under mask; exactly | `tcp flags syn / syn,ack` |
//! | `meta length` | length or range | `meta length 0-128` |
//! | `iif`, `oif` | interface | `iif 2` |
//! | `meta mark`, `ct mark` | mark, mask | `meta mark 0x1/0xff` |
//! | `ct state`, `ct direction` | connection tracking | `ct state established,related` |
//! | `ct status` | any of; value under mask | `ct status none / dnat` |
//! | `ct zone` | zone of the connection | `ct zone 7` |
//! | `@` for an address or a port | set, `!=` | `tcp dport @web` |
//!
//! Statements: `counter` (every rule counts anyway), `log`, `meta mark set N`, then one of `accept`, `drop`,
//! `reject [with tcp reset | port-unreachable | host-unreachable | no-route | admin-prohibited]`, `continue`, `jump CHAIN`,
//! `goto CHAIN`, `return`, then `comment "..."`. A match on a field that the packet does not have fails, negated or not.
//!
//! # Chains, sets, transactions
//!
//! Packets begin in the main chain. A rule may go to another chain ([`Action::Jump`], [`Action::Goto`]), at most
//! [`DEPTH_MAX`] deep and without a circle, which the edit that would make one is refused for. [Sets](SetMatch) of addresses
//! and ports change without their rules changing. A whole rule set is a [`Table`] as a value; [`Filter::diff`] finds the
//! smallest [`Transaction`] from one to the next, and [`Filter::commit`] applies it: all of it or nothing, visible at once.

mod compile;
mod diff;
mod edit;
mod name;
mod program;
mod reach;
mod rule;
mod ruleset;
mod set;
mod table;
mod text;
mod write;

pub use edit::{CommitError, DEPTH_MAX, Edit, EditError, Transaction, VISITS_MAX};
pub use name::{Name, ParseNameError};
pub use program::ProgramId;
pub use rule::{Action, Classes, Conditions, FlagTest, Masked, Rule, StatusTest};
pub use ruleset::{Counter, Place, RuleId};
pub use set::{Element, SetField, SetKind, SetMatch};
pub use table::{SetTable, Table, parse_table};
pub use text::{ParseRuleError, parse_rule, parse_rules};

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::epoch::Change;
use crate::hook::{
    Caching, Context, Hook, Interests, Judge, Judgement, Reach, Recheck, Rejudged, Stage, Tally,
};
use crate::interest::{Scratch, Trigger};
use crate::key::{Fields, FlowKey, Span};
use crate::packet::Packet;
use crate::verdict::{By, Verdict};
use compile::{Subject, expand};
use program::{Branch, Draft, NO_RULE, Programs, Step};
use rule::has_transport;
use ruleset::{Effect, Held, MAIN, RuleSlot, Ruleset};

/// What happens to packets that no rule decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Policy {
    /// They pass.
    #[default]
    Accept,
    /// They end, silently.
    Drop,
}

/// How much a filter may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rules, in all chains together.
    pub rules: usize,
    /// Chains besides the main one.
    pub chains: usize,
    /// Sets.
    pub sets: usize,
    /// The sum of the sets' sizes.
    pub elements: usize,
    /// Different programs kept at once; a flow that needs one more is judged packet by packet.
    pub programs: usize,
}

impl Limits {
    /// Room for so many rules, 1,024 chains, 1,024 sets, 2²⁰ elements and 65,536 programs.
    pub const fn rules(rules: usize) -> Self {
        Self {
            rules,
            chains: 1024,
            sets: 1024,
            elements: 1 << 20,
            programs: 65_536,
        }
    }
}

/// The filter hook.
///
/// Editing methods return the [`Change`] that [`FlowCache::edit`](crate::cache::FlowCache::edit) wants.
///
/// ```
/// use gufc::cache::{Config, FlowCache};
/// use gufc::hooks::filter::{Filter, Place, Policy};
/// use gufc::key::Tuple;
///
/// let filter = Filter::new("filter", 1_000, 12, Policy::Accept);
/// let mut cache: FlowCache<Tuple, (Filter,)> = FlowCache::new(Config::new([3, 4]), (filter,))?;
/// let rule = "tcp dport 23 reject with tcp reset".parse()?;
/// let (id, _) = cache.edit(|(filter,)| filter.insert(Place::Last, rule))?;
/// assert_eq!(cache.hooks().0.counter(id).map(|c| c.packets), Some(0));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Filter {
    name: &'static str,
    policy: Policy,
    rules: Ruleset,
    programs: Programs,
    scratch: Scratch,
    /// Room for the program being put together.
    draft: Draft,
    program_rules_max: usize,
    /// Moves with every commit.
    version: u64,
}

/// Rules of a program beyond which a flow is not cached but marked "do slow path".
const PROGRAM_RULES_MAX: usize = 64;

impl Filter {
    /// An empty filter that is called `name` and holds at most `capacity` rules; `seed` keys the index's hash. The other
    /// limits are those of [`Limits::rules`].
    pub fn new(name: &'static str, capacity: usize, seed: u64, policy: Policy) -> Self {
        Self::with_limits(name, Limits::rules(capacity), seed, policy)
    }

    /// An empty filter with limits of the owner's choice. Nothing is allocated for what is not there yet.
    pub fn with_limits(name: &'static str, limits: Limits, seed: u64, policy: Policy) -> Self {
        Self {
            name,
            policy,
            rules: Ruleset::new(limits, seed),
            programs: Programs::new(limits.programs),
            scratch: Scratch::new(),
            draft: Draft::default(),
            program_rules_max: PROGRAM_RULES_MAX,
            version: 0,
        }
    }

    /// Adds a rule and says what that touches: the flows of its pattern.
    ///
    /// # Errors
    ///
    /// [`EditError`]; nothing has changed.
    ///
    /// Cost: O(log n) for n rules, and an insertion into the interest index; for a rule that goes to another chain also
    /// O(chains + jumps).
    pub fn insert(&mut self, place: Place, rule: Rule) -> Result<(RuleId, Change), EditError> {
        let id = RuleId(self.rules.next_id());
        let change = self.apply_one(Edit::Insert(place, Box::new(rule)))?;
        Ok((id, change))
    }

    /// Takes a rule out.
    ///
    /// # Errors
    ///
    /// [`EditError::NoSuchRule`].
    ///
    /// Cost: as [`insert`](Self::insert).
    pub fn remove(&mut self, id: RuleId) -> Result<(Rule, Change), EditError> {
        let rule = self.rule(id).ok_or(EditError::NoSuchRule(id))?.clone();
        Ok((rule, self.apply_one(Edit::Remove(id))?))
    }

    /// Adds an element to a set; touches the flows of its readers that have the element in that place.
    ///
    /// # Errors
    ///
    /// [`EditError`]; nothing has changed.
    ///
    /// Cost: an insertion into a prefix trie, or O(log n) for n ranges of ports; O(1) for each of up to 8 rules that read
    /// the set, and of more than 8 a look at each.
    pub fn add_element(
        &mut self,
        set: Name,
        element: impl Into<Element>,
    ) -> Result<((), Change), EditError> {
        Ok(((), self.apply_one(Edit::AddElement(set, element.into()))?))
    }

    /// Takes an element out of a set.
    ///
    /// # Errors
    ///
    /// As [`add_element`](Self::add_element), and the cost.
    pub fn delete_element(
        &mut self,
        set: Name,
        element: impl Into<Element>,
    ) -> Result<((), Change), EditError> {
        Ok((
            (),
            self.apply_one(Edit::DeleteElement(set, element.into()))?,
        ))
    }

    /// Replaces the rules of the main chain and the policy at once, other chains and sets untouched. The longest sequence of
    /// rules that is in both lists stays as it is, with ids and counters; only the others touch flows.
    ///
    /// # Errors
    ///
    /// [`EditError`], such as when there are more rules than the filter holds; nothing has changed.
    ///
    /// Cost: as [`diff`](Self::diff), and an edit for each rule that differs.
    pub fn replace(&mut self, rules: Vec<Rule>, policy: Policy) -> Result<((), Change), EditError> {
        let old = self.rules.iter(MAIN).map(|held| (held.id, &held.rule));
        let old: Vec<(RuleId, &Rule)> = old.collect();
        let (going, coming) = diff::compare(Name::MAIN, &old, &rules);
        let going = going.into_iter().map(Edit::Remove);
        let policy = (policy != self.policy).then_some(Edit::SetPolicy(policy));
        let edits: Vec<Edit> = going.chain(coming).chain(policy).collect();
        let change = self.apply(edits).map_err(|error| error.why)?;
        Ok(((), change))
    }

    /// A rule.
    pub fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.rules.get(id).map(|held| &held.rule)
    }

    /// A rule's counter.
    pub fn counter(&self, id: RuleId) -> Option<Counter> {
        self.rules.counter(id)
    }

    /// All rules, each with its id and counter: those of the main chain in order, then those of the others by name.
    pub fn rules(&self) -> impl Iterator<Item = (RuleId, &Rule, Counter)> {
        let others = self.chains().filter(|name| *name != Name::MAIN);
        let chains = [Name::MAIN].into_iter().chain(others);
        chains.flat_map(|name| self.chain(name))
    }

    /// The rules of a chain in order, each with its id and counter; none where there is no such chain.
    pub fn chain(&self, name: Name) -> impl DoubleEndedIterator<Item = (RuleId, &Rule, Counter)> {
        let counter = |id| self.rules.counter(id).unwrap_or_default();
        let slot = self.rules.chain_named(name).ok();
        let rules = slot.into_iter().flat_map(|slot| self.rules.iter(slot));
        rules.map(move |held| (held.id, &held.rule, counter(held.id)))
    }

    /// The names of all chains, by name.
    pub fn chains(&self) -> impl Iterator<Item = Name> {
        self.rules.chains().map(|(name, _)| name)
    }

    /// The limits that it was made with.
    pub const fn limits(&self) -> &Limits {
        self.rules.limits()
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What happens to packets that no rule decides.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// Programs in use, and how many entries keep them.
    pub fn usage(&self) -> (usize, u64) {
        self.programs.usage()
    }

    /// Puts the program of a flow together in `draft`.
    fn compile(&mut self, flow: &crate::key::Fields, transport: bool) {
        let draft = &mut self.draft;
        draft.clear();
        let subject = Subject { flow, transport };
        let through = expand(&self.rules, MAIN, &subject, &mut self.scratch, draft);
        draft.denies_all &= !through || self.policy == Policy::Drop;
    }

    /// What a packet would meet in a program, counting nothing.
    fn preview<P: Packet>(
        &self,
        steps: &[Step],
        packet: &P,
        mut context: Context,
    ) -> Option<Verdict> {
        let mut at = 0;
        while let Some(step) = steps.get(at as usize) {
            let Branch { holds, fails } = step.branch;
            let next = match self.rules.at(step.slot) {
                Some(held) if held.rule.conditions.hold(packet, &context) => {
                    context.mark = held.rule.set_mark.unwrap_or(context.mark);
                    match held.rule.action {
                        Action::Accept => return None,
                        Action::Drop => return Some(Verdict::Drop),
                        Action::Reject(answer) => return Some(Verdict::Reject(answer)),
                        _ => holds,
                    }
                }
                None if step.slot == NO_RULE => holds,
                _ => fails,
            };
            if next <= at {
                break;
            }
            at = next;
        }
        (self.policy == Policy::Drop).then_some(Verdict::Drop)
    }

    /// The program in `draft`, one more user; `None` where there are too many or it is too long.
    fn keep(&mut self) -> Option<ProgramId> {
        if self.draft.steps.len() > self.program_rules_max {
            return None;
        }
        let (id, made) = self.programs.take(&self.draft, self.policy)?;
        if made {
            self.rules
                .pin(self.draft.steps.iter().map(|step| step.slot));
        }
        Some(id)
    }

    /// Walks rules for a packet, counting; `None` when it passes.
    #[inline]
    fn walk<P: Packet>(
        name: &'static str,
        policy: Policy,
        rules: &mut Ruleset,
        slots: impl Iterator<Item = RuleSlot>,
        packet: &P,
        context: &mut Context,
    ) -> Option<Verdict> {
        for slot in slots {
            if let Met::Ends(verdict) = Self::meet(name, rules, slot, packet, context) {
                return verdict;
            }
        }
        Self::fall_through(name, policy, context)
    }

    /// Walks a program that branches. Steps go on further down only, so that it ends.
    fn walk_branching<P: Packet>(
        name: &'static str,
        policy: Policy,
        rules: &mut Ruleset,
        step: impl Fn(usize) -> Option<(RuleSlot, Branch)>,
        packet: &P,
        context: &mut Context,
    ) -> Option<Verdict> {
        let mut at = 0;
        while let Some((slot, branch)) = step(at as usize) {
            let next = match Self::meet(name, rules, slot, packet, context) {
                Met::Ends(verdict) => return verdict,
                Met::Misses if slot != NO_RULE => branch.fails,
                _ => branch.holds,
            };
            if next <= at {
                break;
            }
            at = next;
        }
        Self::fall_through(name, policy, context)
    }

    fn fall_through(name: &'static str, policy: Policy, context: &mut Context) -> Option<Verdict> {
        context.by = By {
            hook: name,
            rule: None,
        };
        (policy == Policy::Drop).then_some(Verdict::Drop)
    }

    /// One rule of a walk.
    #[inline]
    fn meet<P: Packet>(
        name: &'static str,
        rules: &mut Ruleset,
        slot: RuleSlot,
        packet: &P,
        context: &mut Context,
    ) -> Met {
        let Some(live) = rules.live(slot) else {
            return Met::Misses;
        };
        let holds = |held: &Held| held.rule.conditions.hold(packet, context);
        if live.tests && !rules.at(slot).is_some_and(holds) {
            return Met::Misses;
        }
        let Some(live) = rules.live_mut(slot) else {
            return Met::Misses;
        };
        live.counter.count(packet.length());
        context.log |= live.log;
        context.mark = live.set_mark.unwrap_or(context.mark);
        let verdict = match live.effect {
            Effect::Continue => return Met::GoesOn,
            Effect::Accept => None,
            Effect::Drop => Some(Verdict::Drop),
            Effect::Reject(answer) => Some(Verdict::Reject(answer)),
        };
        context.by = By {
            hook: name,
            rule: Some(live.id.0),
        };
        Met::Ends(verdict)
    }
}

/// What became of a packet at a rule.
enum Met {
    /// The rule does not match.
    Misses,
    /// It does, and decides nothing.
    GoesOn,
    /// It decides; `None`: the packet passes.
    Ends(Option<Verdict>),
}

/// What becomes of every packet of an offloaded flow at a rule.
enum Settled {
    /// It does not match.
    Misses,
    /// It does, and decides nothing.
    GoesOn,
    /// It decides; whether the packet passes.
    Ends(bool),
    /// It depends on the packet.
    Unknown,
}

fn settle(rules: &Ruleset, slot: RuleSlot, context: &Context) -> Settled {
    let Some(live) = rules.live(slot) else {
        return Settled::Misses;
    };
    if live.tests {
        let settled = |held: &Held| held.rule.conditions.settled(context);
        match rules.at(slot).and_then(settled) {
            Some(true) => {}
            Some(false) => return Settled::Misses,
            None => return Settled::Unknown,
        }
    }
    match live.effect {
        _ if live.log => Settled::Unknown,
        Effect::Continue => Settled::GoesOn,
        effect => Settled::Ends(matches!(effect, Effect::Accept)),
    }
}

impl Hook for Filter {
    type Step = ProgramId;

    fn name(&self) -> &'static str {
        self.name
    }

    fn interests(&self) -> Interests<'_> {
        Interests::All(Trigger::NONE)
    }

    fn may_rekey(&self) -> bool {
        false
    }

    fn release(&mut self, step: ProgramId) {
        if let Some(program) = self.programs.release(step) {
            self.rules.unpin(program.rules());
        }
    }

    /// A program that accepts, tests nothing but the flow's track and logs nothing says the same of every packet.
    fn may_offload(&self, step: &ProgramId, context: &mut Context) -> bool {
        let Some(program) = self.programs.get(*step) else {
            return false;
        };
        if program.branching().is_some() {
            return false;
        }
        for slot in program.rules() {
            match settle(&self.rules, slot, context) {
                Settled::Unknown => return false,
                Settled::Misses | Settled::GoesOn => {}
                Settled::Ends(accepts) => return accepts,
            }
        }
        program.policy == Policy::Accept
    }

    fn credit(&mut self, step: &ProgramId, tally: &Tally, context: &mut Context) {
        let Some(program) = self.programs.get(*step) else {
            return;
        };
        for slot in program.rules() {
            let settled = settle(&self.rules, slot, context);
            if matches!(settled, Settled::Misses | Settled::Unknown) {
                continue;
            }
            if let Some(live) = self.rules.live_mut(slot) {
                live.counter.packets += tally.packets;
                live.counter.bytes += tally.bytes;
            }
            if let Settled::Ends(_) = settled {
                return;
            }
        }
    }

    /// As far as flows meet the same rules: the program has no other input but the packets themselves.
    fn reach(&self, flow: &Fields, step: Option<&ProgramId>, span: &mut Span) -> Reach {
        let Some(program) = step.and_then(|step| self.programs.get(*step)) else {
            return Reach::Never;
        };
        match (
            reach::narrow(&self.rules, MAIN, flow, span, 0),
            program.denies_all,
        ) {
            (false, _) => Reach::Never,
            (true, false) => Reach::Passes,
            (true, true) => Reach::Ends,
        }
    }

    fn describe(&self, step: &ProgramId, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(program) = self.programs.get(*step) else {
            return f.write_str("no program");
        };
        // What stands in the program can still match; the first that must match decides.
        for slot in program.rules() {
            if let Some(held) = self.rules.at(slot) {
                if held.rule.is_final() {
                    return write!(f, "rule {} decides: {}", held.id, held.rule);
                }
                write!(f, "rule {} may match: {}; ", held.id, held.rule)?;
            }
        }
        write!(f, "else {}", program.policy)
    }
}

impl<P: Packet> Judge<P> for Filter {
    fn judge(
        &mut self,
        _stage: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<ProgramId>,
    ) -> Judgement {
        self.compile(&packet.key().fields(), has_transport(packet));
        if let Some(old) = step.take() {
            self.release(old);
        }
        *step = self.keep();
        if step.is_none() {
            context.caching.forbid(Caching::SlowPath);
        }
        let Draft {
            ref steps,
            branches,
            denies_all,
            ..
        } = self.draft;
        let verdict = if branches {
            let step = |at: usize| steps.get(at).map(|step: &Step| (step.slot, step.branch));
            Self::walk_branching(
                self.name,
                self.policy,
                &mut self.rules,
                step,
                packet,
                context,
            )
        } else {
            let slots = steps.iter().map(|step| step.slot);
            Self::walk(
                self.name,
                self.policy,
                &mut self.rules,
                slots,
                packet,
                context,
            )
        };
        match verdict {
            None => Judgement::Continue,
            Some(verdict) => Judgement::Finish {
                verdict,
                constant: denies_all,
            },
        }
    }

    #[inline]
    fn run(
        &mut self,
        _: Stage,
        step: &ProgramId,
        packet: &mut P,
        context: &mut Context,
    ) -> Option<Verdict> {
        let program = self.programs.get(*step)?;
        if let Some(steps) = program.branching() {
            return Self::walk_branching(
                self.name,
                program.policy,
                &mut self.rules,
                |at| steps.get(at).copied(),
                packet,
                context,
            );
        }
        Self::walk(
            self.name,
            program.policy,
            &mut self.rules,
            program.rules(),
            packet,
            context,
        )
    }

    fn rejudge(
        &self,
        _: Stage,
        packet: &P,
        context: &Context,
        step: Option<&ProgramId>,
    ) -> Option<Rejudged> {
        let (mut draft, mut scratch) = (Draft::default(), Scratch::new());
        draft.clear();
        let subject = Subject {
            flow: &packet.key().fields(),
            transport: has_transport(packet),
        };
        expand(&self.rules, MAIN, &subject, &mut scratch, &mut draft);
        let program = step.and_then(|step| self.programs.get(*step));
        Some(Rejudged {
            keeps: program.is_some_and(|program| program.is_of(&draft, self.policy)),
            verdict: self.preview(&draft.steps, packet, *context),
        })
    }

    fn recheck(&mut self, step: Option<&ProgramId>, flow: &P::Key) -> Recheck<ProgramId> {
        let denied_all = step
            .and_then(|step| self.programs.get(*step))
            .is_some_and(|old| old.denies_all);
        self.compile(&flow.fields(), true);
        if denied_all && !self.draft.denies_all {
            // Packets will get past that did not: the hooks behind have not been asked.
            return Recheck::Judge;
        }
        if step.is_some_and(|step| self.programs.is_of(*step, &self.draft, self.policy)) {
            return Recheck::Keep;
        }
        match self.keep() {
            Some(new) => Recheck::Replace(Some(new)),
            None => Recheck::Judge,
        }
    }
}
