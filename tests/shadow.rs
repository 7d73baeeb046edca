//! Shadow mode: hooks look again at hits, change nothing by it, and mistakes of theirs are found.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use gufc::cache::{Config, FlowCache, OnEdit, Pace, Stats};
use gufc::epoch::{Change, View};
use gufc::hook::{Context, Hook, Judge, Judgement, Rejudged, Stage};
use gufc::hooks::conntrack::{Config as Tracking, Conntrack};
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::hooks::nat::Nat;
use gufc::hooks::route::{Routes, Target};
use gufc::hooks::socket::{Absent, Bound, Listen, Sockets};
use gufc::key::{Cidr, Endpoint, FlowKey, Pattern, Ports, Protocol, Tuple};
use gufc::observe::{Difference, Event};
use gufc::packet::{Interface, Packet};
use gufc::pipeline::{Observed, Pipeline, Shadowed, Walk};
use gufc::testing::prng::SplitMix64;
use gufc::testing::toy::{Choices, ToyPacket, packet};
use gufc::time::{Duration, Instant};
use gufc::verdict::{Consumer, Outcome, Verdict};

type Told = Rc<RefCell<Vec<Event>>>;
type Watched<H> = FlowCache<Tuple, Observed<Shadowed<H>, Box<dyn FnMut(&Event)>>>;

fn shadowed<H: Pipeline>(hooks: H, one_in: u32, config: Config) -> (Watched<H>, Told) {
    let told: Told = Rc::default();
    let log = Rc::clone(&told);
    let observer: Box<dyn FnMut(&Event)> = Box::new(move |event: &Event| {
        if matches!(event, Event::Disagreed { .. }) {
            log.borrow_mut().push(*event);
        }
    });
    let hooks = Shadowed::new(hooks, one_in, 7);
    let cache = FlowCache::new(config, Observed { hooks, observer });
    (cache.expect("a valid configuration"), told)
}

fn small() -> Config {
    Config {
        sessions: 64,
        regions: 8,
        ..Config::new([3, 4])
    }
}

fn flow(port: u16) -> ToyPacket {
    let text = format!("udp 10.0.0.1:5000 > 192.0.2.1:{port}");
    ToyPacket::new(text.parse::<Tuple>().expect("a tuple"))
}

fn send<H: Walk<ToyPacket>>(cache: &mut FlowCache<Tuple, H>, mut packet: ToyPacket) -> Outcome {
    cache.process(&mut packet, Instant::from_secs(1))
}

fn said(told: &Told) -> Vec<(&'static str, Difference)> {
    let events = told.borrow();
    let what = events.iter().map(|event| match event {
        Event::Disagreed { hook, what, .. } => (*hook, *what),
        other => panic!("{other:?}"),
    });
    what.collect()
}

/// An edit that keeps its change to itself is found out by the first packet that it should have touched.
#[test]
fn an_edit_that_names_no_flow_is_found() {
    let filter = Filter::new("filter", 8, 1, Policy::Accept);
    let (mut cache, told) = shadowed((filter,), 1, small());
    for _ in 0..3 {
        assert!(send(&mut cache, flow(53)).verdict.is_accept());
    }
    assert_eq!((cache.stats().shadowed, cache.stats().disagreed), (2, 0));
    let silently = |observed: &mut Observed<Shadowed<(Filter,)>, _>| {
        let rule = "udp dport 53 drop".parse().expect("a rule");
        let (filter,) = &mut observed.hooks.hooks;
        let (id, _lost) = filter.insert(Place::Last, rule)?;
        Ok::<_, gufc::hooks::filter::EditError>((id, Change::nothing()))
    };
    cache.edit(silently).expect("room");
    assert!(
        send(&mut cache, flow(53)).verdict.is_accept(),
        "wrong, and it is known to be"
    );
    assert_eq!(said(&told), [("filter", Difference::Step)]);
    let Event::Disagreed { flow: fields, .. } = told.borrow()[0] else {
        panic!("what else");
    };
    assert_eq!(fields, flow(53).key.fields());
    assert_eq!(cache.stats().disagreed, 1);
    // What the edit does not concern is not complained of.
    for _ in 0..3 {
        let _ = send(&mut cache, flow(54));
    }
    assert_eq!(cache.stats().disagreed, 1);
}

/// Lets packets pass by what is asked of it; wrong in one way of four.
#[derive(Debug)]
struct Broken {
    /// Reads the interface, which no key has.
    hidden: bool,
    /// Its step lets pass what its judgement does not.
    lenient: bool,
    /// Has lost its interest without saying so.
    bored: bool,
    /// Wants to be shown more without having said so.
    nosy: bool,
}

const HEALTHY: Broken = Broken {
    hidden: false,
    lenient: false,
    bored: false,
    nosy: false,
};

impl Broken {
    fn says<P: Packet<Key = Tuple>>(&self, packet: &P) -> bool {
        match self.hidden {
            true => packet.ingress() == Interface(1),
            false => packet.key().destination().port % 2 == 1,
        }
    }
}

impl Hook for Broken {
    type Step = bool;

    fn name(&self) -> &'static str {
        "broken"
    }
}

impl<P: Packet<Key = Tuple>> Judge<P> for Broken {
    fn have_interest(&self, _: &Tuple) -> Option<gufc::interest::Trigger> {
        use gufc::interest::Trigger;
        match (self.bored, self.nosy) {
            (true, _) => None,
            (_, true) => Some(Trigger::tcp(Trigger::SYN)),
            _ => Some(Trigger::NONE),
        }
    }

    fn judge(
        &mut self,
        _: Stage,
        packet: &mut P,
        _: &mut Context,
        step: &mut Option<bool>,
    ) -> Judgement {
        let passes = self.says(packet);
        *step = Some(passes);
        match passes {
            true => Judgement::Continue,
            false => Judgement::Finish {
                verdict: Verdict::Drop,
                constant: true,
            },
        }
    }

    fn run(&mut self, _: Stage, step: &bool, _: &mut P, _: &mut Context) -> Option<Verdict> {
        (!step && !self.lenient).then_some(Verdict::Drop)
    }

    fn rejudge(&self, _: Stage, packet: &P, _: &Context, step: Option<&bool>) -> Option<Rejudged> {
        let passes = self.says(packet);
        Some(Rejudged {
            keeps: step == Some(&passes),
            verdict: (!passes).then_some(Verdict::Drop),
        })
    }
}

#[test]
fn every_way_to_break_a_hook_is_found() {
    let [even, odd] = [flow(80), flow(81)];
    let elsewhere = |packet| ToyPacket {
        ingress: Interface(2),
        ..packet
    };
    let here = ToyPacket {
        ingress: Interface(1),
        ..odd
    };
    type Setting = fn(&mut Broken);
    let cases: [(Setting, [ToyPacket; 2], Option<Difference>); 5] = [
        (|_| {}, [even, odd], None),
        (
            |hook| hook.hidden = true,
            [here, elsewhere(odd)],
            Some(Difference::Step),
        ),
        (
            |hook| hook.lenient = true,
            [even, even],
            Some(Difference::Verdict),
        ),
        (
            |hook| hook.bored = true,
            [odd, odd],
            Some(Difference::Interest),
        ),
        (
            |hook| hook.nosy = true,
            [odd, odd],
            Some(Difference::Trigger),
        ),
    ];
    for (breaks, packets, what) in cases {
        let mut hook = HEALTHY;
        // What is hidden is hidden from the first; all else breaks once the flow is cached.
        breaks(&mut hook);
        let mut first = HEALTHY;
        first.hidden = hook.hidden;
        let (mut cache, told) = shadowed((first,), 1, small());
        for packet in packets {
            let _ = send(&mut cache, packet);
        }
        told.borrow_mut().clear();
        let _ = cache.edit(|observed| {
            observed.hooks.hooks.0 = hook;
            Ok::<_, Infallible>(((), Change::nothing()))
        });
        let _ = send(&mut cache, packets[1]);
        let expected: Vec<_> = what.iter().map(|what| ("broken", *what)).collect();
        assert_eq!(said(&told), expected, "{what:?}");
    }
}

type Shipped = (Conntrack<Tuple>, Routes, Filter, Sockets<Tuple>);

fn shipped() -> Shipped {
    let tracker = Conntrack::try_new(Tracking::new(256, [1, 2])).expect("memory");
    let mut routes = Routes::try_new(32).expect("memory");
    for interface in 1..=2 {
        let _ = routes.add_next_hop(Interface(interface)).expect("room");
    }
    for all in ["0.0.0.0/0", "::/0"] {
        let via = Target::Via(gufc::hooks::route::NextHopId(0));
        let _ = routes
            .insert(all.parse().expect("a prefix"), via)
            .expect("room");
    }
    let filter = Filter::new("filter", 32, 1, Policy::Accept);
    let sockets = Sockets::try_new(8, [1, 2], Absent::Refuse).expect("memory");
    (tracker, routes, filter, sockets)
}

/// An edit of any of the shipped hooks.
fn edit(chance: &mut SplitMix64, (_, routes, filter, sockets): &mut Shipped) -> Change {
    let prefix = |chance: &mut SplitMix64| -> Cidr {
        let prefixes = [
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.0.0.0/31",
            "10.0.0.2/32",
            "192.0.2.0/24",
            "::/0",
        ];
        prefixes[chance.below(6) as usize]
            .parse()
            .expect("a prefix")
    };
    match chance.below(6) {
        0 => {
            let hop = gufc::hooks::route::NextHopId(chance.below(2) as u32);
            let target = [Target::Via(hop), Target::Blackhole][chance.below(2) as usize];
            routes.insert(prefix(chance), target).expect("room").1
        }
        1 => routes
            .remove(prefix(chance))
            .map_or(Change::nothing(), |(_, change)| change),
        2 | 3 => {
            let port = chance.below(3);
            let rule = match chance.below(4) {
                0 => format!("udp dport {port} drop"),
                1 => format!("tcp dport {port} tcp flags syn reject"),
                2 => format!("ct state established tcp sport {port} accept"),
                _ => format!(
                    "ip saddr {} meta mark set 3",
                    Cidr::host([10, 0, 0, 2].into())
                ),
            };
            let inserted = filter.insert(Place::First, rule.parse().expect("a rule"));
            inserted.map_or(Change::nothing(), |(_, change)| change)
        }
        4 => {
            let Some(id) = filter.rules().next().map(|(id, ..)| id) else {
                return Change::nothing();
            };
            filter.remove(id).expect("it is there").1
        }
        _ => {
            let listen = Listen::new(Protocol::TCP, Bound::Any, 1 + chance.below(2) as u16);
            match sockets.listen(listen, Consumer(1)) {
                Ok((_, change)) => change,
                Err(_) => {
                    let id = sockets.iter().next().map(|socket| socket.id);
                    id.and_then(|id| sockets.close(id))
                        .unwrap_or(Change::nothing())
                }
            }
        }
    }
}

/// Looking again at every hit changes no verdict, no counter and no state of a hook, and the shipped hooks agree with themselves,
/// whatever is edited.
#[test]
fn a_second_look_changes_nothing_and_finds_shipped_hooks_healthy() {
    let (mut looked, mut stale, mut kept) = (0, 0, 0);
    for seed in 0..24 {
        let config = Config {
            reruns: Pace {
                per_second: if seed % 2 == 0 { 2 } else { u64::MAX },
                burst: if seed % 2 == 0 { 2 } else { u64::MAX },
            },
            ..small()
        };
        let (mut cache, told) = shadowed(shipped(), 1, config.clone());
        let mut plain: FlowCache<Tuple, _> =
            FlowCache::new(config, shipped()).expect("a valid configuration");
        let policy = [
            OnEdit::Revalidate,
            OnEdit::RevalidateWithSlack,
            OnEdit::Grandfather,
        ][seed as usize % 3];
        cache.on_edit("filter", policy).expect("a hook");
        plain.on_edit("filter", policy).expect("a hook");
        let mut chance = SplitMix64(seed);
        let mut now = Instant::from_secs(1);
        let mut hosts = Vec::new();
        for _ in 0..12 {
            hosts.push(packet(&mut Choices::new(&chance.bytes(16))));
        }
        for _ in 0..1_200 {
            now = now + Duration::from_millis(chance.below(20));
            if chance.below(12) == 0 {
                let mut again = SplitMix64(chance.0);
                let edited: Result<_, Infallible> =
                    cache.edit(|observed| Ok(((), edit(&mut chance, &mut observed.hooks.hooks))));
                let Ok(_) = edited;
                let edited: Result<_, Infallible> =
                    plain.edit(|hooks| Ok(((), edit(&mut again, hooks))));
                let Ok(_) = edited;
                continue;
            }
            let mut one = hosts[chance.below(12) as usize];
            if let (0, Some(key)) = (chance.below(2), one.key.inverse()) {
                one.key = key;
            }
            one.flags = packet(&mut Choices::new(&chance.bytes(16))).flags;
            let outcome = cache.process(&mut one.clone(), now);
            assert_eq!(outcome, plain.process(&mut one.clone(), now), "seed {seed}");
            assert_eq!(said(&told), [], "seed {seed}: {}", one.key);
        }
        let Stats {
            shadowed,
            disagreed,
            ..
        } = *cache.stats();
        assert_eq!(disagreed, 0);
        looked += shadowed;
        stale += cache.stats().stale;
        kept += cache.stats().grandfathered;
        let mut unlike = cache.stats().clone();
        unlike.shadowed = 0;
        assert_eq!(unlike, *plain.stats());
        let state = |(tracker, _, filter, sockets): &Shipped| {
            let rules: Vec<_> = filter
                .rules()
                .map(|(id, _, counter)| (id, counter))
                .collect();
            let sockets: Vec<_> = sockets.iter().collect();
            (tracker.len(), rules, sockets)
        };
        assert_eq!(state(&cache.hooks().hooks.hooks), state(plain.hooks()));
    }
    assert!(looked > 1_500, "{looked}");
    assert!(stale > 0 && kept > 0, "{stale} {kept}");
}

/// A second look at translated packets comes to the rewrites that they had, of both ends and both ways, and leaves no trace.
#[test]
fn a_second_look_finds_translations_healthy() {
    let mut nat = Nat::try_new(
        Conntrack::try_new(Tracking::new(256, [1, 2])).expect("memory"),
        8,
        [3, 4],
    )
    .expect("memory");
    for rule in [
        "udp dport 53 dnat to 192.0.2.9:5353",
        "ip saddr 10.0.0.0/8 snat to 203.0.113.4",
    ] {
        let rule = rule.parse().expect("a rule");
        let _ = nat
            .insert(gufc::hooks::nat::Place::Last, rule)
            .expect("room");
    }
    let (mut cache, told) = shadowed(
        (nat, Filter::new("filter", 8, 1, Policy::Accept)),
        1,
        small(),
    );
    let now = Instant::from_secs(1);
    for port in 0..32 {
        let mut sent = flow(if port % 2 == 0 { 53 } else { 1_000 + port });
        let source = Endpoint::new(sent.key.source().address, 5_000 + port);
        sent.key = sent
            .key
            .with(source, sent.key.destination())
            .expect("one family");
        let arrived = sent;
        let mut wire = sent;
        for _ in 0..4 {
            wire = arrived;
            assert!(cache.process(&mut wire, now).verdict.is_accept());
            assert_eq!(wire.key.source().address.to_string(), "203.0.113.4");
            let reply = wire.key.inverse().expect("an answer");
            sent.key = reply.at(Default::default());
            let answer = cache.process(&mut sent, now);
            assert!(answer.verdict.is_accept());
            assert_eq!(sent.key.destination(), source);
        }
        assert_eq!(wire.key.destination().port == 5_353, port % 2 == 0);
    }
    assert_eq!(said(&told), []);
    // Of four packets each way all but the first two of each flow were hits.
    assert_eq!(
        (cache.stats().shadowed, cache.stats().disagreed),
        (32 * 6, 0)
    );
}

/// About one hit in so many is looked at, none when off, and the seed decides which.
#[test]
fn the_share_is_the_owners() {
    for (one_in, around) in [
        (0, 0..=0),
        (1, 10_000..=10_000),
        (2, 4_700..=5_300),
        (100, 60..=150),
    ] {
        let filter = Filter::new("filter", 8, 1, Policy::Accept);
        let (mut cache, _) = shadowed((filter,), one_in, small());
        for _ in 0..=10_000 {
            let _ = send(&mut cache, flow(53));
        }
        let looked = cache.stats().shadowed;
        assert!(around.contains(&looked), "one in {one_in}: {looked}");
    }
    let region = Pattern {
        destination_ports: Ports::one(53),
        ..Pattern::ANY
    };
    let filter = Filter::new("filter", 8, 1, Policy::Accept);
    let (mut cache, _) = shadowed((filter,), 1, small());
    let _ = send(&mut cache, flow(53));
    // An entry that an edit touched is brought up to date before anybody looks.
    let _ = cache.edit(|_| {
        Ok::<_, Infallible>((
            (),
            Change::nothing().touches("filter", View::Routed, region),
        ))
    });
    let _ = send(&mut cache, flow(53));
    assert_eq!((cache.stats().shadowed, cache.stats().disagreed), (1, 0));
}
