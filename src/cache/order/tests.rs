//! Each order against a slow twin that keeps its slots in plain vectors.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

/// Who is in the slots of the tests: visits, and whether idle.
struct Slots(Vec<(u8, bool)>);

impl Tenants for Slots {
    fn is_idle(&self, slot: u32) -> bool {
        self.0[slot as usize].1
    }

    fn visits(&mut self, slot: u32) -> Option<&mut u8> {
        Some(&mut self.0[slot as usize].0)
    }
}

/// One tenant, as the twin knows it.
#[derive(Clone, Copy)]
struct Known {
    slot: u32,
    entered: u32,
}

/// The slow twin: oldest first.
struct Twin {
    eviction: Eviction,
    first: Vec<Known>,
    main: Vec<Known>,
    /// SIEVE's, as a place in `first`.
    hand: usize,
}

impl Twin {
    fn remove(&mut self, slot: u32) {
        if let Some(at) = self.first.iter().position(|known| known.slot == slot) {
            self.first.remove(at);
            if at < self.hand {
                self.hand -= 1;
            }
            if self.hand >= self.first.len() {
                self.hand = 0;
            }
        }
        self.main.retain(|known| known.slot != slot);
    }

    fn victim(&mut self, slots: &mut Slots, scan: usize, stay: u32, now: u32) -> Option<u32> {
        let old = |known: &Known| now - known.entered >= stay;
        let mut passed = None;
        for step in 1..=scan {
            match self.eviction {
                Eviction::Clock => {
                    let known = *self.first.first().filter(|known| old(known))?;
                    let (visits, idle) = &mut slots.0[known.slot as usize];
                    if step == scan || *visits == 0 {
                        return Some(known.slot);
                    }
                    *visits = 0;
                    if *idle {
                        return Some(known.slot);
                    }
                    self.first.remove(0);
                    self.first.push(known);
                }
                Eviction::Sieve => {
                    if step > self.first.len() {
                        break;
                    }
                    let known = self.first[self.hand];
                    let (visits, idle) = &mut slots.0[known.slot as usize];
                    if old(&known) {
                        let stays = *visits > 0 && !*idle;
                        *visits = 0;
                        if !stays {
                            return Some(known.slot);
                        }
                        passed = passed.or(Some(known.slot));
                    }
                    self.hand = (self.hand + 1) % self.first.len();
                }
                Eviction::S3Fifo => {
                    let all = self.first.len() + self.main.len();
                    let large = self.first.len() > 8 && self.first.len() * 10 >= all;
                    let small = self.first.first().copied().filter(old);
                    let main = self.main.first().copied().filter(old);
                    let from_small = small.is_some() && (large || main.is_none());
                    let known = if from_small { small? } else { main? };
                    let (visits, idle) = &mut slots.0[known.slot as usize];
                    let stays = if from_small { *visits > 1 } else { *visits > 0 };
                    if !stays || step == scan {
                        return Some(known.slot);
                    }
                    *visits = if from_small { 0 } else { *visits - 1 };
                    if *idle {
                        return Some(known.slot);
                    }
                    if from_small {
                        self.first.remove(0);
                    } else {
                        self.main.remove(0);
                    }
                    self.main.push(known);
                }
            }
        }
        passed
    }

    fn slots(&self) -> Vec<u32> {
        let all = self.first.iter().chain(&self.main);
        all.map(|known| known.slot).collect()
    }
}

const ROOM: u32 = 12;

fn play(eviction: Eviction, scan: usize, stay: u32, ops: &[(u8, u8)]) {
    let mut order = Order::new(eviction);
    let mut links = Links::new(ROOM as usize);
    let mut slots = Slots(vec![(0, false); ROOM as usize]);
    let mut twin = Twin {
        eviction,
        first: Vec::new(),
        main: Vec::new(),
        hand: 0,
    };
    let mut now = 5;
    for (op, argument) in ops {
        let slot = u32::from(*argument) % ROOM;
        let present = twin.slots().contains(&slot);
        match op % 8 {
            // A newcomer, in the first slot that was never used, or in a free one.
            0..=2 => {
                let used = links.0.len() as u32;
                let free = |slot: &u32| !twin.slots().contains(slot);
                let Some(slot) = (0..used.min(ROOM))
                    .find(free)
                    .or((used < ROOM).then_some(used))
                else {
                    continue;
                };
                let remembered = argument % 3 == 0;
                order.push(slot, &mut links, Tick(now), remembered);
                let known = Known { slot, entered: now };
                match remembered && eviction == Eviction::S3Fifo {
                    true => twin.main.push(known),
                    false => twin.first.push(known),
                }
                slots.0[slot as usize] = (0, false);
            }
            3 | 4 if present => {
                let (visits, _) = &mut slots.0[slot as usize];
                *visits = (*visits + 1).min(VISITS_MAX);
            }
            5 if present => {
                let newcomer = twin.first.iter().any(|known| known.slot == slot);
                let remember = order.remove(slot, &mut links);
                assert_eq!(remember, newcomer && eviction == Eviction::S3Fifo);
                twin.remove(slot);
            }
            6 if argument % 4 == 0 => slots.0[slot as usize].1 = true,
            6 => now += u32::from(argument % 4),
            7 => {
                let mut same = Slots(slots.0.clone());
                let found = order.victim(&mut links, &mut slots, scan, stay, Tick(now));
                assert_eq!(found, twin.victim(&mut same, scan, stay, now));
                assert_eq!(slots.0, same.0);
                if let Some(slot) = found {
                    order.remove(slot, &mut links);
                    twin.remove(slot);
                }
            }
            _ => {}
        }
        assert_eq!(order.slots(&links).collect::<Vec<_>>(), twin.slots());
        assert_eq!(order.len(), twin.slots().len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn orders_agree_with_their_twins(
        which in 0..3_usize,
        scan in 1..6_usize,
        stay in 0..4_u32,
        ops in prop::collection::vec(any::<(u8, u8)>(), 0..200),
    ) {
        play([Eviction::Clock, Eviction::Sieve, Eviction::S3Fifo][which], scan, stay, &ops);
    }
}

/// Who was let go is remembered for as many evictions as there is room for, and once.
#[test]
fn ghosts_are_remembered_once_and_for_a_while() {
    let mut ghosts = Ghosts::new(Eviction::S3Fifo, 4);
    let hash = |n: u64| n << 32 | n;
    ghosts.remember(hash(1));
    assert!(ghosts.recall(hash(1)));
    assert!(!ghosts.recall(hash(1)));
    ghosts.remember(hash(1));
    for n in [2, 3, 6, 7] {
        ghosts.remember(hash(n));
    }
    assert!(!ghosts.recall(hash(1)), "too long ago");
    assert!(!ghosts.recall(hash(2)), "another has its place");
    assert!(ghosts.recall(hash(6)));
    assert!(!Ghosts::new(Eviction::Clock, 4).recall(hash(1)));
}

/// A guaranteed stay is never cut short by its being counted in milliseconds.
#[test]
fn a_stay_is_covered() {
    let links = |entered| {
        let mut links = Links::new(1);
        Order::new(Eviction::Clock).push(0, &mut links, Tick::of(entered), false);
        links
    };
    for nanos in [0, 1, 999_999, 1_000_000, 123_456_789] {
        let (entered, stay) = (Instant::from_nanos(7_999_999), Duration::from_nanos(nanos));
        let links = links(entered);
        let young = |after| links.is_young(0, Tick::covering(stay), Tick::of(entered + after));
        assert!(nanos == 0 || young(stay));
        assert!(!young(stay + Duration::from_millis(3)));
    }
    assert_eq!(Tick::covering(Duration::MAX), Tick::MASK);
}
