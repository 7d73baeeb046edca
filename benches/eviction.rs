//! Hit rates of the cache's eviction orders beside exact LRU, FIFO and random replacement, as one table.
//!
//! A hit is a packet whose session is cached, whichever direction it comes from. All caches hold the same number of sessions and see
//! the same packets. The last two columns are the default's distance from the best, in points, and who the best is.
//!
//! `one way`: nothing answers, so everything happens in one segment, to which the whole cache is given. `two ways`: packets go
//! either way at random, and the quotas are the default ones. Traffic is made (seed 1), except for the capture, which is the one that
//! `examples/replay` comes with.

use std::collections::{BTreeMap, HashMap};

use gufc::cache::{Config, Eviction, FlowCache};
use gufc::hooks::filter::{Filter, Policy};
use gufc::key::{FlowKey, Protocol, SevenTuple, Tuple};
use gufc::packet::Packet;
use gufc::testing::prng::SplitMix64;
use gufc::testing::toy::ToyPacket;
use gufc::time::{Duration, Instant};
use gufc::verdict::Path;
use gufc::wire::{Arrival, Frame, Link};
use pcap_file::pcap::PcapReader;

const FLOWS: u64 = 50_000;
const PACKETS: usize = 400_000;
/// Of newcomers, and of established sessions.
const ORDERS: [(&str, [Eviction; 2]); 4] = [
    ("default", [Eviction::S3Fifo, Eviction::Clock]),
    ("clock", [Eviction::Clock; 2]),
    ("sieve", [Eviction::Sieve; 2]),
    ("s3-fifo", [Eviction::S3Fifo; 2]),
];

/// A packet: which flow, and whether it is one that goes back.
#[derive(Clone, Copy)]
struct Step {
    key: Tuple,
    /// The same for both directions.
    flow: u64,
}

fn step(flow: u64, back: bool) -> Step {
    // Spread over addresses and ports; distinct for distinct flows.
    let mixed = flow.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    let source = std::net::Ipv4Addr::from_bits((mixed >> 16) as u32);
    let server = std::net::Ipv4Addr::from_bits(0xc000_0200 | (flow >> 40) as u32);
    let there = SevenTuple::new(source, server, Protocol::UDP, mixed as u16, 53);
    let key = Tuple::V4(there);
    let key = if back {
        key.inverse().expect("an answer")
    } else {
        key
    };
    Step { key, flow }
}

/// Ranks by a Zipf law with this exponent.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(flows: u64, exponent: f64) -> Self {
        let mut sum = 0.0;
        let weight = |rank: u64| (rank as f64 + 1.0).powf(-exponent);
        Self(
            (0..flows)
                .map(|rank| {
                    sum += weight(rank);
                    sum
                })
                .collect(),
        )
    }

    fn draw(&self, chance: &mut SplitMix64) -> u64 {
        let total = self.0.last().copied().unwrap_or(0.0);
        let at = chance.next() as f64 / u64::MAX as f64 * total;
        self.0.partition_point(|sum| *sum < at) as u64
    }
}

/// Zipf traffic with scans of flows that never come back, `scan` of 100 packets, in bursts of 500.
fn zipf(exponent: f64, scan: u64, two_ways: bool) -> Vec<Step> {
    let (law, mut chance) = (Zipf::new(FLOWS, exponent), SplitMix64(1));
    let mut fresh = 1 << 32;
    let mut scanning = 0;
    (0..PACKETS)
        .map(|_| {
            if scanning == 0 && chance.below(50_000) < scan * 100 / (100 - scan).max(1) {
                scanning = 500;
            }
            if scanning > 0 {
                scanning -= 1;
                fresh += 1;
                return step(fresh, false);
            }
            step(law.draw(&mut chance), two_ways && chance.below(2) == 1)
        })
        .collect()
}

/// Flows that are born, send a number of packets with a heavy tail (Pareto, 1.2), and die: 2,000 at a time.
fn churn(two_ways: bool) -> Vec<Step> {
    let mut chance = SplitMix64(1);
    let mut born = 0;
    let mut begin = |chance: &mut SplitMix64| {
        born += 1;
        let u = (chance.next() >> 11) as f64 / (1u64 << 53) as f64;
        (born, ((1.0 - u).powf(-1.0 / 1.2)) as u64)
    };
    let mut alive: Vec<(u64, u64)> = (0..2_000).map(|_| begin(&mut chance)).collect();
    (0..PACKETS)
        .map(|_| {
            let at = chance.below(alive.len() as u64) as usize;
            let (flow, left) = alive[at];
            alive[at] = match left {
                0 | 1 => begin(&mut chance),
                _ => (flow, left - 1),
            };
            step(flow, two_ways && chance.below(2) == 1)
        })
        .collect()
}

fn captured() -> Vec<Step> {
    let bytes = include_bytes!("../examples/replay/mixed.pcap");
    let mut reader = PcapReader::new(&bytes[..]).expect("a capture");
    let link = Link::of_capture(reader.header().datalink.into()).expect("a link that is known");
    let mut numbers = HashMap::new();
    let mut steps = Vec::new();
    while let Some(packet) = reader.next_packet() {
        let mut bytes = packet.expect("a packet").data.into_owned();
        let Ok(frame) = Frame::<Tuple>::parse(link, &mut bytes, &Arrival::default()) else {
            continue;
        };
        let key = frame.key();
        if frame.fragment().is_part() || frame.defect().is_some() {
            continue;
        }
        let name = key.inverse().map_or(key, |inverse| inverse.min(key));
        let next = numbers.len() as u64;
        let flow = *numbers.entry(name).or_insert(next);
        steps.push(Step { key, flow });
    }
    steps
}

/// Hits in thousandths of a percent are not worth printing; in percent they are.
fn rate(hits: usize, packets: usize) -> f64 {
    100.0 * hits as f64 / packets.max(1) as f64
}

fn ours(orders: [Eviction; 2], sessions: usize, one_way: bool, steps: &[Step]) -> f64 {
    let [eviction, eviction_established] = orders;
    let mut config = Config {
        sessions,
        eviction,
        eviction_established,
        stay_provisional: Duration::ZERO,
        ..Config::new([1, 2])
    };
    if one_way {
        config.quotas.provisional = 1_000;
    }
    let filter = Filter::new("filter", 1, 1, Policy::Accept);
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(config, (filter,)).expect("a valid configuration");
    let now = Instant::from_secs(1);
    let hits = steps.iter().filter(|step| {
        let outcome = cache.process(&mut ToyPacket::new(step.key), now);
        !matches!(outcome.path, Path::Miss | Path::Uncached(_))
    });
    rate(hits.count(), steps.len())
}

fn lru(sessions: usize, steps: &[Step], moves: bool) -> f64 {
    let mut order = BTreeMap::new();
    let mut last = HashMap::new();
    let mut hits = 0;
    for (at, step) in steps.iter().enumerate() {
        match last.get(&step.flow).copied() {
            Some(before) => {
                hits += 1;
                if moves {
                    order.remove(&before);
                    order.insert(at, step.flow);
                    last.insert(step.flow, at);
                }
            }
            None => {
                if last.len() == sessions {
                    if let Some((_, flow)) = order.pop_first() {
                        last.remove(&flow);
                    }
                }
                order.insert(at, step.flow);
                last.insert(step.flow, at);
            }
        }
    }
    rate(hits, steps.len())
}

fn random(sessions: usize, steps: &[Step]) -> f64 {
    let mut chance = SplitMix64(7);
    let (mut held, mut place) = (Vec::new(), HashMap::new());
    let mut hits = 0;
    for step in steps {
        if place.contains_key(&step.flow) {
            hits += 1;
        } else if held.len() < sessions {
            place.insert(step.flow, held.len());
            held.push(step.flow);
        } else {
            let at = chance.below(sessions as u64) as usize;
            place.remove(&held[at]);
            place.insert(step.flow, at);
            held[at] = step.flow;
        }
    }
    rate(hits, steps.len())
}

fn main() {
    let capture = captured();
    let mut lines: Vec<(String, bool, Vec<usize>, Vec<Step>)> = Vec::new();
    let sizes = vec![FLOWS as usize / 100, FLOWS as usize / 10];
    for two_ways in [false, true] {
        let way = if two_ways { "two ways" } else { "one way" };
        for (exponent, scan) in [(0.8, 0), (1.0, 0), (1.2, 0), (1.0, 25), (1.0, 50)] {
            let name = match scan {
                0 => format!("zipf {exponent}, {way}"),
                _ => format!("zipf {exponent}, {scan} % scans, {way}"),
            };
            lines.push((
                name,
                !two_ways,
                sizes.clone(),
                zipf(exponent, scan, two_ways),
            ));
        }
        let name = format!("births and deaths, {way}");
        lines.push((name, !two_ways, vec![500, 1_500], churn(two_ways)));
    }
    let flows = 1 + capture.iter().map(|step| step.flow).max().unwrap_or(0);
    let name = format!("capture of {flows} flows");
    lines.push((name, false, vec![16, 64, 256], capture));

    println!("hits in percent; {PACKETS} packets a line, of {FLOWS} flows where they are zipf");
    print!("{:<34} {:>8}", "traffic", "sessions");
    for (name, _) in ORDERS {
        print!(" {name:>8}");
    }
    println!(
        " {:>8} {:>8} {:>8} {:>9}",
        "lru", "fifo", "random", "behind"
    );
    let mut worst: f64 = 0.0;
    for (name, one_way, sizes, steps) in &lines {
        for sessions in sizes {
            print!("{name:<34} {sessions:>8}");
            let mut rates: Vec<(&str, f64)> = ORDERS
                .iter()
                .map(|(name, order)| (*name, ours(*order, *sessions, *one_way, steps)))
                .collect();
            rates.push(("lru", lru(*sessions, steps, true)));
            rates.push(("fifo", lru(*sessions, steps, false)));
            rates.push(("random", random(*sessions, steps)));
            for (_, rate) in &rates {
                print!(" {rate:>8.2}");
            }
            let best = rates.iter().max_by(|a, b| a.1.total_cmp(&b.1));
            let default = rates.first().map_or(0.0, |(_, rate)| *rate);
            let (best, behind) = best.map_or(("", 0.0), |(name, rate)| (*name, rate - default));
            worst = worst.max(behind);
            println!(" {behind:>9.2} {best}");
        }
    }
    println!("the default is at most {worst:.2} points behind the best");
}
