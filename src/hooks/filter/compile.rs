//! From a flow to its program: the chains are walked once, with what the key settles left out.

use super::program::{Draft, NO_RULE};
use super::rule::Action;
use super::ruleset::{ChainSlot, Effect, Held, RuleId, Ruleset};
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
        let Some(live) = rules.live(slot) else {
            continue;
        };
        let settled = |held: &Held| rules.settles(held, subject.flow);
        if live.reads_transport && !subject.transport
            || live.narrows && !rules.at(slot).is_some_and(settled)
        {
            continue;
        }
        let always = !live.tests;
        let here = draft.push(live.id, slot);
        match live.effect {
            Effect::Accept => {
                draft.denies_all = false;
                open = !always;
                continue;
            }
            Effect::Drop | Effect::Reject(_) => {
                open = !always;
                continue;
            }
            Effect::Continue => {}
        }
        let Some(held) = rules.at(slot) else { continue };
        match held.rule.action {
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
            _ => {}
        }
    }
    draft.pending.truncate(from);
    ends |= draft.leaving.len() > leaving;
    draft.land(leaving);
    open || ends
}
