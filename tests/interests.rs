//! Two ways to be interested, one result: a hook that registers patterns and a hook that is asked about each flow leave the same
//! destinies, are shown the same packets, and are touched by the same edits.

use core::fmt;

use gufc::cache::{Config, FlowCache};
use gufc::epoch::Change;
use gufc::hook::{Context, Hook, Interests, Judge, Judgement, Stage, Stages};
use gufc::interest::{InterestId, InterestIndex, Trigger};
use gufc::key::{Cidr, FlowKey, Pattern, Ports, Protocol, Tuple};
use gufc::packet::Packet;
use gufc::testing::toy::{Choices, ToyPacket, host, packet};
use gufc::time::Instant;
use gufc::verdict::Verdict;
use proptest::prelude::*;

use crate::transparency::cases;

/// Counts what it is shown. Interested in its patterns, whichever way it says so.
struct Watcher {
    name: &'static str,
    stage: Stage,
    /// Registered, or only remembered.
    registered: Option<InterestIndex<Trigger>>,
    patterns: Vec<(Option<InterestId>, Pattern, Trigger)>,
    /// The keys of packets that it judged.
    judged: Vec<Tuple>,
}

impl Watcher {
    fn new(name: &'static str, stage: Stage, registers: bool) -> Self {
        Self {
            name,
            stage,
            registered: registers.then(|| InterestIndex::new(64, 5)),
            patterns: Vec::new(),
            judged: Vec::new(),
        }
    }

    fn add(&mut self, pattern: Pattern, priority: u64, trigger: Trigger) -> Change {
        let id = self
            .registered
            .as_mut()
            .map(|index| index.insert(pattern, priority, trigger).expect("room"));
        self.patterns.push((id, pattern, trigger));
        Change::nothing().touches(self.name, self.stage.view(), pattern)
    }

    fn remove(&mut self, pick: usize) -> Change {
        if self.patterns.is_empty() {
            return Change::nothing();
        }
        let (id, pattern, trigger) = self.patterns.swap_remove(pick % self.patterns.len());
        if let (Some(index), Some(id)) = (&mut self.registered, id) {
            assert_eq!(index.remove(id), Some(trigger));
        }
        Change::nothing().touches(self.name, self.stage.view(), pattern)
    }
}

impl Hook for Watcher {
    type Step = ();
    fn name(&self) -> &'static str {
        self.name
    }
    fn stages(&self) -> Stages {
        Stages::of(self.stage)
    }
    fn interests(&self) -> Interests<'_> {
        match &self.registered {
            Some(index) => Interests::Listed(index),
            None => Interests::Ask,
        }
    }
    fn describe(&self, (): &(), f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("watched")
    }
}

impl<P: Packet<Key = Tuple>> Judge<P> for Watcher {
    fn have_interest(&self, flow: &Tuple) -> Option<Trigger> {
        assert!(self.registered.is_none(), "who registers is not asked");
        let wants = self
            .patterns
            .iter()
            .filter(|(_, pattern, _)| pattern.contains(flow));
        wants
            .map(|(.., trigger)| *trigger)
            .reduce(|one, other| one | other)
    }
    fn judge(
        &mut self,
        _: Stage,
        packet: &mut P,
        _: &mut Context,
        step: &mut Option<()>,
    ) -> Judgement {
        let key = packet.key();
        let wanted = self
            .patterns
            .iter()
            .any(|(_, pattern, _)| pattern.contains(&key));
        assert!(
            wanted,
            "it is not called for flows that it has no interest in"
        );
        self.judged.push(key);
        *step = Some(());
        Judgement::Continue
    }
    fn run(&mut self, _: Stage, (): &(), _: &mut P, _: &mut Context) -> Option<Verdict> {
        None
    }
}

type Cache = FlowCache<Tuple, (Watcher, Watcher)>;

fn cache(registers: bool) -> Cache {
    let config = Config {
        sessions: 8,
        regions: 4,
        ..Config::new([1, 2])
    };
    let hooks = (
        Watcher::new("early", Stage::Track, registers),
        Watcher::new("late", Stage::Filter, registers),
    );
    Cache::new(config, hooks).expect("a cache")
}

fn pattern(choices: &mut Choices<'_>) -> Pattern {
    let mut side = || {
        let len = choices.one(&[0, 30, 31, 32]);
        let address = host(gufc::key::Family::V4, choices.below(4) as u8);
        (len > 0).then(|| Cidr::new(address, len)).flatten()
    };
    let (source, destination) = (side(), side());
    let ports = choices.below(4);
    Pattern {
        source,
        destination,
        destination_ports: if ports < 3 {
            Ports::one(ports)
        } else {
            Ports::ALL
        },
        protocol: choices.one(&[None, Some(Protocol::TCP), Some(Protocol::UDP)]),
        ..Pattern::ANY
    }
}

fn trigger(choices: &mut Choices<'_>) -> Trigger {
    choices.one(&[
        Trigger::NONE,
        Trigger::NONE,
        Trigger::EVERY_PACKET,
        Trigger::tcp(Trigger::SYN),
        Trigger::tcp(Trigger::FIN | Trigger::RST),
    ])
}

/// Plays packets and edits of interests to both caches; gives how often watchers judged, and how many packets there were.
fn play(bytes: &[u8]) -> (usize, usize) {
    let mut choices = Choices::new(bytes);
    let (mut listed, mut asked) = (cache(true), cache(false));
    let mut packets = 0;
    let mut now = 1;
    while !choices.is_empty() {
        match choices.below(8) {
            0 => {
                let (late, priority) = (choices.below(2) == 1, choices.below(3).into());
                let (pattern, trigger) = (pattern(&mut choices), trigger(&mut choices));
                for cache in [&mut listed, &mut asked] {
                    if cache.hooks().0.patterns.len() + cache.hooks().1.patterns.len() < 64 {
                        let edit = cache.edit(|(early, last)| {
                            let hook = if late { last } else { early };
                            Ok::<_, ()>(((), hook.add(pattern, priority, trigger)))
                        });
                        assert!(edit.is_ok());
                    }
                }
            }
            1 => {
                let (late, pick) = (choices.below(2) == 1, choices.byte());
                for cache in [&mut listed, &mut asked] {
                    let edit = cache.edit(|(early, last)| {
                        let hook = if late { last } else { early };
                        Ok::<_, ()>(((), hook.remove(pick.into())))
                    });
                    assert!(edit.is_ok());
                }
            }
            _ => {
                let sent: ToyPacket = packet(&mut choices);
                now += u64::from(choices.below(16) == 0) * 40;
                packets += 1;
                let at = Instant::from_secs(now);
                let outcomes =
                    [&mut listed, &mut asked].map(|cache| cache.process(&mut sent.clone(), at));
                assert_eq!(outcomes[0], outcomes[1], "{sent:?}");
                // Steps, triggers, stamp, what is pending: the whole destiny, as text.
                let destinies = [&listed, &asked]
                    .map(|cache| cache.explain(sent.origin, &sent.key, at).to_string());
                assert_eq!(destinies[0], destinies[1], "{sent:?}");
            }
        }
        for (one, other) in [
            (&listed.hooks().0, &asked.hooks().0),
            (&listed.hooks().1, &asked.hooks().1),
        ] {
            assert_eq!(one.judged, other.judged, "{}", one.name);
        }
        assert_eq!(listed.stats(), asked.stats());
    }
    let judged = listed.hooks().0.judged.len() + listed.hooks().1.judged.len();
    (judged, packets)
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn both_ways_to_be_interested_give_the_same_destinies(bytes in prop::collection::vec(any::<u8>(), 0..1500)) {
        let _ = play(&bytes);
    }
}

/// A trigger is why a packet of a cached flow is shown; without a pattern no packet is.
#[test]
fn triggers_say_which_packets_are_shown() {
    let flow: Tuple = "tcp 10.0.0.1:1 > 10.0.0.2:2".parse().expect("a tuple");
    let back = flow.inverse().expect("an answer");
    let (syn, ack, fin) = (0x02, 0x10, 0x11);
    // First packet, second, closing, first reply, second reply; each shown or not.
    let packets = [
        (flow, syn),
        (flow, ack),
        (flow, fin),
        (back, ack),
        (back, ack),
    ];
    for (trigger, shown) in [
        (None, [0, 0, 0, 0, 0]),
        (Some(Trigger::NONE), [1, 0, 0, 1, 0]),
        (Some(Trigger::EVERY_PACKET), [1, 1, 1, 1, 1]),
        (Some(Trigger::tcp(Trigger::FIN)), [1, 0, 1, 1, 0]),
        (
            Some(Trigger::tcp(Trigger::SYN | Trigger::ACK)),
            [1, 1, 1, 1, 1],
        ),
    ] {
        for registers in [false, true] {
            let mut cache = cache(registers);
            if let Some(trigger) = trigger {
                let edit =
                    cache.edit(|(_, late)| Ok::<_, ()>(((), late.add(Pattern::ANY, 0, trigger))));
                assert!(edit.is_ok());
            }
            for ((key, flags), expected) in packets.into_iter().zip(shown) {
                let before = cache.hooks().1.judged.len();
                let mut packet = ToyPacket::new(key).with_flags(gufc::packet::TcpFlags(flags));
                let _ = cache.process(&mut packet, Instant::from_secs(1));
                let judged = cache.hooks().1.judged.len() - before;
                assert_eq!(judged, expected, "{trigger:?} {key} {flags:#x}");
            }
        }
    }
}

/// The property would prove little if hooks were always or never interested.
#[test]
fn worlds_of_interests_are_mixed() {
    let mut prng = gufc::testing::prng::SplitMix64(3);
    let (mut judged, mut packets) = (0, 0);
    for _ in 0..20 {
        let (more, sent) = play(&prng.bytes(2_000));
        judged += more;
        packets += sent;
    }
    assert!(
        judged > packets / 4 && judged < packets * 2,
        "{judged} of {packets}"
    );
}
