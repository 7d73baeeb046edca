//! The bounded ring of regions that the last commits touched.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::granule::Granules;
use super::{Change, Generation, Region, Ticket, View};
use crate::key::{Fields, Pattern};

/// The region log: a ring of the last `capacity` regions, each under the generation of its commit.
///
/// Generic over how the owner names hooks. One writer, `&mut`.
///
/// ```
/// use gufc::epoch::{Change, RegionLog, Since, View};
/// use gufc::key::{Pattern, Protocol};
///
/// let mut log = RegionLog::new(8);
/// let stamp = log.ticket().redeem();
/// assert!(matches!(log.since(stamp), Since::Fresh));
///
/// let tcp = Pattern { protocol: Some(Protocol::TCP), ..Pattern::ANY };
/// log.publish(&Change::nothing().touches("filter", View::Routed, tcp), |_| 0);
/// let Since::Regions(regions) = log.since(stamp) else { panic!("one commit since") };
/// assert_eq!(regions.count(), 1);
/// ```
#[derive(Clone, Debug)]
pub struct RegionLog<H> {
    ring: Box<[Option<Logged<H>>]>,
    /// Where the next region goes.
    next: usize,
    current: Generation,
    /// The newest generation of which a region has left the ring.
    lost: Generation,
    /// Stamps before it have more than [`FEW`] regions after them.
    crowded: Generation,
    granules: Granules,
}

/// Regions that are worth testing without a look at the granules.
const FEW: usize = 4;

/// Words of granules for each region of the ring. Eight keep the chance that two of a full ring share one near an eighth.
const WORDS_PER_REGION: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Logged<H> {
    generation: Generation,
    hook: H,
    region: Region,
}

/// What has been published since a stamp.
pub enum Since<I> {
    /// Nothing.
    Fresh,
    /// These regions, newest first.
    Regions(I),
    /// More than the ring remembers.
    Lost,
}

impl<H: Copy> RegionLog<H> {
    /// A log that remembers `capacity` regions, at least 1.
    ///
    /// Memory: 120 bytes a region, and 64 for its granules (16 KB of these at least, 8 MB at most).
    pub fn new(capacity: usize) -> Self {
        let ring: Vec<_> = core::iter::repeat_n(None, capacity.max(1)).collect();
        Self {
            ring: ring.into_boxed_slice(),
            next: 0,
            current: Generation::FIRST,
            lost: Generation::FIRST,
            crowded: Generation::FIRST,
            granules: Granules::new(capacity.saturating_mul(WORDS_PER_REGION)),
        }
    }

    /// Bytes that a log of so many regions takes.
    pub fn bytes_for(capacity: usize) -> usize {
        capacity.max(1) * size_of::<Option<Logged<H>>>()
            + Granules::bytes_for(capacity.saturating_mul(WORDS_PER_REGION))
    }

    /// How many regions it remembers.
    pub fn capacity(&self) -> usize {
        self.ring.len()
    }

    /// The generation of the last commit.
    pub fn current(&self) -> Generation {
        self.current
    }

    /// The generation of the last commit, to be handed in by the insertion that follows a slow path.
    pub fn ticket(&self) -> Ticket {
        Ticket::new(self.current)
    }

    /// Publishes an edit, all its regions under one new generation, and returns that; a change that touches nothing moves
    /// nothing. `name` turns a hook's name into the owner's.
    ///
    /// A change with more regions than the ring holds is remembered as "anything" of each of its hooks, as long as those
    /// fit. Cost: O(regions).
    pub fn publish(
        &mut self,
        change: &Change,
        mut name: impl FnMut(&'static str) -> H,
    ) -> Generation {
        if change.is_nothing() {
            return self.current;
        }
        self.current = self.current.successor();
        if change.regions().len() <= self.ring.len() {
            for (hook, region) in change.regions() {
                self.push(name(hook), *region);
            }
        } else {
            let anything = Region {
                pattern: Pattern::ANY,
                view: View::Arrived,
            };
            let mut seen: Vec<&'static str> = Vec::new();
            for (hook, _) in change.regions() {
                if !seen.contains(hook) {
                    seen.push(hook);
                    self.push(name(hook), anything);
                }
            }
        }
        self.current
    }

    fn push(&mut self, hook: H, region: Region) {
        self.granules.mark(&region, self.current);
        let logged = Logged {
            generation: self.current,
            hook,
            region,
        };
        if let Some(place) = self.ring.get_mut(self.next) {
            if let Some(old) = place.replace(logged) {
                self.lost = old.generation;
            }
        }
        self.next = (self.next + 1) % self.ring.len();
        let length = self.ring.len();
        let back = match self.next.checked_sub(FEW + 1) {
            Some(back) => Some(back),
            None => (self.next + length).checked_sub(FEW + 1),
        };
        let back = back.and_then(|back| self.ring.get(back)?.as_ref());
        // A smaller ring forgets before there are many.
        let back = back.filter(|_| length > FEW);
        self.crowded = back.map_or(self.lost, |logged| logged.generation.max(self.lost));
    }

    /// The newest generation after `stamp` that may touch a flow with these tuples, as far as can be told without testing
    /// regions: no later one does, and where there is none, nothing after `stamp` does. Remembers more than the ring does: a flow
    /// that no edit comes near is cleared after any number of commits.
    ///
    /// Cost: one word for each view and way of cutting the flow space that was used since; one in most dataplanes.
    #[inline]
    pub fn newest_near<'a>(
        &self,
        stamp: Generation,
        tuple: impl Fn(View) -> &'a Fields,
    ) -> Option<Generation> {
        self.granules.newest(stamp, tuple)
    }

    /// Whether more than four regions were published after `stamp`, or more than the ring remembers: whether
    /// [`newest_near`](Self::newest_near) is likely cheaper than testing them. Cost: one comparison.
    #[inline]
    pub fn many_since(&self, stamp: Generation) -> bool {
        stamp < self.crowded
    }

    /// What was published after `stamp`. Cost: O(1), and O(1) for each region that the iterator gives.
    pub fn since(&self, stamp: Generation) -> Since<impl Iterator<Item = (H, &Region)>> {
        if stamp >= self.current {
            Since::Fresh
        } else if stamp < self.lost {
            Since::Lost
        } else {
            Since::Regions(
                self.edits_since(stamp)
                    .map(|(_, hook, region)| (hook, region)),
            )
        }
    }

    /// The regions published after `stamp`, but not after `until`, that the ring still remembers, newest first, each with its
    /// hook. Cost: O(log capacity), and O(1) for each.
    pub fn between(
        &self,
        stamp: Generation,
        until: Generation,
    ) -> impl Iterator<Item = (H, &Region)> {
        let up_to = |part: &[Option<Logged<H>>]| {
            part.partition_point(|place| {
                place
                    .as_ref()
                    .is_some_and(|logged| logged.generation <= until)
            })
        };
        let (new, old) = self.ring.split_at(self.next);
        let (new, old) = match until >= self.current {
            true => (new, old),
            false => {
                let new = new.get(..up_to(new)).unwrap_or(new);
                let old = match new {
                    [] => old.get(..up_to(old)).unwrap_or(old),
                    _ => old,
                };
                (new, old)
            }
        };
        new.iter()
            .rev()
            .chain(old.iter().rev())
            .map_while(Option::as_ref)
            .take_while(move |logged| logged.generation > stamp)
            .map(|logged| (logged.hook, &logged.region))
    }

    /// The regions published after `stamp` that the ring still remembers, newest first, each with its generation and its hook.
    /// Cost: O(1) for each.
    pub fn edits_since(&self, stamp: Generation) -> impl Iterator<Item = (Generation, H, &Region)> {
        let (new, old) = self.ring.split_at(self.next);
        new.iter()
            .rev()
            .chain(old.iter().rev())
            .map_while(|place| place.as_ref())
            .take_while(move |logged| logged.generation > stamp)
            .map(|logged| (logged.generation, logged.hook, &logged.region))
    }

    /// Whether everything published after `stamp` is still in the ring.
    pub fn remembers(&self, stamp: Generation) -> bool {
        stamp >= self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Ports;

    fn region(port: u16) -> Pattern {
        Pattern {
            destination_ports: Ports::one(port),
            ..Pattern::ANY
        }
    }

    fn ports(log: &RegionLog<()>, stamp: Generation) -> Option<Vec<u16>> {
        match log.since(stamp) {
            Since::Fresh => Some(Vec::new()),
            Since::Regions(regions) => Some(
                regions
                    .map(|(_, r)| r.pattern.destination_ports.first)
                    .collect(),
            ),
            Since::Lost => None,
        }
    }

    /// Every stamp sees exactly the regions after it, or is told that some are gone; compared with a list that forgets
    /// nothing, for every ring size and commit size of a small world.
    #[test]
    fn every_stamp_sees_what_came_after_it() {
        for capacity in 1..9 {
            for sizes in [[1, 1, 1, 1, 1, 1], [2, 1, 3, 1, 2, 1], [1, 4, 1, 0, 5, 1]] {
                let mut log = RegionLog::new(capacity);
                let mut all: Vec<(Generation, u16)> = Vec::new();
                let mut port = 0;
                for size in sizes {
                    let mut change = Change::nothing();
                    let mut wide = Vec::new();
                    for _ in 0..size {
                        port += 1;
                        change = change.touches("hook", View::Routed, region(port));
                        wide.push(port);
                    }
                    let generation = log.publish(&change, |_| ());
                    if size > capacity {
                        wide = Vec::from([0]);
                    }
                    all.extend(wide.iter().map(|port| (generation, *port)));
                    let mut stamp = Generation::FIRST;
                    while stamp <= log.current() {
                        let mut expected: Vec<u16> = all
                            .iter()
                            .filter(|(g, _)| *g > stamp)
                            .map(|(_, port)| *port)
                            .collect();
                        expected.reverse();
                        let forgotten = expected.len() > capacity;
                        assert_eq!(log.many_since(stamp), forgotten || expected.len() > FEW);
                        let mut until = stamp;
                        while until <= log.current() && !forgotten {
                            let between: Vec<u16> = all
                                .iter()
                                .rev()
                                .filter(|(g, _)| *g > stamp && *g <= until)
                                .map(|(_, port)| *port)
                                .collect();
                            let logged = log.between(stamp, until);
                            let logged: Vec<u16> = logged
                                .map(|(_, r)| r.pattern.destination_ports.first)
                                .collect();
                            assert_eq!(logged, between, "{capacity} {sizes:?} {stamp} {until}");
                            until = until.successor();
                        }
                        assert_eq!(
                            ports(&log, stamp),
                            (!forgotten).then_some(expected),
                            "{capacity} {sizes:?} {stamp}"
                        );
                        stamp = stamp.successor();
                    }
                }
            }
        }
    }
}
