//! What an edit touched: boxes of flows, each in the coordinates of the hook that reads them.

use alloc::vec::Vec;
use core::fmt;

use crate::key::Pattern;

/// Which of a packet's three tuples a hook looks at, and so which one its regions speak of.
///
/// Without address translation all three are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    /// As it came in.
    Arrived,
    /// With its destination translated and its source not yet: what routing and filtering see.
    #[default]
    Routed,
    /// As it goes out.
    Departed,
}

impl View {
    /// All three, in the order of a packet's way.
    pub const ALL: [Self; 3] = [Self::Arrived, Self::Routed, Self::Departed];
}

/// A box of flows that an edit may have changed the answer for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The flows.
    pub pattern: Pattern,
    /// The tuple to test.
    pub view: View,
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.view {
            View::Arrived => write!(f, "{} (as arrived)", self.pattern),
            View::Routed => write!(f, "{}", self.pattern),
            View::Departed => write!(f, "{} (as departed)", self.pattern),
        }
    }
}

/// The witness of an edit: which hook was edited and which flows that may concern.
///
/// Every editing method of a hook returns one, and [`FlowCache::edit`](crate::cache::FlowCache::edit), the only way to a
/// hook's `&mut` self, wants one back; so no edit goes unannounced. Naming too many flows costs them one look each; naming
/// too few breaks the promise of freshness.
///
/// ```
/// use gufc::epoch::{Change, View};
/// use gufc::key::Pattern;
///
/// let change = Change::nothing().touches("filter", View::Routed, Pattern::ANY);
/// assert_eq!(change.regions().len(), 1);
/// assert!(Change::nothing().is_nothing());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "an edit that is not published leaves stale entries behind"]
pub struct Change {
    touched: Vec<(&'static str, Region)>,
}

impl Change {
    /// An edit that concerns no flow (a no-op, or one still to be described).
    pub const fn nothing() -> Self {
        Self {
            touched: Vec::new(),
        }
    }

    /// Adds a box of flows of the hook named `hook`.
    pub fn touches(mut self, hook: &'static str, view: View, pattern: Pattern) -> Self {
        self.touched.push((hook, Region { pattern, view }));
        self
    }

    /// Anything the hook named `hook` decides may have changed.
    pub fn everything(hook: &'static str) -> Self {
        Self::nothing().touches(hook, View::Arrived, Pattern::ANY)
    }

    /// Both edits as one.
    pub fn and(mut self, other: Self) -> Self {
        self.touched.extend(other.touched);
        self
    }

    /// Whether no flow is concerned.
    pub fn is_nothing(&self) -> bool {
        self.touched.is_empty()
    }

    /// The boxes, each with the name of the hook that it belongs to.
    pub fn regions(&self) -> &[(&'static str, Region)] {
        &self.touched
    }
}
