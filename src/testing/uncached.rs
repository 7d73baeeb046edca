//! The dataplane without a cache: every packet is judged by every hook. What transparency is measured against.

use crate::epoch::Change;
use crate::hook::{Context, HookSet, Judgement};
use crate::interest::Scratch;
use crate::packet::Packet;
use crate::pipeline::Walk;
use crate::time::Instant;
use crate::verdict::{Outcome, Path, Uncached as Why, Verdict};

/// Hooks, and nothing remembered between packets but what they remember themselves.
#[derive(Debug)]
pub struct Uncached<H> {
    /// The hooks.
    pub hooks: H,
}

impl<H> Uncached<H> {
    /// A packet's whole way.
    pub fn process<P: Packet>(&mut self, packet: &mut P, now: Instant) -> Outcome
    where
        H: Walk<P>,
    {
        let mut context = Context::new(now, packet.origin());
        let mut destiny = H::Destiny::default();
        let scratch = &mut Scratch::new();
        let verdict =
            match self
                .hooks
                .judge(packet, &mut context, &mut destiny, HookSet::ALL, scratch)
            {
                Judgement::Continue => Verdict::Accept,
                Judgement::Finish { verdict, .. } => verdict,
            };
        let verdict = self
            .hooks
            .settle(packet, &mut context, verdict, &mut destiny);
        self.hooks.release(destiny);
        let Context {
            by,
            egress,
            consumer,
            mark,
            log,
            ..
        } = context;
        Outcome {
            verdict,
            by,
            egress,
            consumer,
            mark,
            log,
            path: Path::Uncached(Why::Refused),
        }
    }

    /// An edit; there is nobody to tell.
    pub fn edit<R, E>(
        &mut self,
        edit: impl FnOnce(&mut H) -> Result<(R, Change), E>,
    ) -> Result<R, E> {
        edit(&mut self.hooks).map(|(result, _)| result)
    }
}
