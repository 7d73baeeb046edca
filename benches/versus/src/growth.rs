//! The slowest insert on the way from nothing to many.
//!
//! The same inserts are run several times; for each insert the least time of the runs counts, because what the structure
//! does repeats and what the machine does to it does not. The slowest of these is the row.

use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use foldhash::fast::FixedState;
use gufc::key::Key;
use gufc::trie::{LcIndex, MOVES_MAX};

use crate::exact::Map;
use crate::flows::{self, Hosts};
use crate::report::{OURS, Report};

pub fn run(report: &mut Report) {
    for (size, label) in [(1_000_000, "1M"), (4_000_000, "4M")] {
        family::<Ipv4Addr>(report, size, label);
        family::<Ipv6Addr>(report, size, label);
    }
}

fn family<A: Hosts>(report: &mut Report, size: usize, label: &str) {
    let v = A::NAME;
    let (time, moves) = (
        format!("growth slowest-insert {v} {label}"),
        format!("growth slowest-moves {v} {label}"),
    );
    let (wants_time, wants_moves) = (report.wants(&time), report.wants(&moves));
    if !wants_time && !wants_moves {
        return;
    }
    let keys = flows::flows::<A>(size, 5);
    if wants_moves {
        let mut index = LcIndex::try_new([1, 2], size).expect("memory");
        let (mut most, mut before) = (0, 0);
        for (id, key) in keys.iter().enumerate() {
            index.insert(key, id as u32).expect("room");
            let now = index.work().moves();
            most = most.max(now - before);
            before = now;
        }
        report.add(
            &moves,
            "slots and cells",
            Some(("stated", 1.0)),
            vec![
                (OURS, most as f64),
                ("stated", MOVES_MAX as f64),
                ("average", before as f64 / size as f64),
            ],
        );
    }
    if wants_time {
        // Peers start empty, as a table does whose size nobody knows; ours has its capacity by nature, and both ways to
        // make hashbrown are shown.
        let ours = slowest(&keys, || LcIndex::with_capacity(size));
        let grown = slowest(&keys, || {
            hashbrown::HashMap::<_, u32, FixedState>::with_capacity(0)
        });
        let sized = slowest(&keys, || {
            hashbrown::HashMap::<_, u32, FixedState>::with_capacity(size)
        });
        let papaya = slowest(&keys, || {
            papaya::HashMap::<_, u32, FixedState>::with_capacity(0)
        });
        let scc = slowest(&keys, || {
            scc::HashMap::<_, u32, FixedState>::with_capacity(0)
        });
        report.add(
            &time,
            "us",
            Some(("bar-100us", 1.0)),
            vec![
                (OURS, ours),
                ("bar-100us", 100.0),
                ("hashbrown", grown),
                ("hashbrown-sized", sized),
                ("papaya", papaya),
                ("scc", scc),
            ],
        );
    }
}

fn slowest<K: Key + Hash, M: Map<K>>(keys: &[K], new: impl Fn() -> M) -> f64 {
    let mut least = vec![u32::MAX; keys.len()];
    for _ in 0..4 {
        let mut map = new();
        for ((id, &key), least) in keys.iter().enumerate().zip(&mut least) {
            let start = Instant::now();
            map.insert(key, id as u32);
            let time = start.elapsed().as_nanos().min(u128::from(u32::MAX)) as u32;
            *least = (*least).min(time);
        }
    }
    f64::from(least.into_iter().max().unwrap_or(0)) / 1000.0
}
