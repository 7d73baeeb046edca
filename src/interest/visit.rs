//! Who is told of the rules that admit a flow: all of them, or the first.
//!
//! Apart from the structures that find rules, so that one search serves both: whoever wants only the first says what no longer
//! matters, and chunks of rules that all come later are passed over.

/// What a search reports to.
pub(super) trait Visit {
    /// Whether a rule of this priority, or a later one, could still matter.
    fn wants(&self, priority: u64) -> bool;

    /// Whether nothing else matters, given that what is left comes later.
    fn is_done(&self) -> bool;

    /// A rule admits the flow.
    fn visit(&mut self, priority: u64, slot: u32);
}

/// Wants every rule.
pub(super) struct All<F>(pub(super) F);

impl<F: FnMut(u64, u32)> Visit for All<F> {
    #[inline(always)]
    fn wants(&self, _: u64) -> bool {
        true
    }

    #[inline(always)]
    fn is_done(&self) -> bool {
        false
    }

    #[inline(always)]
    fn visit(&mut self, priority: u64, slot: u32) {
        (self.0)(priority, slot);
    }
}

/// Wants the first rule by priority, equals by age.
pub(super) struct First<F> {
    pub(super) best: Option<(u64, u32)>,
    /// The age of a slot's rule.
    pub(super) sequence: F,
}

impl<F: Fn(u32) -> u64> Visit for First<F> {
    #[inline]
    fn wants(&self, priority: u64) -> bool {
        self.best.is_none_or(|(best, _)| priority <= best)
    }

    #[inline]
    fn is_done(&self) -> bool {
        self.best.is_some()
    }

    #[inline]
    fn visit(&mut self, priority: u64, slot: u32) {
        let earlier = match self.best {
            None => true,
            Some((best, held)) if best == priority => (self.sequence)(slot) < (self.sequence)(held),
            Some((best, _)) => priority < best,
        };
        if earlier {
            self.best = Some((priority, slot));
        }
    }
}
