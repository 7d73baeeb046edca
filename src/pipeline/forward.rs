//! What a pipeline that wraps another one leaves to it.
//!
//! Apart because every wrapper leaves almost everything to the pipeline in its field `hooks`, and says itself only what it is for.

/// The items of a [`Pipeline`](super::Pipeline) that are the wrapped one's, `H`: all but `observe` and `samples`.
macro_rules! pipeline_of_hooks {
    () => {
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
    };
}

/// The items of a [`Walk`](super::Walk) for packets `P` that are the wrapped one's: all.
macro_rules! walk_of_hooks {
    () => {
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
        fn run(
            &mut self,
            destiny: &Self::Destiny,
            packet: &mut P,
            context: &mut Context,
        ) -> Verdict {
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
    };
}

pub(super) use {pipeline_of_hooks, walk_of_hooks};
