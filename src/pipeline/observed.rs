//! A pipeline with an observer.

use core::fmt;

use super::{Pipeline, Walk};
use crate::hook::{Context, HookSet, Judgement, Tally, Views};
use crate::interest::Scratch;
use crate::key::{Fields, Span};
use crate::observe::{Difference, Event, Observer};
use crate::packet::Packet;
use crate::verdict::{Consumer, Verdict};

/// A pipeline, and somebody who is told what happens in the cache that owns it.
///
/// ```
/// use gufc::cache::{Config, FlowCache};
/// use gufc::hooks::filter::{Filter, Policy};
/// use gufc::key::Tuple;
/// use gufc::observe::Event;
/// use gufc::pipeline::Observed;
///
/// let mut ended = 0;
/// let hooks = (Filter::new("filter", 100, 1, Policy::Accept),);
/// let observer = |event: &Event| ended += u32::from(matches!(event, Event::Ended { .. }));
/// let cache: FlowCache<Tuple, _> = FlowCache::new(Config::new([3, 4]), Observed { hooks, observer })?;
/// # drop(cache);
/// # assert_eq!(ended, 0);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Observed<H, O> {
    /// The pipeline.
    pub hooks: H,
    /// Who is told.
    pub observer: O,
}

impl<H: Pipeline, O: Observer> Pipeline for Observed<H, O> {
    type Destiny = H::Destiny;

    fn hooks_named(&self, name: &str) -> HookSet {
        self.hooks.hooks_named(name)
    }

    fn name_of(&self, index: usize) -> Option<&'static str> {
        self.hooks.name_of(index)
    }

    fn rekeyers(&self) -> HookSet {
        self.hooks.rekeyers()
    }

    fn holders(&self, destiny: &Self::Destiny) -> HookSet {
        self.hooks.holders(destiny)
    }

    #[inline]
    fn observe(&mut self, event: impl FnOnce() -> Event) {
        self.observer.observe(&event());
    }

    #[inline]
    fn samples(&mut self) -> bool {
        self.hooks.samples()
    }

    fn reaches(
        &self,
        destiny: &Self::Destiny,
        complete: bool,
        flow: &Fields,
        span: &mut Span,
    ) -> bool {
        self.hooks.reaches(destiny, complete, flow, span)
    }

    fn deferred(&self, destiny: &Self::Destiny) -> Option<Consumer> {
        self.hooks.deferred(destiny)
    }

    fn release(&mut self, destiny: Self::Destiny) {
        self.hooks.release(destiny);
    }

    #[inline]
    fn warm(&self, destiny: &Self::Destiny) -> u64 {
        self.hooks.warm(destiny)
    }

    fn may_offload(&self, destiny: &Self::Destiny, context: &mut Context) -> bool {
        self.hooks.may_offload(destiny, context)
    }

    fn lend(&mut self, destiny: &Self::Destiny) {
        self.hooks.lend(destiny);
    }

    fn take_back(&mut self, destiny: &Self::Destiny) {
        self.hooks.take_back(destiny);
    }

    fn credit(&mut self, destiny: &Self::Destiny, tally: &Tally, context: &mut Context) {
        self.hooks.credit(destiny, tally, context);
    }

    fn describe(&self, destiny: &Self::Destiny, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hooks.describe(destiny, f)
    }
}

impl<P: Packet, H: Walk<P>, O: Observer> Walk<P> for Observed<H, O> {
    fn judge(
        &mut self,
        packet: &mut P,
        context: &mut Context,
        destiny: &mut Self::Destiny,
        asked: HookSet,
        scratch: &mut Scratch,
    ) -> Judgement {
        self.hooks.judge(packet, context, destiny, asked, scratch)
    }

    fn settle(
        &mut self,
        packet: &P,
        context: &mut Context,
        verdict: Verdict,
        destiny: &mut Self::Destiny,
    ) -> Verdict {
        self.hooks.settle(packet, context, verdict, destiny)
    }

    #[inline]
    fn fits(&self, destiny: &Self::Destiny, packet: &P, context: &Context) -> bool {
        self.hooks.fits(destiny, packet, context)
    }

    fn warm_new(&self, flows: &[P::Key]) -> u64 {
        self.hooks.warm_new(flows)
    }

    fn unfit(&self, destiny: &Self::Destiny, packet: &P, context: &Context) -> HookSet {
        self.hooks.unfit(destiny, packet, context)
    }

    #[inline]
    fn run(&mut self, destiny: &Self::Destiny, packet: &mut P, context: &mut Context) -> Verdict {
        self.hooks.run(destiny, packet, context)
    }

    fn run_beside(
        &mut self,
        destiny: &Self::Destiny,
        kept: HookSet,
        packet: &mut P,
        context: &mut Context,
        scratch: &mut Scratch,
    ) -> (Verdict, Option<(usize, Difference)>) {
        self.hooks
            .run_beside(destiny, kept, packet, context, scratch)
    }

    fn recheck(
        &mut self,
        destiny: &mut Self::Destiny,
        touched: HookSet,
        flow: &Views<P::Key>,
    ) -> HookSet {
        self.hooks.recheck(destiny, touched, flow)
    }
}
