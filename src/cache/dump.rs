//! What is cached, a step at a time: listing and deleting by filter, with a cursor that resumes where the last step stopped.
//!
//! Apart from `explain` because these go over all sessions, and must do so beside traffic: each step looks at a number of slots that
//! the caller names, and reading changes nothing, not even recency.

use core::num::NonZeroU32;

use super::session::{Session, Slot};
use super::{End, FlowCache, Listed, Segment};
use crate::key::{Cidr, FlowKey, Zone};
use crate::packet::Origin;
use crate::pipeline::Pipeline;
use crate::time::{Duration, Instant};
use crate::trie::Indexed;

/// Where a listing goes on. [`Cursor::START`] begins one.
///
/// A session that is there from the first step to the last is shown exactly once; one that begins or ends in between may be shown
/// or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(Option<NonZeroU32>);

impl Cursor {
    /// Before the first session.
    pub const START: Self = Self(None);

    const fn slot(self) -> u32 {
        match self.0 {
            None => 0,
            Some(slot) => slot.get(),
        }
    }
}

/// Which sessions are meant: those that fit everything that is set. [`Filter::ALL`] fits all.
///
/// ```
/// use gufc::cache::{Filter, Segment};
/// use gufc::time::Duration;
///
/// let half_open_and_silent = Filter {
///     segment: Some(Segment::Provisional),
///     idle: Some(Duration::from_secs(5)),
///     ..Filter::ALL
/// };
/// # let _ = half_open_and_silent;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter<'a> {
    /// In this zone.
    pub zone: Option<Zone>,
    /// With a step of a hook of this name in some direction.
    pub hook: Option<&'a str>,
    /// Come so far.
    pub segment: Option<Segment>,
    /// Without a packet for at least this long.
    pub idle: Option<Duration>,
    /// With one end of one direction in this prefix, as its packets arrive.
    pub prefix: Option<Cidr>,
    /// Whose first packet came this way.
    pub origin: Option<Origin>,
}

impl Filter<'_> {
    /// Every session.
    pub const ALL: Self = Self {
        zone: None,
        hook: None,
        segment: None,
        idle: None,
        prefix: None,
        origin: None,
    };
}

impl<K: FlowKey + Indexed, H: Pipeline> FlowCache<K, H> {
    /// Shows the sessions among the next `budget` slots that the filter means, and gives where to go on; `None` when all slots have
    /// been looked at. Changes nothing, not even recency.
    ///
    /// ```
    /// use gufc::cache::{Config, Cursor, Filter, FlowCache};
    /// use gufc::key::Tuple;
    /// use gufc::time::Instant;
    ///
    /// # let rules = gufc::hooks::filter::Filter::new("filter", 1, 1, gufc::hooks::filter::Policy::Accept);
    /// let cache: FlowCache<Tuple, _> = FlowCache::new(Config::new([3, 4]), (rules,))?;
    /// let mut next = Some(Cursor::START);
    /// while let Some(cursor) = next {
    ///     next = cache.dump(cursor, 1_000, &Filter::ALL, Instant::START, |session| println!("{session}"));
    ///     // Packets may be processed here.
    /// }
    /// # Ok::<(), Box<dyn core::error::Error>>(())
    /// ```
    ///
    /// Cost: O(budget).
    pub fn dump(
        &self,
        cursor: Cursor,
        budget: usize,
        filter: &Filter<'_>,
        now: Instant,
        mut show: impl FnMut(Listed<K>),
    ) -> Option<Cursor> {
        let (slots, next) = self.step(cursor, budget);
        for slot in slots {
            if let Some(session) = self.sessions.get(Slot(slot)) {
                if self.is_meant(session, filter, now) {
                    show(Listed::of(session));
                }
            }
        }
        next
    }

    /// Ends the sessions among the next `budget` slots that the filter means ([`End::Removed`]); gives how many, and where to go on,
    /// `None` when all slots have been looked at. What hooks remember of them by themselves they keep.
    ///
    /// Cost: O(budget).
    pub fn remove_where(
        &mut self,
        cursor: Cursor,
        budget: usize,
        filter: &Filter<'_>,
        now: Instant,
    ) -> (usize, Option<Cursor>) {
        let (slots, next) = self.step(cursor, budget);
        let mut ended = 0;
        for slot in slots {
            let session = self.sessions.get(Slot(slot));
            if session.is_some_and(|session| self.is_meant(session, filter, now)) {
                self.end(Slot(slot), End::Removed);
                ended += 1;
            }
        }
        (ended, next)
    }

    /// The next slots, and where to go on after them.
    pub(super) fn step(
        &self,
        cursor: Cursor,
        budget: usize,
    ) -> (core::ops::Range<u32>, Option<Cursor>) {
        let all = u32::try_from(self.sessions.slots()).unwrap_or(u32::MAX);
        let from = cursor.slot().min(all);
        let budget = u32::try_from(budget).unwrap_or(u32::MAX);
        let to = from.saturating_add(budget).min(all);
        let next = (to < all).then_some(Cursor(NonZeroU32::new(to)));
        (from..to, next)
    }

    fn is_meant(
        &self,
        session: &Session<K, H::Destiny>,
        filter: &Filter<'_>,
        now: Instant,
    ) -> bool {
        let Filter {
            zone,
            hook,
            segment,
            idle,
            prefix,
            origin,
        } = filter;
        let fields = session.keys.map(|key| key.fields());
        let has_end_in = |prefix: &Cidr| {
            let mut ends = fields.iter().flat_map(|flow| {
                [flow.source, flow.destination].map(|bits| flow.family.address(bits))
            });
            ends.any(|end| prefix.contains(end))
        };
        let has_step_of = |name: &str| {
            let hooks = self.hooks.hooks_named(name);
            let mut halves = session.halves.iter();
            halves.any(|half| {
                !self
                    .hooks
                    .holders(&half.destiny)
                    .intersection(hooks)
                    .is_empty()
            })
        };
        zone.is_none_or(|zone| fields.iter().any(|flow| flow.zone == zone))
            && segment.is_none_or(|segment| session.segment == segment)
            && idle.is_none_or(|idle| now - session.last_seen >= idle)
            && origin.is_none_or(|origin| session.halves[0].origin == origin)
            && prefix.as_ref().is_none_or(has_end_in)
            && hook.is_none_or(has_step_of)
    }
}
