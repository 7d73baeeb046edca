//! What the filter does with packets: compiles a flow's program, walks it, and says how far it reaches.

use core::fmt;

use super::compile::{Subject, expand};
use super::program::{Branch, Draft, NO_RULE, Step};
use super::rule::has_transport;
use super::ruleset::{Effect, Held, MAIN, RuleSlot, Ruleset};
use super::{Action, Filter, Policy, ProgramId, reach};
use crate::hook::{
    Caching, Context, Hook, Interests, Judge, Judgement, Reach, Recheck, Rejudged, Stage, Tally,
};
use crate::interest::{Scratch, Trigger};
use crate::key::{Fields, FlowKey, Span};
use crate::packet::Packet;
use crate::verdict::{By, Verdict};

impl Filter {
    /// Puts the program of a flow together in `draft`.
    fn compile(&mut self, flow: &Fields, transport: bool) {
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
