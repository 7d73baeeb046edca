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
//!
//! Statements: `counter` (every rule counts anyway), `log`, `meta mark set N`, then one of `accept`, `drop`,
//! `reject [with tcp reset | port-unreachable | host-unreachable | no-route | admin-prohibited]`, `continue`, then
//! `comment "..."`. A match on a field that the packet does not have fails, negated or not.

mod program;
mod rule;
mod ruleset;
mod text;

pub use program::ProgramId;
pub use rule::{Action, Classes, Conditions, FlagTest, Masked, Rule};
pub use ruleset::{Counter, EditError, Place, RuleId};
pub use text::{ParseRuleError, parse_rule, parse_rules};

use alloc::vec::Vec;
use core::fmt;

use crate::epoch::{Change, View};
use crate::hook::{Caching, Context, Hook, Interests, Judge, Judgement, Recheck, Stage};
use crate::interest::{Scratch, Trigger};
use crate::key::FlowKey;
use crate::packet::Packet;
use crate::verdict::{By, Verdict};
use program::Programs;
use rule::has_transport;
use ruleset::{Held, RuleSlot, Ruleset};

/// What happens to packets that no rule decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// They pass.
    #[default]
    Accept,
    /// They end, silently.
    Drop,
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
    draft: Vec<(RuleId, RuleSlot)>,
    program_rules_max: usize,
}

/// Rules of a program beyond which a flow is not cached but marked "do slow path".
const PROGRAM_RULES_MAX: usize = 64;

impl Filter {
    /// An empty filter that is called `name` and holds at most `capacity` rules; `seed` keys the index's hash.
    ///
    /// At most 65,536 different programs are kept at once; a flow that needs one more is judged packet by packet.
    pub fn new(name: &'static str, capacity: usize, seed: u64, policy: Policy) -> Self {
        Self {
            name,
            policy,
            rules: Ruleset::new(capacity, seed),
            programs: Programs::new(65_536),
            scratch: Scratch::new(),
            draft: Vec::new(),
            program_rules_max: PROGRAM_RULES_MAX,
        }
    }

    /// Adds a rule and says what that touches: the flows of its pattern.
    ///
    /// # Errors
    ///
    /// [`EditError`]; nothing has changed.
    ///
    /// Cost: O(log n) for n rules, and an insertion into the interest index.
    pub fn insert(&mut self, place: Place, rule: Rule) -> Result<(RuleId, Change), EditError> {
        let pattern = rule.pattern;
        let id = self.rules.insert(place, rule)?;
        Ok((
            id,
            Change::nothing().touches(self.name, View::Routed, pattern),
        ))
    }

    /// Takes a rule out.
    ///
    /// # Errors
    ///
    /// [`EditError::NoSuchRule`].
    ///
    /// Cost: as [`insert`](Self::insert).
    pub fn remove(&mut self, id: RuleId) -> Result<(Rule, Change), EditError> {
        let rule = self.rules.remove(id)?;
        let change = Change::nothing().touches(self.name, View::Routed, rule.pattern);
        Ok((rule, change))
    }

    /// Replaces all rules and the policy at once. Rules that stand at the beginning or the end of both lists stay as they
    /// are, with their ids and counters; only the others touch flows.
    ///
    /// # Errors
    ///
    /// [`EditError::Full`] when there are more rules than the filter holds; nothing has changed.
    ///
    /// Cost: O(old + new) comparisons, and an edit for each rule that differs.
    pub fn replace(&mut self, rules: Vec<Rule>, policy: Policy) -> Result<((), Change), EditError> {
        if rules.len() > self.rules.capacity() || rules.len() > self.rules.names_left() {
            return Err(EditError::Full);
        }
        let same = |(old, new): &(&Rule, &Rule)| old == new;
        let old = || self.rules.iter().map(|held| &held.rule);
        let head = old().zip(&rules).take_while(same).count();
        let most = self.rules.len().min(rules.len()) - head;
        let tail = old()
            .rev()
            .zip(rules.iter().rev())
            .take(most)
            .take_while(same)
            .count();
        let going: Vec<RuleId> = self.rules.iter().map(|held| held.id).collect();
        let going = &going[head..going.len() - tail];
        let behind = self
            .rules
            .iter()
            .nth(self.rules.len() - tail)
            .map(|held| held.id);
        let mut change = Change::nothing();
        for id in going {
            let (_, removed) = self.remove(*id)?;
            change = change.and(removed);
        }
        let place = behind.map_or(Place::Last, Place::Before);
        let coming = rules.len() - head - tail;
        for rule in rules.into_iter().skip(head).take(coming) {
            let (_, inserted) = self.insert(place, rule)?;
            change = change.and(inserted);
        }
        if policy != self.policy {
            self.policy = policy;
            change = Change::everything(self.name);
        }
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

    /// All rules in order, each with its id and counter.
    pub fn rules(&self) -> impl DoubleEndedIterator<Item = (RuleId, &Rule, Counter)> {
        let counter = |id| self.rules.counter(id).unwrap_or_default();
        self.rules
            .iter()
            .map(move |held| (held.id, &held.rule, counter(held.id)))
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

    /// Puts the program of a flow together in `draft`; gives whether it denies every packet.
    fn compile(&mut self, flow: &crate::key::Fields, transport: bool) -> bool {
        self.draft.clear();
        let mut denies_all = true;
        for slot in self.rules.matching(flow, &mut self.scratch) {
            let Some(held) = self.rules.at(slot) else {
                continue;
            };
            if !held.rule.matches_flow(flow) || !transport && held.rule.reads_transport() {
                continue;
            }
            self.draft.push((held.id, slot));
            denies_all &= held.rule.action != Action::Accept;
            if held.rule.is_final() {
                return denies_all;
            }
        }
        denies_all && self.policy == Policy::Drop
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
            let Some(live) = rules.live(slot) else {
                continue;
            };
            let holds = |held: &Held| held.rule.conditions.hold(packet, context);
            if live.tests && !rules.at(slot).is_some_and(holds) {
                continue;
            }
            let Some(live) = rules.live_mut(slot) else {
                continue;
            };
            live.counter.count(packet.length());
            context.log |= live.log;
            context.mark = live.set_mark.unwrap_or(context.mark);
            let verdict = match live.action {
                Action::Continue => continue,
                Action::Accept => None,
                Action::Drop => Some(Verdict::Drop),
                Action::Reject(answer) => Some(Verdict::Reject(answer)),
            };
            context.by = By {
                hook: name,
                rule: Some(live.id.0),
            };
            return verdict;
        }
        context.by = By {
            hook: name,
            rule: None,
        };
        (policy == Policy::Drop).then_some(Verdict::Drop)
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

    fn release(&mut self, step: ProgramId) {
        self.programs.release(step);
    }

    /// A program that accepts, tests nothing and logs nothing says the same of every packet.
    fn may_offload(&self, step: &ProgramId) -> bool {
        let Some(program) = self.programs.get(*step) else {
            return false;
        };
        for live in program.rules().filter_map(|slot| self.rules.live(slot)) {
            if live.tests || live.log {
                return false;
            }
            match live.action {
                Action::Continue => {}
                action => return action == Action::Accept,
            }
        }
        self.policy == Policy::Accept
    }

    fn credit(&mut self, step: &ProgramId, packets: u64, bytes: u64) {
        let Some(program) = self.programs.get(*step) else {
            return;
        };
        for slot in program.rules() {
            let Some(live) = self.rules.live_mut(slot) else {
                continue;
            };
            live.counter.packets += packets;
            live.counter.bytes += bytes;
            if live.action != Action::Continue {
                return;
            }
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
        f.write_str(match self.policy {
            Policy::Accept => "else accept",
            Policy::Drop => "else drop",
        })
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
        let denies_all = self.compile(&packet.key().fields(), has_transport(packet));
        if let Some(old) = step.take() {
            self.programs.release(old);
        }
        if self.draft.len() <= self.program_rules_max {
            *step = self.programs.take(&self.draft, denies_all);
        }
        if step.is_none() {
            context.caching.forbid(Caching::SlowPath);
        }
        let slots = self.draft.iter().map(|(_, slot)| *slot);
        match Self::walk(
            self.name,
            self.policy,
            &mut self.rules,
            slots,
            packet,
            context,
        ) {
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
        let slots = self.programs.get(*step)?.rules();
        Self::walk(
            self.name,
            self.policy,
            &mut self.rules,
            slots,
            packet,
            context,
        )
    }

    fn recheck(&mut self, step: Option<&ProgramId>, flow: &P::Key) -> Recheck<ProgramId> {
        let denied_all = step
            .and_then(|step| self.programs.get(*step))
            .is_some_and(|old| old.denies_all);
        let denies_all = self.compile(&flow.fields(), true);
        if denied_all && !denies_all || self.draft.len() > self.program_rules_max {
            // Packets will get past that did not: the hooks behind have not been asked.
            return Recheck::Judge;
        }
        match self.programs.take(&self.draft, denies_all) {
            Some(new) => Recheck::Replace(Some(new)),
            None => Recheck::Judge,
        }
    }
}
