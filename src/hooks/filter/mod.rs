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
mod hook;
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

use crate::epoch::Change;
use crate::interest::Scratch;
use program::{Draft, Programs};
use ruleset::{MAIN, Ruleset};

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
}
