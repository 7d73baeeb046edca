//! Mappings that are lent before anything comes: for ends that a connection between the families announces.
//!
//! Apart because nothing else keeps a mapping that has no session yet. The announcing connection does, until it announces another
//! end or ends itself (RFC 6384 section 7); what comes for the end keeps it from then on, too.

use alloc::collections::BTreeMap;

use super::mapping::Mappings;
use crate::hook::Direction;
use crate::hooks::conntrack::{ConnId, Connection, Trackable};
use crate::key::{Endpoint, Locality};
use crate::time::Instant;

/// The newest mapping of each announcing connection.
#[derive(Debug, Default)]
pub(super) struct Announced {
    kept: BTreeMap<ConnId, u32>,
}

impl Announced {
    /// The outside end of the end `inside` that `master` announces, in the pool of its own mapping `control`. What it announced
    /// before gives way. `None` where the pool lends none.
    pub(super) fn lend<K: Trackable>(
        &mut self,
        mappings: &mut Mappings<K>,
        master: &Connection<'_, K>,
        control: u32,
        inside: Endpoint,
        now: Instant,
    ) -> Option<Endpoint> {
        let pool = mappings.get(control)?.pool;
        let tuple = master.tuple(Direction::Original);
        let tuple = tuple.with(inside, tuple.destination())?;
        let tuple = tuple.at(Locality::default());
        let number = mappings.of_inside(pool, &tuple, now, |_| true).ok()?;
        mappings.join(number, None);
        self.end(mappings, master.id(), now);
        self.kept.insert(master.id(), number);
        mappings.get(number).map(|mapping| mapping.outside)
    }

    /// A connection keeps nothing any more.
    pub(super) fn end<K: Trackable>(
        &mut self,
        mappings: &mut Mappings<K>,
        master: ConnId,
        now: Instant,
    ) {
        if let Some(number) = self.kept.remove(&master) {
            mappings.leave(number, None, now);
        }
    }

    /// How many mappings are kept, all of connections that there are; for tests.
    pub(super) fn check(&self, is_alive: impl Fn(ConnId) -> bool) -> Result<u32, &'static str> {
        if !self.kept.keys().all(|id| is_alive(*id)) {
            return Err("who announces an end is there");
        }
        Ok(self.kept.len() as u32)
    }
}
