//! The cached verdict against the walk that it saves: flows against rule sets of 16 to 100,000 rules.
//!
//! The walk is an honest one: structure of arrays, sixteen rules at a time, so that it vectorises; it stops at the first match.
//! Flows match rules all over the list, so it walks half of it on average. The cached side does more than the walk: it finds
//! the flow among 4,096, checks its stamp, runs its destiny, counts for the rule. Both are checked to agree first.

use core::hint::black_box;
use core::net::Ipv4Addr;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_main};
use gufc::cache::{Config, FlowCache};
use gufc::hooks::filter::{Action, Filter, Policy, Rule};
use gufc::key::{Cidr, FlowKey, Pattern, Ports, Protocol, SevenTuple};
use gufc::packet::{Packet, Rewrite};
use gufc::testing::prng::SplitMix64;
use gufc::time::Instant;

type Key = SevenTuple<Ipv4Addr>;

const FLOWS: usize = 4_096;
const NOW: Instant = Instant::from_secs(1);

/// A packet that has been parsed already, on both sides.
#[derive(Clone, Copy)]
struct Parsed(Key);

impl Packet for Parsed {
    type Key = Key;
    fn key(&self) -> Key {
        self.0
    }
    fn length(&self) -> u32 {
        100
    }
    fn transport(&self) -> &[u8] {
        &[]
    }
    fn transport_length(&self) -> u32 {
        80
    }
    fn hop_limit(&self) -> u8 {
        64
    }
    fn rewrite(&mut self, rewrite: &Rewrite<Key>) {
        self.0 = rewrite.to;
    }
    fn set_hop_limit(&mut self, _: u8) {}
}

/// Rules on /16 to /28 source and destination prefixes and a port, and a last one that takes everything.
fn rules(count: usize, prng: &mut SplitMix64) -> Vec<Rule> {
    let mut rules: Vec<Rule> = (1..count)
        .map(|_| {
            let mut side = |first: u8| {
                let address = Ipv4Addr::from_bits(u32::from(first) << 24 | prng.next() as u32 >> 8);
                Cidr::new(address.into(), 16 + prng.below(13) as u8)
            };
            let pattern = Pattern {
                source: side(10),
                destination: side(172),
                destination_ports: Ports::one([22, 53, 80, 443][prng.below(4) as usize]),
                protocol: Some(Protocol::TCP),
                ..Pattern::ANY
            };
            let action = if prng.below(2) == 0 {
                Action::Accept
            } else {
                Action::Drop
            };
            Rule {
                pattern,
                action,
                ..Rule::default()
            }
        })
        .collect();
    rules.push(Rule {
        action: Action::Accept,
        ..Rule::default()
    });
    rules
}

/// Flows, each drawn from the box of some rule.
fn flows(rules: &[Rule], prng: &mut SplitMix64) -> Vec<Parsed> {
    (0..FLOWS)
        .map(|_| {
            let pattern = rules[prng.below(rules.len() as u64) as usize].pattern;
            let mut address = |side: Option<Cidr>| {
                let random = prng.next() as u32;
                let (bits, len) =
                    side.map_or((0, 0), |c| ((c.bits() >> 96) as u32, u32::from(c.len())));
                Ipv4Addr::from_bits(bits | random.checked_shr(len).unwrap_or(0))
            };
            let (source, destination) = (address(pattern.source), address(pattern.destination));
            let port = pattern.destination_ports.first;
            Parsed(SevenTuple::new(
                source,
                destination,
                Protocol::TCP,
                prng.next() as u16,
                port,
            ))
        })
        .collect()
}

/// Rules that are tested side by side.
const LANES: usize = 16;

#[derive(Clone, Default)]
struct Lanes {
    source: [u32; LANES],
    source_mask: [u32; LANES],
    destination: [u32; LANES],
    destination_mask: [u32; LANES],
    port: [u32; LANES],
    port_mask: [u32; LANES],
}

/// The walk: rules as arrays.
struct Linear {
    lanes: Vec<Lanes>,
    actions: Vec<Action>,
}

impl Linear {
    fn new(rules: &[Rule]) -> Self {
        let mut lanes = vec![Lanes::default(); rules.len().div_ceil(LANES)];
        // Lanes without a rule match no packet.
        for (i, rule) in (0..lanes.len() * LANES).map(|i| (i, rules.get(i))) {
            let (chunk, at) = (&mut lanes[i / LANES], i % LANES);
            let Some(rule) = rule else {
                (chunk.source[at], chunk.source_mask[at]) = (1, 0);
                continue;
            };
            let side = |cidr: Option<Cidr>| {
                cidr.map_or((0, 0), |c| {
                    ((c.bits() >> 96) as u32, (c.mask() >> 96) as u32)
                })
            };
            (chunk.source[at], chunk.source_mask[at]) = side(rule.pattern.source);
            (chunk.destination[at], chunk.destination_mask[at]) = side(rule.pattern.destination);
            if rule.pattern.destination_ports != Ports::ALL {
                (chunk.port[at], chunk.port_mask[at]) =
                    (u32::from(rule.pattern.destination_ports.first), 0xffff);
            }
        }
        Self {
            lanes,
            actions: rules.iter().map(|rule| rule.action).collect(),
        }
    }

    #[inline]
    fn first(&self, key: &Key) -> usize {
        let [source, destination] = [
            key.source_address().to_bits(),
            key.destination_address().to_bits(),
        ];
        let port = u32::from(key.destination_port());
        for (number, lanes) in self.lanes.iter().enumerate() {
            let mut missed = [0_u32; LANES];
            for (at, missed) in missed.iter_mut().enumerate() {
                *missed = (source & lanes.source_mask[at]) ^ lanes.source[at]
                    | (destination & lanes.destination_mask[at]) ^ lanes.destination[at]
                    | (port & lanes.port_mask[at]) ^ lanes.port[at];
            }
            if missed.contains(&0) {
                let at = missed.iter().position(|missed| *missed == 0).unwrap_or(0);
                return number * LANES + at;
            }
        }
        self.actions.len() - 1
    }
}

fn lookup_vs_linear(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup_vs_linear");
    for count in [16, 100, 1_000, 10_000, 100_000] {
        let mut prng = SplitMix64(42);
        let rules = rules(count, &mut prng);
        let packets = flows(&rules, &mut prng);
        let linear = Linear::new(&rules);
        let mut filter = Filter::new("filter", count, 7, Policy::Drop);
        let _ = filter
            .replace(rules.clone(), Policy::Drop)
            .expect("room for the rules");
        let config = Config {
            sessions: 2 * FLOWS,
            ..Config::new([1, 2])
        };
        let mut cache: FlowCache<Key, _> =
            FlowCache::new(config, (filter,)).expect("a valid configuration");

        // The answers first: for the packet that misses and for the one that hits.
        for packet in packets.iter().chain(&packets) {
            let outcome = cache.process(&mut packet.clone(), NOW);
            let walked = linear.first(&packet.0);
            assert_eq!(outcome.by.rule, Some(walked as u32), "{}", packet.0);
            assert_eq!(
                outcome.verdict.is_accept(),
                linear.actions[walked] == Action::Accept
            );
            assert!(rules[walked].pattern.matches(&packet.0.fields()));
        }

        group.throughput(Throughput::Elements(FLOWS as u64));
        group.bench_with_input(
            BenchmarkId::new("cached", count),
            &packets,
            |bencher, packets| {
                bencher.iter(|| {
                    for packet in packets {
                        let _ = black_box(cache.process(&mut packet.clone(), NOW));
                    }
                });
            },
        );
        let mut burst = packets.clone();
        group.bench_with_input(
            BenchmarkId::new("cached_bursts_of_32", count),
            &(),
            |bencher, ()| {
                bencher.iter(|| {
                    for burst in burst.chunks_mut(32) {
                        cache.process_batch(burst, NOW, |_, outcome| {
                            let _ = black_box(outcome);
                        });
                    }
                });
            },
        );
        group.bench_with_input(
            BenchmarkId::new("linear", count),
            &packets,
            |bencher, packets| {
                bencher.iter(|| {
                    for packet in packets {
                        black_box(linear.actions[linear.first(black_box(&packet.0))]);
                    }
                });
            },
        );
    }
    group.finish();
}

/// The one group of this bench.
fn benches() {
    let time = core::time::Duration::from_secs(2);
    let criterion = Criterion::default().sample_size(20).measurement_time(time);
    lookup_vs_linear(&mut criterion.configure_from_args());
}

criterion_main!(benches);
