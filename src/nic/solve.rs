//! Ports whose replies hash home: solved, not searched.
//!
//! Apart from the hash because this is algebra over two elements. A Toeplitz hash is linear, so the hash of a tuple is that of
//! the tuple with the free port bits cleared, XOR one word for each free bit that is set. Which port leads to bucket `b` is a
//! system of linear equations in the free bits:
//!
//! ```text
//!   base ^ p15 w15 ^ p14 w14 ^ ... ^ p0 w0  =  b      in the low bits of the hash that choose a bucket
//!
//!   rows     one for each bit of the bucket's number, at most 16
//!   columns  one for each free bit of the port
//! ```
//!
//! Gauss's elimination brings the columns into a basis once for a key and a field ([`PortSolver`]); then each target costs one
//! pass over the basis, and all its solutions are one of them XOR the combinations of the kernel: with `r` independent columns
//! among `f` free bits, `2^(f - r)` ports lead to each of the `2^r` buckets that can be reached, and none to the others.
//!
//! Under [`Symmetry::OrXor`](super::Symmetry::OrXor) a bit's word depends on the other end's port; the solver is then made for
//! that port. Under a symmetric key of period 16 the words of source and destination ports are the same.

use super::indirection::{Bucket, Indirection, Queue};
use super::rss::Rss;
use crate::key::Fields;

/// Which end of the tuple has the free port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The source port.
    Source,
    /// The destination port: where a reply to a translated source arrives.
    Destination,
}

impl End {
    fn with(self, flow: &Fields, port: u16) -> Fields {
        match self {
            Self::Source => Fields {
                source_port: port,
                ..*flow
            },
            Self::Destination => Fields {
                destination_port: port,
                ..*flow
            },
        }
    }
}

/// The equations of one key, one end, and one set of free bits, solved as far as they do not depend on the flow.
///
/// ```
/// use gufc::key::{FlowKey, Tuple};
/// use gufc::nic::{End, Indirection, PortSolver, Queue, Rss, RssKey};
///
/// let (rss, table) = (Rss::new(RssKey::MICROSOFT), Indirection::equal(7, 8));
/// // Masqueraded as 192.0.2.1, which port makes the server's answer come back to queue 5?
/// let reply: Tuple = "tcp 198.51.100.7:443 > 192.0.2.1:0".parse()?;
/// let solver = PortSolver::new(&rss, &reply.fields(), End::Destination, 0x7fff, table.bits());
/// let port = solver.ports_to(&table, Queue(5), &reply.fields(), 0x8000, 1).next().unwrap();
///
/// assert!(port >= 0x8000);
/// let reply: Tuple = format!("tcp 198.51.100.7:443 > 192.0.2.1:{port}").parse()?;
/// assert_eq!(table.queue(rss.hash(&reply.fields())), Queue(5));
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PortSolver {
    rss: Rss,
    end: End,
    free: u16,
    mask: u32,
    /// By leading bit of the bucket's number: a bucket difference with that leading bit, and the port bits that make it.
    basis: [(u16, u16); 16],
    /// Port bits that change no bucket, the first `kernel_len` of them independent.
    kernel: [u16; 16],
    kernel_len: u32,
}

impl PortSolver {
    /// The solver for ports at `end` of flows like `flow` (same family and protocol; under
    /// [`Symmetry::OrXor`](super::Symmetry::OrXor) also the same port at the other end) whose bits in `free` may be chosen, and
    /// for tables of 2^`bits` buckets.
    ///
    /// Cost: one hash for each free bit, and at most 16 × 16 steps of elimination.
    pub fn new(rss: &Rss, flow: &Fields, end: End, free: u16, bits: u32) -> Self {
        let mut solver = Self {
            rss: rss.clone(),
            end,
            free,
            mask: (1u32 << bits.min(16)) - 1,
            basis: [(0, 0); 16],
            kernel: [0; 16],
            kernel_len: 0,
        };
        let zero = rss.hash(&end.with(flow, 0));
        for bit in (0..16).map(|bit| 1u16 << bit) {
            if free & bit == 0 {
                continue;
            }
            let word = (rss.hash(&end.with(flow, bit)) ^ zero) & solver.mask;
            let (rest, made) = solver.reduce(word as u16);
            if rest == 0 {
                if let Some(place) = solver.kernel.get_mut(solver.kernel_len as usize) {
                    *place = made ^ bit;
                    solver.kernel_len += 1;
                }
            } else if let Some(place) = solver.basis.get_mut(rest.ilog2() as usize) {
                *place = (rest, made ^ bit);
            }
        }
        solver
    }

    /// What is left of a bucket difference when the basis has made what it can, and the port bits for that.
    #[inline]
    fn reduce(&self, mut difference: u16) -> (u16, u16) {
        let mut made = 0;
        for (word, port) in self.basis.iter().rev() {
            // The word's leading bit is set in the difference exactly if XOR makes the difference smaller.
            if *word != 0 && difference ^ word < difference {
                difference ^= word;
                made ^= port;
            }
        }
        (difference, made)
    }

    /// How many buckets each flow's ports can reach: a power of two.
    pub fn reach(&self) -> u32 {
        1 << (self.free.count_ones() - self.kernel_len)
    }

    /// How many ports lead to each bucket that can be reached: a power of two.
    pub fn ports_each(&self) -> u32 {
        1 << self.kernel_len
    }

    /// All ports, `fixed` in the bits that are not free, with which `flow` falls into `bucket`: each once, in an order that
    /// `turn` rotates. Empty where the bucket cannot be reached.
    ///
    /// Cost: one hash and one pass over the basis; then one XOR a port.
    pub fn ports(&self, flow: &Fields, bucket: Bucket, fixed: u16, turn: u32) -> Ports {
        let fixed = fixed & !self.free;
        let base = self.rss.hash(&self.end.with(flow, fixed)) & self.mask;
        self.solutions(base as u16 ^ bucket.0, fixed, turn)
    }

    /// The first port of the ports of every bucket of `queue` in `table` that can be reached, then the second of each, and so
    /// on; each port once. `turn` says with which bucket and port to begin.
    ///
    /// Cost: one hash; O(buckets) and one pass over the basis for each bucket of the queue passed by.
    pub fn ports_to<'a>(
        &'a self,
        table: &'a Indirection,
        queue: Queue,
        flow: &Fields,
        fixed: u16,
        turn: u32,
    ) -> impl Iterator<Item = u16> + 'a {
        let fixed = fixed & !self.free;
        let base = (self.rss.hash(&self.end.with(flow, fixed)) & self.mask) as u16;
        let len = table.len() as u32;
        let reach = self.ports_each();
        (0..reach).flat_map(move |nth| {
            (0..len)
                .map(move |step| Bucket((step.wrapping_add(turn) % len) as u16))
                .filter(move |bucket| table.queue_of(*bucket) == queue)
                .filter_map(move |bucket| {
                    self.solutions(base ^ bucket.0, fixed, turn.wrapping_add(nth))
                        .next()
                })
        })
    }

    fn solutions(&self, difference: u16, fixed: u16, turn: u32) -> Ports {
        let (rest, made) = self.reduce(difference);
        Ports {
            kernel: self.kernel,
            port: fixed ^ made,
            turn,
            next: 0,
            end: if rest == 0 { self.ports_each() } else { 0 },
        }
    }
}

/// The ports of one bucket.
#[derive(Clone, Debug)]
pub struct Ports {
    kernel: [u16; 16],
    port: u16,
    turn: u32,
    next: u32,
    end: u32,
}

impl Iterator for Ports {
    type Item = u16;

    #[inline]
    fn next(&mut self) -> Option<u16> {
        if self.next >= self.end {
            return None;
        }
        let mut which = self.next.wrapping_add(self.turn) & (self.end - 1);
        self.next += 1;
        let mut port = self.port;
        for bits in &self.kernel {
            if which == 0 {
                break;
            }
            if which & 1 == 1 {
                port ^= bits;
            }
            which >>= 1;
        }
        Some(port)
    }
}

/// What [`HomePorts::choose`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A free port whose replies come to the wanted queue.
    Home(u16),
    /// A free port, but replies go to another queue: none that leads home was free within the tries, or none leads there.
    Away(u16),
    /// No free port within the tries.
    None,
}

/// A block of ports: those that have `fixed` in the bits that are not `free`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortBlock {
    /// The bits that all have.
    pub fixed: u16,
    /// The bits that differ.
    pub free: u16,
}

/// Chooses ports: those that lead home first, others where it must, within a bounded number of tries, counted.
///
/// Ports that lead home are other ports for every queue, so shards never choose the same. Of ports that lead elsewhere each shard
/// needs a block of its own, which no shard uses for the first purpose.
#[derive(Clone, Debug)]
pub struct HomePorts {
    /// Ports asked about, at most, that lead home; and again as many of all others.
    pub tries: u32,
    /// Ports of this shard alone, for when none leads home.
    pub away_block: PortBlock,
    /// Choices that lead home.
    pub home: u64,
    /// Choices that do not.
    pub away: u64,
    /// Times that there was no choice.
    pub none: u64,
}

impl HomePorts {
    /// A chooser that asks about at most `tries` ports of each kind.
    pub const fn new(tries: u32, away_block: PortBlock) -> Self {
        Self {
            tries,
            away_block,
            home: 0,
            away: 0,
            none: 0,
        }
    }

    /// A port for `reply` (the tuple of the answers, its free port of no account) that leads to `queue` and is free, by
    /// `is_free`. `turn` spreads the choices; take it from a source of randomness.
    ///
    /// Cost: at most `2 tries` calls of `is_free`, and that of [`PortSolver::ports_to`].
    #[expect(clippy::too_many_arguments, reason = "each is one fact of the choice")]
    pub fn choose(
        &mut self,
        solver: &PortSolver,
        table: &Indirection,
        queue: Queue,
        reply: &Fields,
        fixed: u16,
        turn: u32,
        mut is_free: impl FnMut(u16) -> bool,
    ) -> Choice {
        let home = solver
            .ports_to(table, queue, reply, fixed, turn)
            .take(self.tries as usize)
            .find(|port| is_free(*port));
        if let Some(port) = home {
            self.home += 1;
            return Choice::Home(port);
        }
        // An odd stride visits every value of the free bits.
        let PortBlock { fixed, free } = self.away_block;
        let away = (0..self.tries)
            .map(|step| {
                fixed & !free | scatter(step.wrapping_mul(0x9e37_79b1).wrapping_add(turn), free)
            })
            .find(|port| is_free(*port));
        match away {
            Some(port) => {
                self.away += 1;
                Choice::Away(port)
            }
            None => {
                self.none += 1;
                Choice::None
            }
        }
    }
}

/// The low bits of `value`, put where `mask` has ones.
fn scatter(value: u32, mask: u16) -> u16 {
    let (mut port, mut at) = (0, 0);
    for bit in 0..16 {
        if mask >> bit & 1 == 1 {
            port |= ((value >> at & 1) as u16) << bit;
            at += 1;
        }
    }
    port
}

#[cfg(test)]
mod tests {
    use super::super::{Function, RssKey, Symmetry};
    use super::*;
    use crate::key::{FlowKey, Tuple};
    use alloc::vec::Vec;

    fn flow(text: &str) -> Fields {
        text.parse::<Tuple>().expect("a tuple").fields()
    }

    /// Every port that the equations give falls into the bucket, each is given once, and there are as many as a search over all
    /// ports finds.
    #[test]
    fn solving_finds_what_searching_finds() {
        let flows = [
            flow("tcp 198.51.100.7:443 > 192.0.2.1:0"),
            flow("udp [2001:db8::7]:53 > [2001:db8::1]:0"),
        ];
        let keys = [
            RssKey::MICROSOFT,
            RssKey::symmetric(0x6d5a),
            RssKey::from_seed([8, 9]),
            RssKey::new([0; 40]),
        ];
        for key in keys {
            let ways = [
                Rss::new(key),
                Rss::new(key).with_symmetry(Symmetry::Xor),
                Rss::new(key).with_symmetry(Symmetry::OrXor),
                Rss::new(key).with_function(Function::XorFold),
                Rss::new(key).with_ports_of(&[]),
            ];
            for rss in ways {
                for flow in &flows {
                    for (end, free, fixed, bits) in [
                        (End::Destination, 0x7fffu16, 0x8000u16, 7),
                        (End::Source, 0xffff, 0, 10),
                        (End::Destination, 0x00ff, 0xc300, 9),
                        (End::Destination, 0, 0x1234, 4),
                    ] {
                        let solver = PortSolver::new(&rss, flow, end, free, bits);
                        let mut searched = alloc::vec![Vec::new(); 1 << bits];
                        for port in 0..=u16::MAX {
                            if port & !free == fixed & !free {
                                let hash = rss.hash(&end.with(flow, port));
                                searched[hash as usize & ((1 << bits) - 1)].push(port);
                            }
                        }
                        let mut reached = 0;
                        for bucket in (0..1u16 << bits).step_by(13) {
                            let mut solved: Vec<u16> = solver
                                .ports(flow, Bucket(bucket), fixed, u32::from(bucket) * 7)
                                .collect();
                            solved.sort_unstable();
                            assert_eq!(solved, searched[usize::from(bucket)], "{rss:?} {end:?}");
                            reached += u32::from(!solved.is_empty());
                        }
                        assert!(reached <= solver.reach());
                        let nonempty = searched.iter().filter(|ports| !ports.is_empty()).count();
                        assert_eq!(nonempty as u32, solver.reach());
                    }
                }
            }
        }
    }

    #[test]
    fn every_port_of_a_queue_once() {
        let flow = flow("tcp 198.51.100.7:443 > 192.0.2.1:0");
        let rss = Rss::new(RssKey::MICROSOFT);
        let table = Indirection::equal(7, 5);
        let solver = PortSolver::new(&rss, &flow, End::Destination, 0x0fff, 7);
        let mut all = 0;
        for queue in (0..5).map(Queue) {
            let mut ports: Vec<u16> = solver.ports_to(&table, queue, &flow, 0x5000, 99).collect();
            all += ports.len();
            for port in &ports {
                assert_eq!(port & 0xf000, 0x5000);
                let hash = rss.hash(&End::Destination.with(&flow, *port));
                assert_eq!(table.queue(hash), queue);
            }
            ports.sort_unstable();
            ports.dedup();
            all -= ports.len();
        }
        assert_eq!(all, 0, "none twice");
    }

    #[test]
    fn falls_back_and_counts() {
        let flow = flow("tcp 198.51.100.7:443 > 192.0.2.1:0");
        let rss = Rss::new(RssKey::MICROSOFT);
        let table = Indirection::equal(7, 4);
        let solver = PortSolver::new(&rss, &flow, End::Destination, 0x7fff, 7);
        let away_block = PortBlock {
            fixed: 0x4000,
            free: 0x03ff,
        };
        let mut ports = HomePorts::new(16, away_block);
        let leads_home = |port| table.queue(rss.hash(&End::Destination.with(&flow, port))).0 == 2;
        let mut choose = |free: &dyn Fn(u16) -> bool| {
            ports.choose(&solver, &table, Queue(2), &flow, 0x8000, 5, free)
        };
        assert!(matches!(choose(&|_| true), Choice::Home(port) if leads_home(port)));
        assert!(
            matches!(choose(&|port| port < 0x8000), Choice::Away(port) if port & 0xfc00 == 0x4000)
        );
        assert_eq!(choose(&|_| false), Choice::None);
        // A queue that no bucket leads to.
        let choice = ports.choose(&solver, &table, Queue(9), &flow, 0x8000, 5, |_| true);
        assert!(matches!(choice, Choice::Away(_)));
        assert_eq!((ports.home, ports.away, ports.none), (1, 2, 1));
    }
}
