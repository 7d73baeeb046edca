//! A pipeline with an observer.

use core::fmt;

use super::forward::{pipeline_of_hooks, walk_of_hooks};
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
    pipeline_of_hooks!();

    #[inline]
    fn observe(&mut self, event: impl FnOnce() -> Event) {
        self.observer.observe(&event());
    }

    #[inline]
    fn samples(&mut self) -> bool {
        self.hooks.samples()
    }
}

impl<P: Packet, H: Walk<P>, O: Observer> Walk<P> for Observed<H, O> {
    walk_of_hooks!();
}
