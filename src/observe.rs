//! What happens in a cache, told to whoever wants to know.
//!
//! Apart from the counters, which say how often, because an observer is told which flow and when. A pipeline that is wrapped in
//! [`Observed`](crate::pipeline::Observed) has one; for all others the calls are empty functions that leave nothing behind.

use core::fmt;

use crate::epoch::Generation;
use crate::key::Fields;
use crate::verdict::{Path, Verdict};

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A packet has its verdict.
    Answered {
        /// Its flow, as it arrived.
        flow: Fields,
        /// What befalls it.
        verdict: Verdict,
        /// How that was found: a hit, a miss, or why not cached.
        path: Path,
    },
    /// A session began.
    Begun {
        /// Its original direction, as it arrives.
        flow: Fields,
    },
    /// An edit was published.
    Edited {
        /// The generation from which it holds.
        generation: Generation,
    },
    /// A second look at a packet of a cached flow came to something else than what is cached: a hook breaks its
    /// [laws](crate::hook::Judge#laws), or an edit of it named too few flows. See [`Shadowed`](crate::pipeline::Shadowed).
    Disagreed {
        /// Its flow, as it arrived.
        flow: Fields,
        /// The hook, the first of those that disagree.
        hook: &'static str,
        /// In what.
        what: Difference,
    },
    /// A session ended.
    Ended {
        /// Its original direction, as it arrived.
        flow: Fields,
        /// Why.
        why: End,
        /// Packets that it has had, original direction first.
        packets: [u64; 2],
        /// Bytes likewise.
        bytes: [u64; 2],
    },
}

/// What a hook's second look finds different from what is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Difference {
    /// The hook has no interest in the flow, yet it has a step.
    Interest,
    /// The hook wants to be shown packets that would not be shown to it.
    Trigger,
    /// Judging would leave another step.
    Step,
    /// The step ended the packet's way where judging would not, or the other way round, or with another verdict.
    Verdict,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interest => "no interest in the flow any more",
            Self::Trigger => "packets are not shown",
            Self::Step => "another step",
            Self::Verdict => "another verdict",
        })
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum End {
    /// No packet for as long as its segment lasts.
    Idle,
    /// It made room for another.
    Evicted,
    /// An edit left it with different tuples.
    Rekeyed,
    /// Its owner removed it.
    Removed,
    /// An edit touched it, of a hook whose edits [kill](crate::cache::OnEdit::Kill).
    Killed,
}

impl End {
    /// How many ends there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every end in order.
    pub const ALL: [Self; 5] = [
        Self::Idle,
        Self::Evicted,
        Self::Rekeyed,
        Self::Removed,
        Self::Killed,
    ];
}

/// Who is told. Closures are observers.
///
/// It is called while a packet is on its way: what it does there, every packet pays.
pub trait Observer {
    /// Something happened.
    fn observe(&mut self, event: &Event);
}

impl<F: FnMut(&Event)> Observer for F {
    #[inline]
    fn observe(&mut self, event: &Event) {
        self(event);
    }
}
