//! The route hook: longest prefix first, so that a destiny names an egress.
//!
//! A flow's step is its next hop's number, not the next hop: where that lies is a cell that can be edited without touching
//! any flow. A route edit touches the flows under its prefix; those that a more specific route shields are looked at once
//! and keep their step.

use alloc::vec::Vec;
use core::fmt;

use crate::epoch::{Change, View};
use crate::hook::{Context, Hook, Interests, Judge, Judgement, Recheck, Stage, Stages};
use crate::interest::Trigger;
use crate::key::{Cidr, FlowKey, Pattern};
use crate::packet::{Interface, Packet};
use crate::verdict::{Answer, By, Egress, Verdict};

/// A next hop's number, given by [`Routes::add_next_hop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHopId(pub u32);

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// To this next hop.
    Via(NextHopId),
    /// Nowhere, silently.
    Blackhole,
    /// Nowhere, and the sender is told.
    Unreachable(Answer),
}

/// Why an edit was refused. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteError {
    /// There is no such next hop.
    NoSuchNextHop(NextHopId),
    /// There is no route for this prefix.
    NoSuchRoute(Cidr),
    /// There are as many routes, or next hops, as the owner allowed.
    Full,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchNextHop(id) => write!(f, "there is no next hop {}", id.0),
            Self::NoSuchRoute(prefix) => write!(f, "there is no route for {prefix}"),
            Self::Full => f.write_str("the table is full"),
        }
    }
}

impl core::error::Error for RouteError {}

/// Static routes of both families.
///
/// Packets to a local destination and packets that no route takes: the former pass without an egress, the latter are
/// rejected with [`Answer::NoRoute`].
///
/// ```
/// use gufc::hooks::route::{Routes, Target};
/// use gufc::packet::Interface;
///
/// let mut routes = Routes::new(100);
/// let hop = routes.add_next_hop(Interface(2))?;
/// let _change = routes.insert("10.0.0.0/8".parse()?, Target::Via(hop))?;
/// assert_eq!(routes.longest("10.1.2.3".parse()?), Some(("10.0.0.0/8".parse()?, Target::Via(hop))));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Routes {
    /// Longest prefix first, so that the first that holds is the longest.
    routes: Vec<(Cidr, Target)>,
    next_hops: Vec<Interface>,
    capacity: usize,
}

impl Routes {
    /// A table of at most `capacity` routes, and as many next hops.
    pub const fn new(capacity: usize) -> Self {
        Self {
            routes: Vec::new(),
            next_hops: Vec::new(),
            capacity,
        }
    }

    /// Adds a next hop that lies behind an interface.
    ///
    /// # Errors
    ///
    /// [`RouteError::Full`].
    pub fn add_next_hop(&mut self, interface: Interface) -> Result<NextHopId, RouteError> {
        if self.next_hops.len() >= self.capacity {
            return Err(RouteError::Full);
        }
        self.next_hops.push(interface);
        Ok(NextHopId(self.next_hops.len() as u32 - 1))
    }

    /// Moves a next hop behind another interface. No flow is touched: each packet reads the cell.
    ///
    /// # Errors
    ///
    /// [`RouteError::NoSuchNextHop`].
    pub fn move_next_hop(
        &mut self,
        id: NextHopId,
        interface: Interface,
    ) -> Result<((), Change), RouteError> {
        let cell = self
            .next_hops
            .get_mut(id.0 as usize)
            .ok_or(RouteError::NoSuchNextHop(id))?;
        *cell = interface;
        Ok(((), Change::nothing()))
    }

    /// Adds a route, or replaces that of the same prefix; gives what was there.
    ///
    /// # Errors
    ///
    /// [`RouteError::Full`] or [`RouteError::NoSuchNextHop`]; nothing has changed.
    ///
    /// Cost: O(n) for n routes.
    pub fn insert(
        &mut self,
        prefix: Cidr,
        target: Target,
    ) -> Result<(Option<Target>, Change), RouteError> {
        if let Target::Via(id) = target {
            self.next_hops
                .get(id.0 as usize)
                .ok_or(RouteError::NoSuchNextHop(id))?;
        }
        let old = match self.find(prefix) {
            Ok(at) => Some(core::mem::replace(&mut self.routes[at].1, target)),
            Err(_) if self.routes.len() >= self.capacity => return Err(RouteError::Full),
            Err(at) => {
                self.routes.insert(at, (prefix, target));
                None
            }
        };
        let change = if old == Some(target) {
            Change::nothing()
        } else {
            touched(prefix)
        };
        Ok((old, change))
    }

    /// Takes a route out and gives what it did.
    ///
    /// # Errors
    ///
    /// [`RouteError::NoSuchRoute`].
    ///
    /// Cost: O(n).
    pub fn remove(&mut self, prefix: Cidr) -> Result<(Target, Change), RouteError> {
        let at = self
            .find(prefix)
            .map_err(|_| RouteError::NoSuchRoute(prefix))?;
        let (_, target) = self.routes.remove(at);
        Ok((target, touched(prefix)))
    }

    /// Where the prefix stands, or would.
    fn find(&self, prefix: Cidr) -> Result<usize, usize> {
        let order = |route: &Cidr| (core::cmp::Reverse(route.len()), *route);
        self.routes
            .binary_search_by_key(&order(&prefix), |(route, _)| order(route))
    }

    /// The route of the longest prefix that holds an address. Cost: O(n).
    pub fn longest(&self, address: core::net::IpAddr) -> Option<(Cidr, Target)> {
        self.routes
            .iter()
            .find(|(prefix, _)| prefix.contains(address))
            .copied()
    }

    /// All routes, longest prefix first.
    pub fn iter(&self) -> impl Iterator<Item = (Cidr, Target)> {
        self.routes.iter().copied()
    }

    /// What becomes of packets to the destination of `flow`; `None` for those to this machine.
    fn target<K: FlowKey>(&self, flow: &K) -> Option<Target> {
        let fields = flow.fields();
        if fields.locality.destination {
            return None;
        }
        let found = self.longest(fields.family.address(fields.destination));
        Some(found.map_or(Target::Unreachable(Answer::NoRoute), |(_, target)| target))
    }

    /// Applies a target to a packet.
    fn apply(&self, target: Target, context: &mut Context) -> Option<Verdict> {
        let verdict = match target {
            Target::Via(id) => {
                let interface = self
                    .next_hops
                    .get(id.0 as usize)
                    .copied()
                    .unwrap_or_default();
                context.egress = Some(Egress {
                    interface,
                    next_hop: id.0,
                });
                return None;
            }
            Target::Blackhole => Verdict::Drop,
            Target::Unreachable(answer) => Verdict::Reject(answer),
        };
        context.by = By {
            hook: NAME,
            rule: None,
        };
        Some(verdict)
    }
}

const NAME: &str = "route";

/// The flows to a prefix.
fn touched(prefix: Cidr) -> Change {
    Change::nothing().touches(
        NAME,
        View::Routed,
        Pattern {
            destination: Some(prefix),
            ..Pattern::ANY
        },
    )
}

impl Hook for Routes {
    type Step = Target;

    fn name(&self) -> &'static str {
        NAME
    }

    fn stages(&self) -> Stages {
        Stages::of(Stage::Route)
    }

    fn interests(&self) -> Interests<'_> {
        Interests::All(Trigger::NONE)
    }

    fn describe(&self, step: &Target, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match step {
            Target::Via(id) => {
                let interface = self
                    .next_hops
                    .get(id.0 as usize)
                    .copied()
                    .unwrap_or_default();
                write!(f, "next hop {} on interface {}", id.0, interface.0)
            }
            Target::Blackhole => f.write_str("blackhole"),
            Target::Unreachable(answer) => write!(f, "unreachable, {answer}"),
        }
    }
}

impl<P: Packet> Judge<P> for Routes {
    fn judge(
        &mut self,
        _: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<Target>,
    ) -> Judgement {
        *step = self.target(&packet.key());
        match step.and_then(|target| self.apply(target, context)) {
            None => Judgement::Continue,
            Some(verdict) => Judgement::Finish {
                verdict,
                constant: true,
            },
        }
    }

    #[inline]
    fn run(
        &mut self,
        _: Stage,
        step: &Target,
        _: &mut P,
        context: &mut Context,
    ) -> Option<Verdict> {
        self.apply(*step, context)
    }

    fn recheck(&mut self, step: Option<&Target>, flow: &P::Key) -> Recheck<Target> {
        let new = self.target(flow);
        match (step, new) {
            (Some(old), Some(new)) if *old == new => Recheck::Keep,
            // Packets that ended here may pass now, and the hooks behind have not been asked.
            (Some(Target::Via(_)) | None, _) => Recheck::Replace(new),
            _ => Recheck::Judge,
        }
    }
}
