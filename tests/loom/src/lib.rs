//! The ring of transactions under every interleaving that the C11 memory model allows, within bounds.
//!
//! `ring.rs` is compiled here as it stands, with the checker's atomics and locks in place of the machine's. The property is the
//! promise of freshness: once a generation is visible, no shard judges by older rules.
#![cfg(test)]

extern crate alloc;

mod epoch {
    pub(crate) use gufc::epoch::Generation;
}

#[path = "."]
mod shard {
    #[path = "../../../src/shard/ring.rs"]
    pub(crate) mod ring;

    mod sync {
        pub(super) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
        pub(super) use loom::sync::{Arc, Mutex, RwLock};
    }
}

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;
use shard::ring::{Control, Subscriber};

/// At most so many forced switches of threads: enough for every known bug of such rings, and finished in a minute.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// A shard that judges: its rules are a version, and what it is asked to prove is that they are never older than what was
/// visible when the packet came.
struct Judge {
    subscriber: Subscriber<u64>,
    rules: u64,
}

impl Judge {
    fn catch_up(&mut self) {
        let rules = &mut self.rules;
        self.subscriber.catch_up(|version, generation| {
            assert_eq!(*version, *rules + 1, "in order, none twice, none left out");
            assert_eq!(*version, generation.number());
            *rules = *version;
        });
    }

    fn park(&mut self) {
        self.subscriber.park();
    }

    fn wake(&mut self) {
        let rules = &mut self.rules;
        self.subscriber.wake(|version, _| *rules = *version);
    }

    /// A packet comes while this generation is known to be visible.
    fn judge(&self, visible: &AtomicU64) {
        let visible = visible.load(Ordering::Acquire);
        assert!(
            self.rules >= visible,
            "judged by {} when {visible} was visible",
            self.rules
        );
    }
}

fn setup(shards: usize, capacity: usize) -> (Control<u64>, Vec<Judge>, Arc<AtomicU64>) {
    let (control, subscribers) = Control::new(shards, capacity);
    let judges = subscribers
        .into_iter()
        .map(|subscriber| Judge {
            subscriber,
            rules: 0,
        })
        .collect();
    (control, judges, Arc::new(AtomicU64::new(0)))
}

/// Publishes versions one after the other, and tells the wire as soon as one is visible.
fn publish(control: &Control<u64>, visible: &AtomicU64, versions: u64) {
    for version in 1..=versions {
        if let Ok(generation) = control.publish(version) {
            assert_eq!(generation.number(), version);
        } else {
            return;
        }
        let generation = control.generation();
        if control.is_visible(generation) {
            visible.store(generation.number(), Ordering::Release);
        }
    }
    let generation = control.generation();
    if control.is_visible(generation) {
        visible.store(generation.number(), Ordering::Release);
    }
}

#[test]
fn nothing_is_judged_by_rules_older_than_what_is_visible() {
    check(|| {
        let (control, judges, visible) = setup(2, 2);
        let threads: Vec<_> = judges
            .into_iter()
            .map(|mut judge| {
                let visible = Arc::clone(&visible);
                thread::spawn(move || {
                    // A burst: the packets came before the shard caught up, or while it did.
                    judge.catch_up();
                    judge.judge(&visible);
                    judge.subscriber
                })
            })
            .collect();
        publish(&control, &visible, 1);
        let kept: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        drop(kept);
    });
}

#[test]
fn a_shard_that_lags_stops_the_publisher_and_misses_nothing() {
    check(|| {
        // A ring of one: the second edit has to wait for the shard.
        let (control, mut judges, visible) = setup(1, 1);
        let mut judge = judges.pop().unwrap();
        let shard = {
            let visible = Arc::clone(&visible);
            thread::spawn(move || {
                for _ in 0..2 {
                    judge.catch_up();
                    judge.judge(&visible);
                }
                judge.rules
            })
        };
        publish(&control, &visible, 2);
        let published = control.generation().number();
        let rules = shard.join().unwrap();
        assert!(rules <= published);
        assert!(published == 2 || control.backlogs() == 1);
    });
}

#[test]
fn a_parked_shard_wakes_to_what_was_published() {
    check(|| {
        let (control, mut judges, visible) = setup(1, 2);
        let mut judge = judges.pop().unwrap();
        let shard = {
            let visible = Arc::clone(&visible);
            thread::spawn(move || {
                judge.park();
                judge.wake();
                judge.judge(&visible);
                judge.catch_up();
                judge.judge(&visible);
                judge.subscriber
            })
        };
        publish(&control, &visible, 1);
        drop(shard.join().unwrap());
    });
}

#[test]
fn two_publishers_take_turns() {
    check(|| {
        let (control, mut judges, _) = setup(1, 4);
        let other = {
            let control = control.clone();
            thread::spawn(move || control.publish(0).is_ok())
        };
        let ours = control.publish(0).is_ok();
        assert!(other.join().unwrap() && ours);
        let mut seen = Vec::new();
        let judge = &mut judges[0];
        judge
            .subscriber
            .catch_up(|_, generation| seen.push(generation.number()));
        assert_eq!(seen, [1, 2]);
    });
}

#[test]
fn what_is_acknowledged_late_is_visible_late() {
    // A shard that drives a NIC: it has taken the edit, and some flow is still forwarded by older rules.
    check(|| {
        let (control, mut judges, _) = setup(1, 2);
        let withdrawn = Arc::new(AtomicBool::new(false));
        let mut judge = judges.pop().unwrap();
        let shard = {
            let withdrawn = Arc::clone(&withdrawn);
            thread::spawn(move || {
                if let Some((generation, _)) = judge.subscriber.take() {
                    withdrawn.store(true, Ordering::Relaxed);
                    judge.subscriber.acknowledge(generation);
                }
                judge.subscriber
            })
        };
        let generation = control.publish(1).unwrap();
        if control.is_visible(generation) {
            assert!(withdrawn.load(Ordering::Relaxed));
        }
        drop(shard.join().unwrap());
    });
}

/// The rule by which replies find their flows across shards: whoever transmits announces first; whoever receives polls its queue
/// first and reads its inbox second. `polls_first` says whether the receiver keeps to it.
fn announce(polls_first: bool) {
    check(move || {
        let inbox = Arc::new(loom::sync::Mutex::new(false));
        let wire = Arc::new(AtomicBool::new(false));
        let sender = {
            let (inbox, wire) = (Arc::clone(&inbox), Arc::clone(&wire));
            thread::spawn(move || {
                *inbox.lock().unwrap() = true;
                // The packet is sent, and answered at once.
                wire.store(true, Ordering::Release);
            })
        };
        let poll = || wire.load(Ordering::Acquire);
        let read = || *inbox.lock().unwrap();
        let (reply, announced) = if polls_first {
            let reply = poll();
            (reply, read())
        } else {
            let announced = read();
            (poll(), announced)
        };
        assert!(!reply || announced, "a reply that nobody has announced");
        sender.join().unwrap();
    });
}

#[test]
fn a_reply_finds_its_announcement() {
    announce(true);
}

#[test]
#[should_panic(expected = "a reply that nobody has announced")]
fn a_reply_overtakes_its_announcement_where_inboxes_are_read_first() {
    announce(false);
}
