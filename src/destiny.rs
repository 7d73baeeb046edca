//! What an entry keeps: everything that is going to happen to the packets of one direction of a flow.

use crate::hook::HookSet;
use crate::interest::{Signals, Trigger};

/// A packet's fate, worked out once and run for each packet.
///
/// Rusty left open whether a destiny is an array of functions and data, specialised fields, or a mix; so
/// it is a trait. A pipeline says what its destiny is and how to [run](crate::pipeline::Walk::run) it.
/// The pipelines of this crate are tuples of hooks, and their destiny is the tuple of the hooks' steps
/// ([`Steps`]); a dataplane may keep something tighter for hooks of its own.
pub trait Destiny: Default {
    /// All triggers of all hooks. The cache keeps it beside the destiny and tests it first.
    fn trigger(&self) -> Trigger;

    /// The hooks whose trigger fires.
    fn asked(&self, signals: Signals) -> HookSet;
}

/// The destiny of a pipeline of `N` hooks: their steps, and which packets each wants to be shown.
///
/// `T` is the tuple of optional steps; a hook without an interest in the flow has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps<T, const N: usize> {
    /// One optional step for each hook.
    pub steps: T,
    /// One trigger for each hook.
    pub triggers: [Trigger; N],
}

impl<T: Default, const N: usize> Default for Steps<T, N> {
    fn default() -> Self {
        Self {
            steps: T::default(),
            triggers: [Trigger::NONE; N],
        }
    }
}

impl<T: Default, const N: usize> Destiny for Steps<T, N> {
    #[inline]
    fn trigger(&self) -> Trigger {
        self.triggers
            .iter()
            .fold(Trigger::NONE, |all, one| all | *one)
    }

    #[inline]
    fn asked(&self, signals: Signals) -> HookSet {
        let mut asked = HookSet::NONE;
        for (index, trigger) in self.triggers.iter().enumerate() {
            if trigger.fires(signals) {
                asked = asked.union(HookSet::one(index));
            }
        }
        asked
    }
}
