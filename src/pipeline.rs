//! Hooks in their order, as one: a tuple of hooks is a pipeline.
//!
//! ```text
//!  judge   for each stage, for each hook that judges there: interest? judge it (or run its step, if it was not asked)
//!  settle  for each hook: the verdict is known
//!  run     for each stage, for each hook that judges there: its step
//!  recheck for each hook that an edit touched: keep, replace, or judge again
//! ```

mod forward;
mod observed;
mod shadowed;

pub use observed::Observed;
pub use shadowed::Shadowed;

use core::fmt;

use crate::destiny::{Destiny, Steps};
use crate::epoch::View;
use crate::hook::{
    Context, Hook, HookSet, Interests, Judge, Judgement, Reach, Recheck, Stage, Tally, Views,
};
use crate::interest::{Scratch, Trigger};
use crate::key::{Fields, Span};
use crate::observe::{Difference, Event};
use crate::packet::Packet;
use crate::verdict::{Consumer, Verdict};

/// An ordered list of hooks, known at compile time. What it does with packets is [`Walk`].
///
/// Tuples of up to eight hooks are pipelines; implement it directly for a dataplane whose destiny has a
/// shape of its own.
pub trait Pipeline {
    /// What an entry keeps of it.
    type Destiny: Destiny;

    /// The places of the hooks of this name.
    fn hooks_named(&self, name: &str) -> HookSet;

    /// The name of the hook at place `index`, for people; `None` where there is none.
    fn name_of(&self, index: usize) -> Option<&'static str> {
        let _ = index;
        None
    }

    /// The hooks that have a step in a destiny; what listings filter by. All, where a pipeline cannot tell.
    fn holders(&self, destiny: &Self::Destiny) -> HookSet {
        let _ = destiny;
        HookSet::ALL
    }

    /// The hooks that [may rekey](Hook::may_rekey) a packet when they judge it: where one of them is asked, all are. Default: all.
    fn rekeyers(&self) -> HookSet {
        HookSet::ALL
    }

    /// Something happened in the cache that owns the pipeline. [`Observed`] hands it to an observer; all
    /// others let it pass, and then it costs nothing.
    #[inline(always)]
    fn observe(&mut self, event: impl FnOnce() -> Event) {
        let _ = event;
    }

    /// Whether the next hit is one of those that hooks look at [a second time](Walk::run_beside). [`Shadowed`] says so now and
    /// then; all others never do, and then it costs nothing.
    #[inline(always)]
    fn samples(&mut self) -> bool {
        false
    }

    /// How far a destiny reaches: narrows `span`, flows around `flow`, to those that it holds for. False where it holds for this
    /// flow only. `complete`: packets get past every hook. See [`Hook::reach`]. Default: for this flow only.
    fn reaches(
        &self,
        destiny: &Self::Destiny,
        complete: bool,
        flow: &Fields,
        span: &mut Span,
    ) -> bool {
        let _ = (destiny, complete, flow, span);
        false
    }

    /// The consumer that wants to run the destiny itself: the first that a hook [names](Hook::deferred). Default: nobody.
    fn deferred(&self, destiny: &Self::Destiny) -> Option<Consumer> {
        let _ = destiny;
        None
    }

    /// Gives the hooks their steps back.
    fn release(&mut self, destiny: Self::Destiny);

    /// Has every hook [read](Hook::warm) what running the destiny will read. Default: reads nothing.
    fn warm(&self, destiny: &Self::Destiny) -> u64 {
        let _ = destiny;
        0
    }

    /// Whether a NIC may do the whole destiny's work: every hook with a step [says so](Hook::may_offload). Default: no.
    fn may_offload(&self, destiny: &Self::Destiny, context: &mut Context) -> bool {
        let _ = (destiny, context);
        false
    }

    /// Packets of the destiny's direction may go by outside from now on.
    fn lend(&mut self, destiny: &Self::Destiny) {
        let _ = destiny;
    }

    /// They do not any more.
    fn take_back(&mut self, destiny: &Self::Destiny) {
        let _ = destiny;
    }

    /// So many packets of the destiny's direction went by outside.
    fn credit(&mut self, destiny: &Self::Destiny, tally: &Tally, context: &mut Context) {
        let _ = (destiny, tally, context);
    }

    /// Writes what a destiny does, one hook a line, for people.
    fn describe(&self, destiny: &Self::Destiny, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// What a pipeline does with packets of type `P`.
pub trait Walk<P: Packet>: Pipeline {
    /// Takes a packet through the hooks. Those in `asked` judge it, and those whose step does not fit it; the others run the
    /// step that `destiny` holds of them.
    fn judge(
        &mut self,
        packet: &mut P,
        context: &mut Context,
        destiny: &mut Self::Destiny,
        asked: HookSet,
        scratch: &mut Scratch,
    ) -> Judgement;

    /// Tells the hooks the verdict of a packet that was judged; gives back what they made of it.
    fn settle(
        &mut self,
        packet: &P,
        context: &mut Context,
        verdict: Verdict,
        destiny: &mut Self::Destiny,
    ) -> Verdict;

    /// Whether every step can decide this packet. Changes nothing.
    fn fits(&self, destiny: &Self::Destiny, packet: &P, context: &Context) -> bool;

    /// Has every hook [read](Judge::warm_new) what judging the first packets of these flows will read. Default: reads
    /// nothing.
    fn warm_new(&self, flows: &[P::Key]) -> u64 {
        let _ = flows;
        0
    }

    /// The hooks that have to judge this packet because their step cannot decide it. Empty exactly when [`fits`](Self::fits) holds.
    /// Default: all or none.
    fn unfit(&self, destiny: &Self::Destiny, packet: &P, context: &Context) -> HookSet {
        if self.fits(destiny, packet, context) {
            HookSet::NONE
        } else {
            HookSet::ALL
        }
    }

    /// Runs the steps in order until one ends the packet's way. Allocates nothing.
    ///
    /// When no trigger fires and [`fits`](Self::fits) holds, this is what judging the packet afresh
    /// would do.
    fn run(&mut self, destiny: &Self::Destiny, packet: &mut P, context: &mut Context) -> Verdict;

    /// [`run`](Self::run), and beside it a second look by each hook but those in `kept`, whose steps are not meant to be what
    /// judging would leave. Gives the place of the first hook that disagrees, and in what. Default: nobody looks.
    fn run_beside(
        &mut self,
        destiny: &Self::Destiny,
        kept: HookSet,
        packet: &mut P,
        context: &mut Context,
        scratch: &mut Scratch,
    ) -> (Verdict, Option<(usize, Difference)>) {
        let _ = (kept, scratch);
        (self.run(destiny, packet, context), None)
    }

    /// Asks the hooks in `touched` about their steps and gives those that must judge the next packet.
    fn recheck(
        &mut self,
        destiny: &mut Self::Destiny,
        touched: HookSet,
        flow: &Views<P::Key>,
    ) -> HookSet;
}

/// One stage of [`Walk::run`].
trait RunAt<P: Packet>: Pipeline {
    fn run_at(
        &mut self,
        stage: Stage,
        destiny: &Self::Destiny,
        packet: &mut P,
        context: &mut Context,
    ) -> Option<Verdict>;
}

/// Whether `hook` wants a say in `flow`, asked in the way that it chose.
fn interest_of<P: Packet, H: Judge<P>>(
    hook: &H,
    flow: &P::Key,
    scratch: &mut Scratch,
) -> Option<Trigger> {
    use crate::key::FlowKey;
    match hook.interests() {
        Interests::All(trigger) => Some(trigger),
        Interests::Ask => hook.have_interest(flow),
        Interests::Listed(index) => {
            let matches = index.matches(&flow.fields(), scratch);
            let triggers = matches.iter().filter_map(|found| index.get(found.id));
            triggers.copied().reduce(|one, other| one | other)
        }
    }
}

/// One hook's part of [`Pipeline::reaches`]: where it has listed its interests, the flows of the span are in the same of them.
fn reach_of<H: Hook>(hook: &H, step: Option<&H::Step>, flow: &Fields, span: &mut Span) -> Reach {
    if let Interests::Listed(index) = hook.interests() {
        let mut wanted = false;
        let class = span.class();
        index.overlapping(&class, |id| match index.pattern(id) {
            Some(pattern) if pattern.matches(flow) => {
                wanted = true;
                span.confine(&pattern);
            }
            Some(pattern) => span.avoid(flow, &pattern),
            None => {}
        });
        if !wanted {
            return Reach::Passes;
        }
    }
    hook.reach(flow, step, span)
}

/// One hook's part of [`Walk::judge`] at one stage.
#[expect(
    clippy::too_many_arguments,
    reason = "the whole state of one visit, borrowed in parts"
)]
#[inline]
fn visit<P: Packet, H: Judge<P>>(
    hook: &mut H,
    asked: bool,
    stage: Stage,
    packet: &mut P,
    context: &mut Context,
    step: &mut Option<H::Step>,
    trigger: &mut Trigger,
    scratch: &mut Scratch,
) -> Judgement {
    let stages = hook.stages();
    if !stages.contains(stage) {
        return Judgement::Continue;
    }
    let first = stage == stages.first();
    if !asked {
        return match step {
            Some(step) => match hook.run(stage, step, packet, context) {
                None => Judgement::Continue,
                Some(verdict) => Judgement::Finish {
                    verdict,
                    constant: false,
                },
            },
            None => Judgement::Continue,
        };
    }
    if first {
        *trigger = Trigger::NONE;
    }
    match interest_of(hook, &packet.key(), scratch) {
        Some(wanted) => {
            *trigger |= wanted;
            hook.judge(stage, packet, context, step)
        }
        None => {
            // At a later stage the flow may have other ends, in which the hook has none: its step stands.
            if first {
                if let Some(step) = step.take() {
                    hook.release(step);
                }
            }
            Judgement::Continue
        }
    }
}

/// One hook's part of [`Walk::run_beside`] at one stage: what its step does, and in what a second look differs from that.
#[expect(
    clippy::too_many_arguments,
    reason = "the whole state of one visit, borrowed in parts"
)]
fn run_one_beside<P: Packet, H: Judge<P>>(
    hook: &mut H,
    kept: bool,
    stage: Stage,
    step: Option<&H::Step>,
    trigger: Trigger,
    packet: &mut P,
    context: &mut Context,
    scratch: &mut Scratch,
) -> (Option<Verdict>, Option<Difference>) {
    let (mut differs, mut again) = (None, None);
    if !kept {
        match interest_of(hook, &packet.key(), scratch) {
            None if step.is_some() && stage == hook.stages().first() => {
                differs = Some(Difference::Interest);
            }
            None => {}
            Some(wanted) if !trigger.covers(wanted) => differs = Some(Difference::Trigger),
            Some(_) => again = hook.rejudge(stage, packet, context, step),
        }
    }
    let verdict = step.and_then(|step| hook.run(stage, step, packet, context));
    if let Some(again) = again {
        differs = if !again.keeps {
            Some(Difference::Step)
        } else if again.verdict != verdict {
            Some(Difference::Verdict)
        } else {
            None
        };
    }
    (verdict, differs)
}

/// One hook's part of [`Walk::recheck`]: whether it, or all, must judge the next packet.
fn recheck_one<P: Packet, H: Judge<P>>(
    hook: &mut H,
    index: usize,
    touched: HookSet,
    flow: &Views<P::Key>,
    step: &mut Option<H::Step>,
) -> HookSet {
    if !touched.contains(index) {
        return HookSet::NONE;
    }
    let view: View = hook.stages().first().view();
    match hook.recheck(step.as_ref(), flow.of(view)) {
        Recheck::Keep => HookSet::NONE,
        Recheck::Replace(new) => {
            if let Some(old) = core::mem::replace(step, new) {
                hook.release(old);
            }
            HookSet::NONE
        }
        Recheck::Judge => HookSet::one(index),
        Recheck::JudgeAll => HookSet::ALL,
    }
}

macro_rules! tuple_pipeline {
    ($n:literal: $($H:ident $i:tt),+) => {
        impl<$($H: Hook),+> Pipeline for ($($H,)+) {
            type Destiny = Steps<($(Option<$H::Step>,)+), $n>;

            fn hooks_named(&self, name: &str) -> HookSet {
                let mut set = HookSet::NONE;
                $(if self.$i.name() == name {
                    set = set.union(HookSet::one($i));
                })+
                set
            }

            fn name_of(&self, index: usize) -> Option<&'static str> {
                match index {
                    $($i => Some(self.$i.name()),)+
                    _ => None,
                }
            }

            fn rekeyers(&self) -> HookSet {
                let mut set = HookSet::NONE;
                $(if self.$i.may_rekey() {
                    set = set.union(HookSet::one($i));
                })+
                set
            }

            fn holders(&self, destiny: &Self::Destiny) -> HookSet {
                let mut set = HookSet::NONE;
                $(if destiny.steps.$i.is_some() {
                    set = set.union(HookSet::one($i));
                })+
                set
            }

            fn reaches(
                &self,
                destiny: &Self::Destiny,
                complete: bool,
                flow: &Fields,
                span: &mut Span,
            ) -> bool {
                if destiny.triggers.iter().any(|trigger| *trigger != Trigger::NONE) {
                    return false;
                }
                for stage in Stage::ALL {
                    $(if self.$i.stages().first() == stage {
                        match reach_of(&self.$i, destiny.steps.$i.as_ref(), flow, span) {
                            Reach::Never => return false,
                            Reach::Passes => {}
                            Reach::Ends => return true,
                        }
                    })+
                }
                // Somebody has ended the packet who does not end all.
                complete
            }

            fn deferred(&self, destiny: &Self::Destiny) -> Option<Consumer> {
                None
                $(.or_else(|| destiny.steps.$i.as_ref().and_then(|step| self.$i.deferred(step))))+
            }

            fn release(&mut self, destiny: Self::Destiny) {
                $(if let Some(step) = destiny.steps.$i {
                    self.$i.release(step);
                })+
            }

            #[inline]
            fn warm(&self, destiny: &Self::Destiny) -> u64 {
                let mut read = 0;
                $(if let Some(step) = &destiny.steps.$i {
                    read ^= self.$i.warm(step);
                })+
                read
            }

            fn may_offload(&self, destiny: &Self::Destiny, context: &mut Context) -> bool {
                $(destiny.steps.$i.as_ref().is_none_or(|step| self.$i.may_offload(step, context)))&&+
            }

            fn lend(&mut self, destiny: &Self::Destiny) {
                $(if let Some(step) = &destiny.steps.$i {
                    self.$i.lend(step);
                })+
            }

            fn take_back(&mut self, destiny: &Self::Destiny) {
                $(if let Some(step) = &destiny.steps.$i {
                    self.$i.take_back(step);
                })+
            }

            fn credit(&mut self, destiny: &Self::Destiny, tally: &Tally, context: &mut Context) {
                $(if let Some(step) = &destiny.steps.$i {
                    self.$i.credit(step, tally, context);
                })+
            }

            fn describe(&self, destiny: &Self::Destiny, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                $(
                    write!(f, "  {}: ", self.$i.name())?;
                    match &destiny.steps.$i {
                        Some(step) => self.$i.describe(step, f)?,
                        None => f.write_str("no step")?,
                    }
                    if destiny.triggers[$i] != Trigger::NONE {
                        write!(f, " (asks for packets: {})", destiny.triggers[$i])?;
                    }
                    writeln!(f)?;
                )+
                Ok(())
            }
        }

        impl<P: Packet, $($H: Judge<P>),+> RunAt<P> for ($($H,)+) {
            #[inline(always)]
            fn run_at(
                &mut self,
                stage: Stage,
                destiny: &Self::Destiny,
                packet: &mut P,
                context: &mut Context,
            ) -> Option<Verdict> {
                $(if self.$i.stages().contains(stage) {
                    if let Some(step) = &destiny.steps.$i {
                        if let Some(verdict) = self.$i.run(stage, step, packet, context) {
                            return Some(verdict);
                        }
                    }
                })+
                None
            }
        }

        impl<P: Packet, $($H: Judge<P>),+> Walk<P> for ($($H,)+) {
            fn judge(
                &mut self,
                packet: &mut P,
                context: &mut Context,
                destiny: &mut Self::Destiny,
                asked: HookSet,
                scratch: &mut Scratch,
            ) -> Judgement {
                // Who is not asked and cannot decide the packet by its step is asked all the same.
                let mut asked = asked;
                if asked != HookSet::ALL {
                    $(if let Some(step) = &destiny.steps.$i {
                        if !self.$i.fits(step, packet, context) {
                            asked = asked.union(HookSet::one($i));
                        }
                    })+
                }
                for stage in Stage::ALL {
                    $({
                        let step = &mut destiny.steps.$i;
                        let trigger = &mut destiny.triggers[$i];
                        let asked = asked.contains($i);
                        let hook = &mut self.$i;
                        match visit(hook, asked, stage, packet, context, step, trigger, scratch) {
                            Judgement::Continue => {}
                            finish => return finish,
                        }
                    })+
                }
                Judgement::Continue
            }

            fn settle(
                &mut self,
                packet: &P,
                context: &mut Context,
                verdict: Verdict,
                destiny: &mut Self::Destiny,
            ) -> Verdict {
                $(let verdict =
                    self.$i.settle(packet, context, verdict, destiny.steps.$i.as_mut());)+
                verdict
            }

            #[inline]
            fn fits(&self, destiny: &Self::Destiny, packet: &P, context: &Context) -> bool {
                $(destiny.steps.$i.as_ref().is_none_or(|step| self.$i.fits(step, packet, context)))&&+
            }

            #[inline]
            fn warm_new(&self, flows: &[P::Key]) -> u64 {
                0 $(^ Judge::<P>::warm_new(&self.$i, flows))+
            }

            fn unfit(&self, destiny: &Self::Destiny, packet: &P, context: &Context) -> HookSet {
                let mut unfit = HookSet::NONE;
                $(if let Some(step) = &destiny.steps.$i {
                    if !self.$i.fits(step, packet, context) {
                        unfit = unfit.union(HookSet::one($i));
                    }
                })+
                unfit
            }

            #[inline]
            fn run(
                &mut self,
                destiny: &Self::Destiny,
                packet: &mut P,
                context: &mut Context,
            ) -> Verdict {
                // Written out, and the stages of a hook being constants that the compiler sees, what remains are the calls.
                if let Some(verdict) = self.run_at(Stage::Track, destiny, packet, context) {
                    return verdict;
                }
                if let Some(verdict) = self.run_at(Stage::Destination, destiny, packet, context) {
                    return verdict;
                }
                if let Some(verdict) = self.run_at(Stage::Route, destiny, packet, context) {
                    return verdict;
                }
                if let Some(verdict) = self.run_at(Stage::Filter, destiny, packet, context) {
                    return verdict;
                }
                if let Some(verdict) = self.run_at(Stage::Source, destiny, packet, context) {
                    return verdict;
                }
                Verdict::Accept
            }

            fn run_beside(
                &mut self,
                destiny: &Self::Destiny,
                kept: HookSet,
                packet: &mut P,
                context: &mut Context,
                scratch: &mut Scratch,
            ) -> (Verdict, Option<(usize, Difference)>) {
                let mut found = None;
                for stage in Stage::ALL {
                    $(if self.$i.stages().contains(stage) {
                        let (kept, trigger) = (kept.contains($i), destiny.triggers[$i]);
                        let step = destiny.steps.$i.as_ref();
                        let hook = &mut self.$i;
                        let (verdict, differs) =
                            run_one_beside(hook, kept, stage, step, trigger, packet, context, scratch);
                        found = found.or(differs.map(|what| ($i, what)));
                        if let Some(verdict) = verdict {
                            return (verdict, found);
                        }
                    })+
                }
                (Verdict::Accept, found)
            }

            fn recheck(
                &mut self,
                destiny: &mut Self::Destiny,
                touched: HookSet,
                flow: &Views<P::Key>,
            ) -> HookSet {
                let mut judge = HookSet::NONE;
                $(judge = judge.union(recheck_one::<P, $H>(
                    &mut self.$i,
                    $i,
                    touched,
                    flow,
                    &mut destiny.steps.$i,
                ));)+
                judge
            }
        }
    };
}

tuple_pipeline!(1: A 0);
tuple_pipeline!(2: A 0, B 1);
tuple_pipeline!(3: A 0, B 1, C 2);
tuple_pipeline!(4: A 0, B 1, C 2, D 3);
tuple_pipeline!(5: A 0, B 1, C 2, D 3, E 4);
tuple_pipeline!(6: A 0, B 1, C 2, D 3, E 4, F 5);
tuple_pipeline!(7: A 0, B 1, C 2, D 3, E 4, F 5, G 6);
tuple_pipeline!(8: A 0, B 1, C 2, D 3, E 4, F 5, G 6, I 7);
