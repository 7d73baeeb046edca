//! A pipeline that looks a second time at some of its hits.

use core::fmt;

use super::forward::{pipeline_of_hooks, walk_of_hooks};
use super::{Pipeline, Walk};
use crate::hook::{Context, HookSet, Judgement, Tally, Views};
use crate::interest::Scratch;
use crate::key::{Fields, Span};
use crate::observe::{Difference, Event};
use crate::packet::Packet;
use crate::verdict::{Consumer, Verdict};

/// A pipeline whose hooks [look again](crate::hook::Judge::rejudge) at a share of the hits: shadow mode.
///
/// A cache is only as right as its hooks: one that reads what is not in the key, that names too few flows in the
/// [`Change`](crate::epoch::Change) of an edit, or whose step does other than its judgement, answers wrongly and nobody sees it.
/// In shadow mode each hook is asked, right before its step is run on a packet that was drawn, what judging that packet would come to;
/// the packet itself goes its cached way. Nothing is counted twice and no state moves. What differs is counted
/// ([`Stats::disagreed`](crate::cache::Stats::disagreed)) and told to the [observer](super::Observed), if there is one, with
/// the flow, the hook and what it is that differs.
///
/// Not looked at: steps that sessions keep in spite of an edit because their owner
/// [wants that](crate::cache::OnEdit), and hooks that have no second look. Those shipped have one.
///
/// Costs a multiplication and a comparison for each hit, and for those drawn as much as a miss. Nothing at all for pipelines that are not
/// wrapped in it.
///
/// ```
/// use core::convert::Infallible;
/// use gufc::cache::{Config, FlowCache};
/// use gufc::epoch::Change;
/// use gufc::hooks::filter::{Filter, Policy};
/// use gufc::key::Tuple;
/// use gufc::pipeline::Shadowed;
///
/// let hooks = (Filter::new("filter", 100, 1, Policy::Accept),);
/// let hooks = Shadowed::new(hooks, 1_000, 0x5eed);
/// let mut cache: FlowCache<Tuple, _> = FlowCache::new(Config::new([3, 4]), hooks)?;
/// // Somebody complains: look at every hit for a while.
/// cache.edit(|shadowed| Ok::<_, Infallible>((shadowed.one_in(1), Change::nothing())))?;
/// assert_eq!((cache.stats().shadowed, cache.stats().disagreed), (0, 0));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Shadowed<H> {
    /// The pipeline.
    pub hooks: H,
    chance: u64,
    /// A hit is drawn when 32 bits of chance are below.
    below: u64,
}

impl<H> Shadowed<H> {
    /// Looks at one hit in `one_in` on average, 0 for none; which, follows from the seed. The choice need not be secret, but whoever
    /// knows the seed knows which hits are not looked at.
    pub const fn new(hooks: H, one_in: u32, seed: u64) -> Self {
        let mut shadowed = Self {
            hooks,
            chance: seed,
            below: 0,
        };
        shadowed.one_in(one_in);
        shadowed
    }

    /// Looks at another share of the hits from now on: one in `one_in` on average, 0 for none.
    pub const fn one_in(&mut self, one_in: u32) {
        self.below = match one_in {
            0 => 0,
            one_in => (1 << 32_u64) / one_in as u64,
        };
    }
}

impl<H: Pipeline> Pipeline for Shadowed<H> {
    pipeline_of_hooks!();

    #[inline]
    fn observe(&mut self, event: impl FnOnce() -> Event) {
        self.hooks.observe(event);
    }

    #[inline]
    fn samples(&mut self) -> bool {
        self.chance = self
            .chance
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        self.chance >> 32 < self.below
    }
}

impl<P: Packet, H: Walk<P>> Walk<P> for Shadowed<H> {
    walk_of_hooks!();
}
