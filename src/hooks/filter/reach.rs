//! How far a program reaches: the flows around one that meet the same rules.
//!
//! Rules are gone through in order. Each that the flow matches keeps the flows that match it too, each that it does not match is
//! cut off, and behind the first that decides every packet none matters any more.

use super::ruleset::{ChainSlot, Held, Ruleset};
use super::set::{SetField, SetMatch};
use super::{Action, DEPTH_MAX};
use crate::key::{Cidr, Fields, Pattern, Ports, Span};

/// Rules of a chain beyond which only those are gone through that a flow to the same destination can match.
const WIDE_MAX: usize = 4_096;

/// Narrows a span to the flows that meet the same rules of a chain as `flow`, and of those that it leads to. Gives false where chains
/// are deeper than they can be.
pub(super) fn narrow(
    rules: &Ruleset,
    chain: ChainSlot,
    flow: &Fields,
    span: &mut Span,
    depth: u32,
) -> bool {
    if depth > DEPTH_MAX {
        return false;
    }
    let mut region = span.class();
    if rules.len() > WIDE_MAX {
        let host = Cidr::from_bits(flow.family, flow.destination, flow.family.bits());
        region.destination = Some(host);
        span.confine(&region);
    }
    for held in rules.meeting(chain, &region) {
        if !span.overlaps(&held.rule.pattern) {
            continue;
        }
        if !narrow_to_one(rules, held, flow, span) {
            continue;
        }
        if let Some(target) = held.target {
            if !narrow(rules, target, flow, span, depth + 1) {
                return false;
            }
        }
        let decides = matches!(
            held.rule.action,
            Action::Accept | Action::Drop | Action::Reject(_) | Action::Return | Action::Goto(_)
        );
        if decides && held.rule.conditions.is_none() {
            break;
        }
    }
    true
}

/// Narrows a span to the flows that match a rule just if `flow` does; gives whether it does.
fn narrow_to_one(rules: &Ruleset, held: &Held, flow: &Fields, span: &mut Span) -> bool {
    let rule = &held.rule;
    if !rule.pattern.matches(flow) {
        span.avoid(flow, &rule.pattern);
        return false;
    }
    span.confine(&rule.pattern);
    if let Some(hole) = rule.except.iter().find(|hole| hole.matches(flow)) {
        span.confine(hole);
        return false;
    }
    for hole in &rule.except {
        span.avoid(flow, hole);
    }
    for (test, slot) in rule.sets.iter().zip(&held.sets) {
        let Some(set) = rules.set_at(*slot) else {
            return false;
        };
        span.confine(&set.alike(test, flow));
        if !set.passes(test, flow) {
            return false;
        }
    }
    true
}

/// The flows that have a prefix in the place of a test.
pub(super) fn of_prefix(test: &SetMatch, prefix: Cidr) -> Pattern {
    match test.field {
        SetField::Source => Pattern {
            source: Some(prefix),
            ..Pattern::ANY
        },
        _ => Pattern {
            destination: Some(prefix),
            ..Pattern::ANY
        },
    }
}

/// The flows that have ports in the place of a test.
pub(super) fn of_ports(test: &SetMatch, ports: Ports) -> Pattern {
    match test.field {
        SetField::SourcePort => Pattern {
            source_ports: ports,
            ..Pattern::ANY
        },
        _ => Pattern {
            destination_ports: ports,
            ..Pattern::ANY
        },
    }
}
