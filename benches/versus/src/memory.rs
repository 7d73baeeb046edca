//! Bytes an entry, as the allocator sees them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::FixedState;
use gufc::key::Key;
use gufc::trie::LcIndex;

use crate::exact::Map;
use crate::flows::{self, Hosts};
use crate::report::{OURS, Report};

/// The system's allocator, and a count of the bytes that are out.
pub struct Counting;

pub static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LIVE.fetch_add(size, Ordering::Relaxed);
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

pub fn run(report: &mut Report) {
    family::<Ipv4Addr>(report);
    family::<Ipv6Addr>(report);
}

/// Sizes over one doubling of a table of 2^20: 7/8 of it, and one more.
const SIZES: [usize; 6] = [600_000, 750_000, 917_504, 917_505, 1_000_000, 1_400_000];

fn family<A: Hosts>(report: &mut Report) {
    let name = |size: usize| format!("bytes-per-entry {} {size}", A::NAME);
    let wanted: Vec<_> = SIZES
        .into_iter()
        .filter(|&size| report.wants(&name(size)))
        .collect();
    let Some(&most) = wanted.iter().max() else {
        return;
    };
    let keys = flows::flows::<A>(most, 5);
    for size in wanted {
        let keys = &keys[..size];
        let (ours, index) = bytes::<_, LcIndex<_>>(keys);
        let touched = index.touched_bytes() as f64 / size as f64;
        drop(index);
        // The worst that hashbrown has in its cycle: one entry more than 7/8 of a power of two.
        let entry = size_of::<(gufc::key::SevenTuple<A>, u32)>();
        let worst = (entry + 1) as f64 * 16.0 / 7.0;
        report.add(
            &name(size),
            "bytes",
            Some(("hashbrown-worst", 1.0)),
            vec![
                (OURS, ours),
                ("hashbrown-worst", worst),
                ("gufc-touched", touched),
                (
                    "hashbrown",
                    bytes::<_, hashbrown::HashMap<_, u32, FixedState>>(keys).0,
                ),
                (
                    "indexmap",
                    bytes::<_, indexmap::IndexMap<_, u32, FixedState>>(keys).0,
                ),
                (
                    "papaya",
                    bytes::<_, papaya::HashMap<_, u32, FixedState>>(keys).0,
                ),
                (
                    "dashmap",
                    bytes::<_, dashmap::DashMap<_, u32, FixedState>>(keys).0,
                ),
                ("scc", bytes::<_, scc::HashMap<_, u32, FixedState>>(keys).0),
            ],
        );
    }
}

/// Bytes that one entry takes in a table made for exactly as many as come.
fn bytes<K: Key + Hash, M: Map<K>>(keys: &[K]) -> (f64, M) {
    let before = LIVE.load(Ordering::Relaxed);
    let mut map = M::with_capacity(keys.len());
    for (id, &key) in keys.iter().enumerate() {
        map.insert(key, id as u32);
    }
    let after = LIVE.load(Ordering::Relaxed);
    ((after - before) as f64 / keys.len() as f64, map)
}
