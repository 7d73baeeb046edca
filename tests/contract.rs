//! A hook and a destiny of a user's own use exactly what the crate's own use: a rate meter, outside the crate, first as one
//! hook among others, then in a pipeline whose destiny has a shape of its own.

use core::fmt;

use gufc::cache::{Config, FlowCache};
use gufc::destiny::Destiny;
use gufc::epoch::{Change, View};
use gufc::hook::{Context, Hook, HookSet, Judge, Judgement, Recheck, Stage, Stages, Views};
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::interest::{Scratch, Signals, Trigger};
use gufc::key::{FlowKey, Pattern, Protocol, Tuple};
use gufc::packet::Packet;
use gufc::pipeline::{Pipeline, Walk};
use gufc::testing::toy::ToyPacket;
use gufc::time::{Duration, Instant};
use gufc::verdict::{By, Path, Verdict};

/// Token buckets, one for each destination address: `rate` packets a second, bursts of `burst`.
struct RateMeter {
    rate: u64,
    burst: u64,
    /// What it has a say in.
    pattern: Pattern,
    buckets: Vec<(core::net::IpAddr, u64, Instant)>,
    dropped: u64,
}

impl RateMeter {
    fn new(rate: u64, burst: u64, pattern: Pattern) -> Self {
        Self {
            rate,
            burst,
            pattern,
            buckets: Vec::new(),
            dropped: 0,
        }
    }

    /// The edit of a running meter: everything that it metered or will meter may fare differently.
    fn set_pattern(&mut self, pattern: Pattern) -> Change {
        let old = core::mem::replace(&mut self.pattern, pattern);
        Change::nothing()
            .touches("meter", View::Routed, old)
            .touches("meter", View::Routed, pattern)
    }

    fn bucket(&mut self, address: core::net::IpAddr, now: Instant) -> usize {
        if let Some(at) = self.buckets.iter().position(|(held, ..)| *held == address) {
            return at;
        }
        self.buckets.push((address, self.burst, now));
        self.buckets.len() - 1
    }

    fn admit(&mut self, bucket: usize, context: &mut Context) -> Option<Verdict> {
        let (_, tokens, since) = &mut self.buckets[bucket];
        let earned = (context.now - *since).as_secs() * self.rate;
        if earned > 0 {
            *tokens = (*tokens + earned).min(self.burst);
            *since = context.now;
        }
        if *tokens > 0 {
            *tokens -= 1;
            return None;
        }
        self.dropped += 1;
        context.by = By {
            hook: "meter",
            rule: None,
        };
        Some(Verdict::Drop)
    }
}

impl Hook for RateMeter {
    /// The bucket.
    type Step = usize;

    fn name(&self) -> &'static str {
        "meter"
    }

    fn stages(&self) -> Stages {
        Stages::of(Stage::Filter)
    }

    fn describe(&self, bucket: &usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bucket {bucket}, {} tokens", self.buckets[*bucket].1)
    }
}

impl<P: Packet> Judge<P> for RateMeter {
    fn have_interest(&self, flow: &P::Key) -> Option<Trigger> {
        self.pattern.contains(flow).then_some(Trigger::NONE)
    }

    fn judge(
        &mut self,
        _: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<usize>,
    ) -> Judgement {
        let bucket = self.bucket(packet.key().destination().address, context.now);
        *step = Some(bucket);
        match self.admit(bucket, context) {
            None => Judgement::Continue,
            Some(verdict) => Judgement::Finish {
                verdict,
                constant: false,
            },
        }
    }

    fn run(
        &mut self,
        _: Stage,
        bucket: &usize,
        _: &mut P,
        context: &mut Context,
    ) -> Option<Verdict> {
        self.admit(*bucket, context)
    }

    fn recheck(&mut self, step: Option<&usize>, flow: &P::Key) -> Recheck<usize> {
        match (step, self.pattern.contains(flow)) {
            (Some(_), true) => Recheck::Keep,
            (Some(_), false) => Recheck::Replace(None),
            (None, _) => Recheck::Judge,
        }
    }
}

fn flow(text: &str) -> ToyPacket {
    ToyPacket::new(text.parse::<Tuple>().expect("a tuple"))
}

#[test]
fn a_rate_meter_is_a_hook_like_any_other() {
    let dns = Pattern {
        protocol: Some(Protocol::UDP),
        ..Pattern::ANY
    };
    let hooks = (
        Filter::new("filter", 8, 1, Policy::Accept),
        RateMeter::new(1, 3, dns),
    );
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([1, 2]), hooks).expect("a cache");
    let query = flow("udp 10.0.0.1:5000 > 192.0.2.53:53");
    let at = |seconds| Instant::from_secs(seconds);

    let verdicts: Vec<_> = (0..5)
        .map(|_| cache.process(&mut query.clone(), at(1)))
        .collect();
    assert_eq!(verdicts[0].path, Path::Miss);
    assert!(
        verdicts[1..]
            .iter()
            .all(|outcome| outcome.path == Path::Hit),
        "{verdicts:?}"
    );
    let passed: Vec<_> = verdicts
        .iter()
        .map(|outcome| outcome.verdict.is_accept())
        .collect();
    assert_eq!(passed, [true, true, true, false, false], "a burst of three");
    assert_eq!(
        verdicts[4].by,
        By {
            hook: "meter",
            rule: None
        }
    );
    assert!(
        cache.process(&mut query.clone(), at(2)).verdict.is_accept(),
        "a second earns a token"
    );

    // A flow that the meter has no interest in is no dependency of it.
    let mut web = flow("tcp 10.0.0.1:5000 > 192.0.2.53:80");
    let outcomes: Vec<_> = (0..9).map(|_| cache.process(&mut web, at(2))).collect();
    assert!(outcomes.iter().all(|outcome| outcome.verdict.is_accept()));

    // An edit through the one door is seen by the next packet.
    let web_only = Pattern {
        protocol: Some(Protocol::TCP),
        ..Pattern::ANY
    };
    cache
        .edit(|(_, meter)| Ok::<_, core::convert::Infallible>(((), meter.set_pattern(web_only))))
        .expect("an edit");
    let dropped = (0..9)
        .filter(|_| !cache.process(&mut web, at(2)).verdict.is_accept())
        .count();
    assert_eq!(dropped, 9, "the bucket of the address is empty");
    assert!(
        cache.process(&mut query.clone(), at(2)).verdict.is_accept(),
        "no longer metered"
    );
    assert_eq!(cache.hooks().1.dropped, 2 + 9);
    assert_eq!(cache.check(), Ok(()));
}

/// A pipeline with a destiny of its own shape: not one optional step a hook, but the three numbers that it needs.
struct Tight {
    meter: RateMeter,
    marks: u32,
}

#[derive(Debug, Default)]
struct TightDestiny {
    bucket: u32,
    mark: u16,
    metered: bool,
}

impl Destiny for TightDestiny {
    fn trigger(&self) -> Trigger {
        Trigger::NONE
    }

    fn asked(&self, _: Signals) -> HookSet {
        HookSet::NONE
    }
}

impl Pipeline for Tight {
    type Destiny = TightDestiny;

    fn hooks_named(&self, name: &str) -> HookSet {
        if name == "meter" {
            HookSet::one(0)
        } else {
            HookSet::NONE
        }
    }

    fn release(&mut self, destiny: TightDestiny) {
        self.marks -= u32::from(destiny.mark != 0);
    }

    fn describe(&self, destiny: &TightDestiny, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "  mark {} and meter by bucket {}",
            destiny.mark, destiny.bucket
        )
    }
}

impl<P: Packet> Walk<P> for Tight {
    fn judge(
        &mut self,
        packet: &mut P,
        context: &mut Context,
        destiny: &mut TightDestiny,
        _: HookSet,
        _: &mut Scratch,
    ) -> Judgement {
        self.marks += u32::from(destiny.mark == 0);
        destiny.mark = packet.key().destination().port | 1;
        destiny.metered = self.meter.pattern.contains(&packet.key());
        destiny.bucket =
            self.meter
                .bucket(packet.key().destination().address, context.now) as u32;
        match self.run(&*destiny, packet, context) {
            Verdict::Accept => Judgement::Continue,
            verdict => Judgement::Finish {
                verdict,
                constant: false,
            },
        }
    }

    fn settle(
        &mut self,
        _: &P,
        _: &mut Context,
        verdict: Verdict,
        _: &mut TightDestiny,
    ) -> Verdict {
        verdict
    }

    fn fits(&self, _: &TightDestiny, _: &P, _: &Context) -> bool {
        true
    }

    fn run(&mut self, destiny: &TightDestiny, _: &mut P, context: &mut Context) -> Verdict {
        context.mark = u32::from(destiny.mark);
        let verdict = if destiny.metered {
            self.meter.admit(destiny.bucket as usize, context)
        } else {
            None
        };
        verdict.unwrap_or(Verdict::Accept)
    }

    fn recheck(&mut self, _: &mut TightDestiny, touched: HookSet, _: &Views<P::Key>) -> HookSet {
        touched
    }
}

#[test]
fn a_destiny_may_have_a_shape_of_its_own() {
    let hooks = Tight {
        meter: RateMeter::new(1, 2, Pattern::ANY),
        marks: 0,
    };
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([1, 2]), hooks).expect("a cache");
    let mut packet = flow("udp 10.0.0.1:5000 > 192.0.2.53:52");
    let outcomes: Vec<_> = (0..3)
        .map(|_| cache.process(&mut packet, Instant::from_secs(1)))
        .collect();
    assert_eq!(
        outcomes.iter().map(|o| o.path).collect::<Vec<_>>(),
        [Path::Miss, Path::Hit, Path::Hit]
    );
    assert_eq!(
        outcomes.iter().map(|o| o.mark).collect::<Vec<_>>(),
        [53, 53, 53]
    );
    assert_eq!(outcomes[2].verdict, Verdict::Drop);
    assert_eq!(cache.hooks().marks, 1);
    cache.maintain(Instant::from_secs(1) + Duration::from_secs(3600), 10);
    assert_eq!(
        (cache.len(), cache.hooks().marks),
        (0, 0),
        "the destiny came back when its session ended"
    );
}

#[test]
fn an_edit_that_fails_leaves_nothing_behind() {
    let filter = Filter::new("filter", 1, 1, Policy::Accept);
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([1, 2]), (filter,)).expect("a cache");
    let drop = || "drop".parse().expect("a rule");
    let before = cache.generation();
    let (_, first) = cache
        .edit(|(filter,)| filter.insert(Place::Last, drop()))
        .expect("room for one");
    assert_eq!(first, before.successor());
    assert!(
        cache
            .edit(|(filter,)| filter.insert(Place::Last, drop()))
            .is_err()
    );
    assert_eq!(cache.generation(), first);
    assert_eq!(cache.hooks().0.len(), 1);
}

/// A change under a name that no hook has makes every hook look again: a mistake costs time, not freshness.
#[test]
fn a_change_of_nobody_is_a_change_of_all() {
    let filter = Filter::new("filter", 1, 1, Policy::Accept);
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([1, 2]), (filter,)).expect("a cache");
    let mut packet = flow("udp 10.0.0.1:5000 > 192.0.2.53:53");
    let _ = cache.process(&mut packet, Instant::from_secs(1));
    let misnamed = |(filter,): &mut (Filter,)| {
        let (id, _) = filter.insert(Place::Last, "drop".parse().expect("a rule"))?;
        let change = Change::nothing().touches("fitler", View::Routed, Pattern::ANY);
        Ok::<_, gufc::hooks::filter::EditError>((id, change))
    };
    cache.edit(misnamed).expect("room");
    let outcome = cache.process(&mut packet, Instant::from_secs(1));
    assert_eq!(outcome.verdict, Verdict::Drop);
}
