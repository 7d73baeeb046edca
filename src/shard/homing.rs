//! Ports for a translator of one shard: solved for, so that answers come to its queue.

use alloc::vec::Vec;

use super::homes::ShardId;
use crate::hooks::nat::{Homed, Homing};
use crate::key::{Family, Fields, Protocol};
use crate::nic::{
    Choice, End, HomePorts, Indirection, PortBlock, PortSolver, Queue, Rss, Symmetry,
};

/// Outside ports of one shard: those from 32,768 on whose answers hash to its queue, and a block of its own from 16,384 to 32,767
/// for when none of them is free. No two shards choose the same port for answers of one tuple.
///
/// ```
/// use gufc::hooks::conntrack::{Config, Conntrack};
/// use gufc::hooks::nat::{Nat, Place};
/// use gufc::key::Tuple;
/// use gufc::nic::{Indirection, Rss, RssKey};
/// use gufc::shard::{HomingPorts, ShardId};
///
/// let (rss, table) = (Rss::new(RssKey::MICROSOFT), Indirection::equal(7, 4));
/// let tracker: Conntrack<Tuple> = Conntrack::try_new(Config::new(1024, [1, 2]))?;
/// let mut nat = Nat::try_new(tracker, 100, [3, 4])?;
/// nat.insert(Place::Last, "ip saddr 10.0.0.0/8 snat to 192.0.2.1".parse()?)?;
/// nat.set_homing(Some(Box::new(HomingPorts::new(&rss, &table, ShardId(2), 4, 32))));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct HomingPorts {
    rss: Rss,
    table: Indirection,
    queue: Queue,
    ports: HomePorts,
    /// By family and protocol, as flows come to need them.
    solvers: Vec<((Family, Protocol), PortSolver)>,
}

/// The bits of a port that leads home, besides those that are free.
const HOME: PortBlock = PortBlock {
    fixed: 0x8000,
    free: 0x7fff,
};

impl HomingPorts {
    /// The ports of the shard whose queue has its number, of `shards` (at most 16,384). `rss` and `table` are the NIC's; when the
    /// table changes, answers to ports chosen before may come to other queues, and are handed over. At most `tries` ports of each
    /// kind are asked about.
    pub fn new(rss: &Rss, table: &Indirection, shard: ShardId, shards: u16, tries: u32) -> Self {
        let bits = shards.clamp(1, 1 << 14).next_power_of_two().ilog2();
        let free = 0x3fff >> bits;
        let block = PortBlock {
            fixed: 0x4000 | (shard.0 << (14 - bits)) & 0x3fff,
            free,
        };
        Self {
            rss: rss.clone(),
            table: table.clone(),
            queue: Queue(shard.0),
            ports: HomePorts::new(tries, block),
            solvers: Vec::new(),
        }
    }

    /// What has been chosen so far, by kind.
    pub const fn ports(&self) -> &HomePorts {
        &self.ports
    }

    fn solver(&self, reply: &Fields) -> PortSolver {
        let bits = self.table.bits();
        PortSolver::new(&self.rss, reply, End::Destination, HOME.free, bits)
    }
}

impl Homing for HomingPorts {
    /// Cost: that of [`HomePorts::choose`]; under [`Symmetry::OrXor`] that of [`PortSolver::new`] as well.
    fn choose(&mut self, reply: &Fields, turn: u32, is_free: &mut dyn FnMut(u16) -> bool) -> Homed {
        let kind = (reply.family, reply.protocol);
        let anew = self.rss.symmetry() == Symmetry::OrXor;
        let fresh;
        let known = self.solvers.iter().position(|(of, _)| *of == kind);
        let solver = match known.and_then(|at| self.solvers.get(at)) {
            Some((_, solver)) if !anew => solver,
            _ => {
                fresh = self.solver(reply);
                // Few protocols have ports.
                if !anew && self.solvers.len() < 16 {
                    self.solvers.push((kind, fresh.clone()));
                }
                &fresh
            }
        };
        let (table, queue) = (&self.table, self.queue);
        let choice = self
            .ports
            .choose(solver, table, queue, reply, HOME.fixed, turn, is_free);
        match choice {
            Choice::Home(port) => Homed::Home(port),
            Choice::Away(port) => Homed::Away(port),
            Choice::None => Homed::Full,
        }
    }
}
