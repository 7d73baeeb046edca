//! What edits do to the flows that they touch, as the owner chose for each hook; and how fast.

use std::cell::RefCell;
use std::rc::Rc;

use gufc::cache::{Config, End, FlowCache, NoSuchHook, OnEdit, Pace};
use gufc::epoch::{Change, View};
use gufc::hook::{Context, Hook, Judge, Judgement, Stage};
use gufc::hooks::filter::{Filter, Place, Policy, RuleId};
use gufc::key::{FlowKey, Pattern, Tuple};
use gufc::packet::{Packet, TcpFlags};
use gufc::testing::toy::ToyPacket;
use gufc::time::Instant;
use gufc::verdict::{Path, Uncached, Verdict};

/// A hook that marks packets with what it was told last, cannot decide resets by its step, and remembers what it got back.
#[derive(Default)]
struct Marker {
    mark: u32,
    released: Rc<RefCell<Vec<u32>>>,
}

impl Marker {
    fn set(&mut self, mark: u32) -> Change {
        self.mark = mark;
        Change::nothing().touches("marker", View::Routed, Pattern::ANY)
    }
}

impl Hook for Marker {
    type Step = u32;
    fn name(&self) -> &'static str {
        "marker"
    }
    fn release(&mut self, step: u32) {
        self.released.borrow_mut().push(step);
    }
}

impl<P: Packet> Judge<P> for Marker {
    fn judge(
        &mut self,
        _: Stage,
        _: &mut P,
        context: &mut Context,
        step: &mut Option<u32>,
    ) -> Judgement {
        context.mark = self.mark;
        *step = Some(self.mark);
        Judgement::Continue
    }
    fn fits(&self, _: &u32, packet: &P, _: &Context) -> bool {
        !packet.tcp_flags().intersects(TcpFlags::RST)
    }
    fn run(&mut self, _: Stage, step: &u32, _: &mut P, context: &mut Context) -> Option<Verdict> {
        context.mark = *step;
        None
    }
}

type Cache = FlowCache<Tuple, (Marker, Filter)>;

fn cache(reruns: Pace) -> Cache {
    let config = Config {
        reruns,
        ..Config::new([1, 2])
    };
    let filter = Filter::new("filter", 10, 1, Policy::Accept);
    Cache::new(config, (Marker::default(), filter)).expect("a cache")
}

fn there(n: u32) -> ToyPacket {
    let text = format!("tcp 10.0.0.{n}:4000 > 192.0.2.1:80");
    ToyPacket::new(text.parse::<Tuple>().expect("a tuple"))
}

fn back(n: u32) -> ToyPacket {
    let there = there(n);
    ToyPacket {
        key: there.key.inverse().expect("an answer"),
        ..there
    }
}

fn at(seconds: u64) -> Instant {
    Instant::from_secs(seconds)
}

/// Drops everything to or from port 80.
fn block(cache: &mut Cache) -> [RuleId; 2] {
    let (ids, _) = cache
        .edit(|(_, filter)| {
            let (there, one) =
                filter.insert(Place::First, "tcp dport 80 drop".parse().expect("a rule"))?;
            let (back, two) =
                filter.insert(Place::First, "tcp sport 80 drop".parse().expect("a rule"))?;
            Ok::<_, gufc::hooks::filter::EditError>(([there, back], one.and(two)))
        })
        .expect("room");
    ids
}

fn mark(cache: &mut Cache, mark: u32) {
    let edit = cache.edit(|(marker, _)| Ok::<_, NoSuchHook>(((), marker.set(mark))));
    edit.expect("it does not fail");
}

fn accepts(cache: &mut Cache, mut packet: ToyPacket) -> bool {
    let accepts = cache.process(&mut packet, at(1)).verdict.is_accept();
    assert_eq!(cache.check(), Ok(()));
    accepts
}

/// Revalidation is what happens where nothing was chosen: established or not, a flow meets the new rule.
#[test]
fn revalidation_is_the_default() {
    let mut cache = cache(Pace::UNLIMITED);
    assert!(accepts(&mut cache, there(1)) && accepts(&mut cache, back(1)));
    assert!(accepts(&mut cache, there(2)));
    let _ = block(&mut cache);
    assert!(!accepts(&mut cache, there(1)) && !accepts(&mut cache, back(1)));
    assert!(!accepts(&mut cache, there(2)));
}

/// Established flows keep their destiny in both directions through any number of edits; half-open and new ones do not; what
/// has ended begins anew.
#[test]
fn established_flows_are_grandfathered() {
    let mut cache = cache(Pace::UNLIMITED);
    cache
        .on_edit("filter", OnEdit::Grandfather)
        .expect("a hook");
    assert!(accepts(&mut cache, there(1)) && accepts(&mut cache, back(1)));
    assert!(accepts(&mut cache, there(2)), "half open");
    let ids = block(&mut cache);
    assert!(accepts(&mut cache, there(1)) && accepts(&mut cache, back(1)));
    assert_eq!(cache.stats().grandfathered, 1, "both directions at once");
    assert!(
        !accepts(&mut cache, back(2)),
        "its reply comes after the edit"
    );
    assert!(!accepts(&mut cache, there(2)));
    assert!(!accepts(&mut cache, there(3)), "new");
    // Whatever else is edited: rules go, come again, the ring overflows.
    for id in ids {
        let _ = cache
            .edit(|(_, filter)| filter.remove(id))
            .expect("it is there");
    }
    assert!(accepts(&mut cache, there(2)) && accepts(&mut cache, there(3)));
    for _ in 0..200 {
        let ids = block(&mut cache);
        for id in ids {
            let _ = cache
                .edit(|(_, filter)| filter.remove(id))
                .expect("it is there");
        }
    }
    let _ = block(&mut cache);
    assert!(accepts(&mut cache, there(1)) && accepts(&mut cache, back(1)));
    // It idles out, and is a new flow.
    let outcome = cache.process(&mut there(1), at(10_000));
    assert_eq!((outcome.path, outcome.verdict), (Path::Miss, Verdict::Drop));
}

/// One hook grandfathers, the other does not: each edit does what its hook's owner chose.
#[test]
fn each_hook_has_its_own_policy() {
    let mut cache = cache(Pace::UNLIMITED);
    cache
        .on_edit("filter", OnEdit::Grandfather)
        .expect("a hook");
    assert!(accepts(&mut cache, there(1)) && accepts(&mut cache, back(1)));
    let _ = block(&mut cache);
    mark(&mut cache, 7);
    let outcome = cache.process(&mut there(1), at(1));
    assert_eq!((outcome.verdict, outcome.mark), (Verdict::Accept, 7));
    // A packet that the marker cannot decide by its step is shown to the marker, and to nobody who keeps what he has.
    mark(&mut cache, 8);
    let outcome = cache.process(&mut there(1).with_flags(TcpFlags::RST), at(1));
    assert_eq!((outcome.verdict, outcome.mark), (Verdict::Accept, 8));
    assert!(accepts(&mut cache, back(1)));
}

/// What was grandfathered looks again when its owner no longer grandfathers.
#[test]
fn grandfathering_can_end() {
    let mut cache = cache(Pace::UNLIMITED);
    cache
        .on_edit("filter", OnEdit::Grandfather)
        .expect("a hook");
    assert!(accepts(&mut cache, there(1)) && accepts(&mut cache, back(1)));
    let _ = block(&mut cache);
    assert!(accepts(&mut cache, there(1)));
    cache.on_edit("filter", OnEdit::Revalidate).expect("a hook");
    assert!(!accepts(&mut cache, there(1)) && !accepts(&mut cache, back(1)));
    assert_eq!(cache.on_edit("fliter", OnEdit::Kill), Err(NoSuchHook));
}

/// A session that an edit of a killing hook touches ends, its steps go back to their hooks, and the packet begins another.
#[test]
fn edits_can_kill() {
    let mut cache = cache(Pace::UNLIMITED);
    cache.on_edit("marker", OnEdit::Kill).expect("a hook");
    mark(&mut cache, 1);
    for n in 1..4 {
        assert!(accepts(&mut cache, there(n)) && accepts(&mut cache, back(n)));
    }
    let released = Rc::clone(&cache.hooks().0.released);
    assert!(released.borrow().is_empty());
    mark(&mut cache, 2);
    let outcome = cache.process(&mut back(1), at(1));
    assert_eq!((outcome.path, outcome.mark), (Path::Miss, 2));
    assert_eq!(*released.borrow(), [1, 1], "the steps of both directions");
    assert_eq!(cache.stats().ended[End::Killed as usize], 1);
    assert_eq!(cache.len(), 3);
    // An edit of another hook revalidates.
    let _ = block(&mut cache);
    assert!(!accepts(&mut cache, back(1)));
    assert_eq!(cache.stats().ended[End::Killed as usize], 1);
}

const SLOW: Pace = Pace {
    per_second: 2,
    burst: 2,
};

/// Beyond the budget of re-runs packets are judged by the rules of now, without the cache; with time every flow is re-run.
#[test]
fn reruns_are_paced_and_nothing_is_stale() {
    let mut cache = cache(SLOW);
    for n in 0..10 {
        assert!(accepts(&mut cache, there(n)));
    }
    let _ = block(&mut cache);
    let over = Path::Uncached(Uncached::OverBudget);
    let round = |cache: &mut Cache, second| {
        let paths = (0..10).map(|n| {
            let outcome = cache.process(&mut there(n), at(second));
            assert_eq!(outcome.verdict, Verdict::Drop, "flow {n}");
            outcome.path
        });
        let paths: Vec<_> = paths.collect();
        paths.iter().filter(|path| **path == over).count()
    };
    assert_eq!(round(&mut cache, 1), 8);
    assert_eq!(round(&mut cache, 1), 8, "those that were re-run are fresh");
    assert_eq!(round(&mut cache, 2), 6);
    assert_eq!(round(&mut cache, 3), 4);
    assert_eq!(round(&mut cache, 4), 2);
    assert_eq!(round(&mut cache, 5), 0);
    assert_eq!(cache.stats().uncached[Uncached::OverBudget as usize], 28);
    assert_eq!(cache.stats().stale, 0);
    assert_eq!(cache.check(), Ok(()));
}

/// Where the hook that was edited has slack, packets beyond the budget meet what the session has; where another was edited as
/// well, they do not.
#[test]
fn slack_is_for_hooks_that_declared_it() {
    let mut cache = cache(SLOW);
    cache
        .on_edit("marker", OnEdit::RevalidateWithSlack)
        .expect("a hook");
    for n in 0..6 {
        assert!(accepts(&mut cache, there(n)));
    }
    mark(&mut cache, 7);
    let seen: Vec<_> = (0..6)
        .map(|n| {
            let outcome = cache.process(&mut there(n), at(1));
            (outcome.path, outcome.mark)
        })
        .collect();
    assert_eq!(seen[..2], [(Path::Revisited, 7); 2]);
    assert_eq!(seen[2..], [(Path::Stale, 0); 4]);
    assert_eq!(cache.stats().stale, 4);
    // The filter has no slack: what both touch is never stale.
    let _ = block(&mut cache);
    for n in 0..6 {
        assert!(!accepts(&mut cache, there(n)), "flow {n}");
    }
    // With time all is as it should be.
    for second in 2..6 {
        for n in 0..6 {
            assert_eq!(
                cache.process(&mut there(n), at(second)).verdict,
                Verdict::Drop
            );
        }
    }
    let outcome = cache.process(&mut there(5), at(6));
    assert_eq!((outcome.path, outcome.mark), (Path::Hit, 7));
}

/// New flows have a budget of their own: beyond it they have their verdict and leave nothing behind.
#[test]
fn misses_are_paced() {
    let config = Config {
        misses: SLOW,
        ..Config::new([1, 2])
    };
    let filter = Filter::new("filter", 10, 1, Policy::Accept);
    let mut cache = Cache::new(config, (Marker::default(), filter)).expect("a cache");
    let paths: Vec<_> = (0..4)
        .map(|n| cache.process(&mut there(n), at(1)).path)
        .collect();
    let over = Path::Uncached(Uncached::OverBudget);
    assert_eq!(paths, [Path::Miss, Path::Miss, over, over]);
    assert_eq!(cache.len(), 2);
    assert_eq!(cache.process(&mut there(3), at(2)).path, Path::Miss);
    assert_eq!(cache.process(&mut there(0), at(2)).path, Path::Hit);
}
