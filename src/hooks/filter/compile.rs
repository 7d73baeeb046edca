//! From a flow to its program: the chains are walked once, with what the key settles left out.

use super::program::{Draft, NO_RULE};
use super::rule::Action;
use super::ruleset::{ChainSlot, RuleId, Ruleset};
use crate::interest::Scratch;
use crate::key::Fields;

/// A flow, and whether its packet's transport header can be read.
pub(super) struct Subject<'a> {
    pub(super) flow: &'a Fields,
    pub(super) transport: bool,
}

/// Adds the steps of a chain to the draft; gives whether a packet can come out at the chain's end.
///
/// Nests no deeper than the chains do ([`DEPTH_MAX`](super::DEPTH_MAX)).
pub(super) fn expand(
    rules: &Ruleset,
    chain: ChainSlot,
    subject: &Subject<'_>,
    scratch: &mut Scratch,
    draft: &mut Draft,
) -> bool {
    let (from, leaving) = (draft.pending.len(), draft.leaving.len());
    draft
        .pending
        .extend(rules.matching(chain, subject.flow, scratch));
    // Whether a packet can get to the next rule.
    let mut open = true;
    // Whether one can get to the chain's end though not to the next rule.
    let mut ends = false;
    let mut at = from;
    while let (true, Some(slot)) = (open, draft.pending.get(at).copied()) {
        at += 1;
        let Some(held) = rules.at(slot) else { continue };
        let readable = subject.transport || !held.rule.reads_transport();
        if !readable || !rules.settles(held, subject.flow) {
            continue;
        }
        let always = held.rule.conditions.is_none();
        let here = draft.push(held.id, slot);
        match held.rule.action {
            Action::Continue => {}
            Action::Accept => {
                draft.denies_all = false;
                open = !always;
            }
            Action::Drop | Action::Reject(_) => open = !always,
            Action::Return => {
                draft.leaving.push(here);
                draft.branches |= !always;
                open = !always;
            }
            Action::Jump(_) | Action::Goto(_) => {
                let Some(target) = held.target else { continue };
                let through = expand(rules, target, subject, scratch, draft);
                let comes_back = matches!(held.rule.action, Action::Jump(_));
                if always {
                    // Behind the other chain's end is the next rule, or this chain's end.
                    open = through && comes_back;
                    ends |= through && !comes_back;
                    continue;
                }
                if through && !comes_back {
                    let leave = draft.push(RuleId(u32::MAX), NO_RULE);
                    draft.leaving.push(leave);
                }
                draft.fails_here(here);
            }
        }
    }
    draft.pending.truncate(from);
    ends |= draft.leaving.len() > leaving;
    draft.land(leaving);
    open || ends
}
