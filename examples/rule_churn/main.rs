//! What rule edits cost while a million flows are cached.
//!
//! `cargo run --release --example rule_churn` does two things and checks every verdict and every count on the way.
//!
//! First, one edit at a time: how long it takes to return, and what it costs each flow when that flow's next packet comes.
//! Then traffic with a thousand edits a second, side by side in slices of a hundredth of a simulated second:
//!
//! * no edits;
//! * edits that all touch the same share of the flows, as when one tenant's rules are being worked on;
//! * edits that each touch another share, so that every flow is touched again and again;
//! * the first kind of edits, answered as a cache with one global generation would: every flow looks again after each.
//!
//! The traffic is the hard kind: each packet is of a flow drawn at random from all, so that hundreds of edits lie between two
//! packets of a flow. With `--skewed` it is of the common kind, where a few flows have most of the packets.
//!
//! Traffic is full when a core has no time for more: `--packets` a simulated second that take a second to process, edits
//! included. Fewer packets between two edits make the edits dearer, more make them cheaper. Time is the processor time of the
//! thread, edits included, so that what the machine gives to others does not count (where there is no such clock, time that
//! passes). The share of the undisturbed throughput is printed twice: of all time, and as the median over slices, each beside the
//! undisturbed slice with the same packets, which what others do to the machine's caches disturbs less.

use std::net::Ipv4Addr;
use std::time::{Duration as Span, Instant as Clock};

use clap::{Parser, ValueEnum};
use gufc::cache::{Config, FlowCache};
use gufc::hooks::filter::{Filter, Place, Policy, Rule, RuleId};
use gufc::key::{Protocol, SevenTuple};
use gufc::packet::{Packet, Rewrite};
use gufc::testing::prng::SplitMix64;
use gufc::time::{Duration, Instant};

/// Measures rule edits under traffic.
#[derive(Parser)]
struct Options {
    /// Flows cached.
    #[arg(long, default_value_t = 1_000_000)]
    flows: u32,
    /// Rules besides the edited one.
    #[arg(long, default_value_t = 1_000)]
    rules: usize,
    /// One edit touches one in so many flows, at most 256.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=256))]
    share: u32,
    /// Edits a simulated second.
    #[arg(long, default_value_t = 1_000)]
    edits: u32,
    /// Packets a simulated second.
    #[arg(long, default_value_t = 5_000_000)]
    packets: u32,
    /// Simulated seconds of traffic.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Traffic as it is, a few flows having most packets (Zipf's law with exponent 1), and not each packet of any flow.
    #[arg(long)]
    skewed: bool,
    /// Only this way of edits, beside none at all.
    #[arg(long, value_enum)]
    only: Option<Mode>,
    /// Regions that the log remembers.
    #[arg(long, default_value_t = 4_096)]
    regions: usize,
    /// Seed of the traffic.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

type Key = SevenTuple<Ipv4Addr>;
type Cache = FlowCache<Key, (Filter,)>;

/// A packet that has been parsed already.
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

/// Flow `n` comes from network 10.b.0.0/16, where b is its block: one in `share` flows.
fn packet(n: u32, share: u32) -> Parsed {
    let (block, within) = (n % share, n / share);
    let source = Ipv4Addr::from_bits(10 << 24 | block << 16 | within & 0xffff);
    let destination = Ipv4Addr::from_bits(0xc000_0200 | within >> 16 & 0xff);
    let port = 1024 + (n % 50_000) as u16;
    Parsed(Key::new(source, destination, Protocol::TCP, port, 443))
}

/// The edited rule: what comes from a block is dropped.
fn block_rule(block: u32) -> Rule {
    parsed(&format!("ip saddr 10.{block}.0.0/16 drop"))
}

fn parsed(text: &str) -> Rule {
    text.parse().expect("a rule that this program wrote")
}

/// A cache with its rules, and all flows in it.
fn cache(options: &Options, regions: usize) -> Cache {
    let hour = Duration::from_secs(3_600);
    let config = Config {
        sessions: options.flows as usize,
        regions,
        idle_provisional: hour,
        idle_denied: hour,
        ..Config::new([options.seed, !options.seed])
    };
    let mut filter = Filter::new("filter", options.rules + 1, options.seed, Policy::Accept);
    for n in 0..options.rules {
        let rule = format!("ip daddr 172.16.{}.0/24 tcp dport {} drop", n % 256, n);
        let (_, _change) = filter
            .insert(Place::Last, parsed(&rule))
            .expect("room for the rules");
    }
    let mut cache = Cache::new(config, (filter,)).expect("a valid configuration");
    for n in 0..options.flows {
        let outcome = cache.process(&mut packet(n, options.share), Instant::from_secs(1));
        assert!(outcome.verdict.is_accept());
    }
    assert_eq!(cache.len(), options.flows as usize, "every flow is cached");
    cache
}

fn main() {
    let options = Options::parse();
    single_edits(&options);
    println!();
    churn(&options);
}

/// One edit, then one packet of every flow: what did that take, and whom did it touch?
fn single_edits(options: &Options) {
    let mut cache = cache(options, options.regions);
    println!(
        "{} flows, {} rules, {:.0} bytes a session",
        options.flows,
        options.rules,
        cache.bytes() as f64 / f64::from(options.flows)
    );
    let mut edits = Vec::new();
    for n in 0..1_000 {
        let rule = block_rule(n % options.share);
        let start = Clock::now();
        let (id, _) = cache
            .edit(|(filter,)| filter.insert(Place::First, rule))
            .expect("room");
        edits.push(start.elapsed());
        let start = Clock::now();
        let _ = cache
            .edit(|(filter,)| filter.remove(id))
            .expect("it is there");
        edits.push(start.elapsed());
    }
    edits.sort_unstable();
    let at = |share: usize| edits[(edits.len() - 1) * share / 100].as_nanos() as f64 / 1e3;
    println!(
        "an edit returns after {:.2} us (median), {:.2} us (99 %), {:.2} us (worst of {})",
        at(50),
        at(99),
        at(100),
        edits.len()
    );

    let mut order: Vec<u32> = (0..options.flows).collect();
    let mut prng = SplitMix64(options.seed);
    for last in (1..order.len()).rev() {
        order.swap(last, prng.below(last as u64 + 1) as usize);
    }
    let packets: Vec<Parsed> = order.iter().map(|n| packet(*n, options.share)).collect();
    // Brings every flow up to date.
    let _ = pass(&mut cache, &packets);
    let mut plain = Vec::new();
    let mut edited = Vec::new();
    for round in 0..5 {
        let before = cache.stats().clone();
        plain.push(pass(&mut cache, &packets));
        let hits = cache.stats().hits - before.hits;
        assert_eq!(hits, u64::from(options.flows), "all fresh");

        let block = round % options.share;
        let touched = (0..options.flows).filter(|n| n % options.share == block);
        let touched = touched.count() as u64;
        // Inserted and taken out again by two edits; each touches the same flows.
        let mut inserted = None;
        for tests in 1..=2 {
            let rule = block_rule(block);
            let edit = cache.edit(|(filter,)| match inserted {
                None => filter
                    .insert(Place::First, rule)
                    .map(|(id, change)| (Some(id), change)),
                Some(id) => filter.remove(id).map(|(_, change)| (None, change)),
            });
            (inserted, _) = edit.expect("room");
            let before = cache.stats().clone();
            let took = pass(&mut cache, &packets);
            if tests == 1 {
                edited.push(took);
            }
            let after = cache.stats();
            let rerun = after.rechecked + after.revisited + after.misses
                - before.rechecked
                - before.revisited
                - before.misses;
            assert_eq!(rerun, touched, "flows re-run are the flows touched");
            assert_eq!(
                after.restamped - before.restamped,
                u64::from(options.flows) - touched,
                "all others are restamped"
            );
            assert_eq!(
                after.region_tests - before.region_tests,
                u64::from(options.flows),
                "each flow tested one region"
            );
        }
    }
    let ns = |spans: &[Span]| {
        let best = spans.iter().min().copied().unwrap_or_default();
        best.as_nanos() as f64 / f64::from(options.flows)
    };
    println!(
        "a packet of every flow in bursts: {:.1} ns each with no edit, {:.1} ns each after one edit (one box test each; 1 in {} \
         re-run); best of {}",
        ns(&plain),
        ns(&edited),
        options.share,
        plain.len()
    );
    println!("flows re-run = flows touched: checked after each of 10 edits");
}

/// One packet of each flow.
fn pass(cache: &mut Cache, packets: &[Parsed]) -> Span {
    let mut packets = packets.to_vec();
    let start = Clock::now();
    cache.process_batch(&mut packets, Instant::from_secs(1), |_, outcome| {
        std::hint::black_box(outcome.verdict);
    });
    start.elapsed()
}

/// The processor time of this thread.
#[cfg(unix)]
fn thread_time() -> Span {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Span::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

/// Time that passes.
#[cfg(not(unix))]
fn thread_time() -> Span {
    use std::sync::OnceLock;
    static START: OnceLock<Clock> = OnceLock::new();
    START.get_or_init(Clock::now).elapsed()
}

/// How edits come, and what they are allowed to disturb.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Undisturbed,
    SameShare,
    EveryShare,
    GlobalFlush,
}

impl Mode {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Undisturbed, "no edits"),
        (Self::SameShare, "edits to the same share"),
        (Self::EveryShare, "edits to another share each"),
        (Self::GlobalFlush, "same share, global flush"),
    ];
}

/// One way of the edits, with a cache of its own.
struct Lane {
    mode: Mode,
    name: &'static str,
    cache: Cache,
    /// Each slice, edits included.
    took: Vec<Span>,
    editing: Span,
    edits: u32,
    /// The rule that stands at this moment, and its block.
    standing: Option<(RuleId, u32)>,
    /// By block: the last edit that touched it.
    touched: Vec<u32>,
    /// By flow: the last edit before its last packet.
    seen: Vec<u32>,
    /// Packets of flows that an edit had touched since their last.
    due: u64,
    wrong: u64,
}

impl Lane {
    fn new(options: &Options, (mode, name): (Mode, &'static str)) -> Self {
        // A ring of one region forgets at once, and whoever has been forgotten about looks again: a global generation.
        let regions = match mode {
            Mode::GlobalFlush => 1,
            _ => options.regions,
        };
        Self {
            mode,
            name,
            cache: cache(options, regions),
            took: Vec::new(),
            editing: Span::ZERO,
            edits: 0,
            standing: None,
            touched: vec![0; options.share as usize],
            seen: vec![0; options.flows as usize],
            due: 0,
            wrong: 0,
        }
    }

    fn edit(&mut self, share: u32) {
        if self.mode == Mode::Undisturbed {
            return;
        }
        self.edits += 1;
        let block = match (self.standing, self.mode) {
            (Some((_, block)), _) => block,
            (None, Mode::EveryShare) => self.edits / 2 % share,
            (None, _) => 0,
        };
        let rule = block_rule(block);
        let flush = self.mode == Mode::GlobalFlush;
        let standing = self.standing;
        let start = thread_time();
        let edit = self.cache.edit(|(filter,)| {
            let (id, change) = match standing {
                Some((id, _)) => (None, filter.remove(id)?.1),
                None => {
                    let (id, change) = filter.insert(Place::First, rule)?;
                    (Some(id), change)
                }
            };
            // Two regions overflow the ring of one.
            let change = if flush {
                change.clone().and(change)
            } else {
                change
            };
            Ok::<_, gufc::hooks::filter::EditError>((id, change))
        });
        let took = thread_time() - start;
        self.spend(took);
        self.editing += took;
        let (id, _) = edit.expect("room for one rule");
        self.standing = id.map(|id| (id, block));
        self.touched[block as usize] = self.edits;
    }

    fn spend(&mut self, span: Span) {
        if let Some(slice) = self.took.last_mut() {
            *slice += span;
        }
    }

    fn total(&self) -> f64 {
        self.took.iter().sum::<Span>().as_secs_f64()
    }

    /// The median over slices of what `plain` took for a slice, as a share of what this took for the same packets.
    fn median_share(&self, plain: &Self) -> f64 {
        let slices = plain.took.iter().zip(&self.took);
        let mut shares: Vec<f64> = slices
            .map(|(plain, mine)| plain.as_secs_f64() / mine.as_secs_f64())
            .collect();
        shares.sort_by(f64::total_cmp);
        shares.get(shares.len() / 2).copied().unwrap_or(1.0)
    }

    /// The packets between two edits, in bursts.
    fn traffic(&mut self, flows: &[u32], packets: &mut [Parsed], share: u32, now: Instant) {
        let dropped = self.standing.map(|(_, block)| block);
        let mut expected = 0;
        for n in flows {
            let block = n % share;
            expected += u64::from(Some(block) == dropped);
            let seen = &mut self.seen[*n as usize];
            self.due += u64::from(self.touched[block as usize] > *seen);
            *seen = self.edits;
        }
        let mut drops = 0;
        let start = thread_time();
        self.cache.process_batch(packets, now, |_, outcome| {
            drops += u64::from(!outcome.verdict.is_accept());
        });
        self.spend(thread_time() - start);
        self.wrong += drops.abs_diff(expected);
    }
}

/// The flow of the next packet.
fn draw(options: &Options, prng: &mut SplitMix64) -> u32 {
    if !options.skewed {
        return prng.below(u64::from(options.flows)) as u32;
    }
    // The rank of Zipf's law, its sum taken for an integral; then ranks are scattered over the flows.
    let uniform = (prng.next() >> 11) as f64 / (1u64 << 53) as f64;
    let rank = f64::from(options.flows).powf(uniform) as u64;
    (rank * 0x9e37_79b1 % u64::from(options.flows)) as u32
}

/// Slices of a simulated second.
const SLICES: u32 = 100;

/// Traffic with edits.
fn churn(options: &Options) {
    let mut lanes: Vec<Lane> = Mode::ALL
        .into_iter()
        .filter(|(mode, _)| {
            let wanted = options.only.is_none_or(|only| only == *mode);
            wanted || *mode == Mode::Undisturbed
        })
        .map(|mode| Lane::new(options, mode))
        .collect();
    let mut prng = SplitMix64(options.seed);
    let slices = options.seconds * SLICES;
    let edits = (options.edits / SLICES).max(1);
    let between = (options.packets / SLICES / edits) as usize;
    let starts: Vec<_> = lanes
        .iter()
        .map(|lane| lane.cache.stats().clone())
        .collect();
    for slice in 0..slices {
        let flows: Vec<u32> = (0..between * edits as usize)
            .map(|_| draw(options, &mut prng))
            .collect();
        let packets: Vec<Parsed> = flows.iter().map(|n| packet(*n, options.share)).collect();
        let mut burst = Vec::with_capacity(between);
        for lane in &mut lanes {
            lane.took.push(Span::ZERO);
            for (edit, flows) in flows.chunks(between).enumerate() {
                lane.edit(options.share);
                burst.clear();
                burst.extend_from_slice(&packets[edit * between..][..flows.len()]);
                let now = Duration::from_secs(1) * slice / SLICES
                    + Duration::from_secs(1) * edit as u32 / (SLICES * edits);
                lane.traffic(
                    flows,
                    &mut burst,
                    options.share,
                    Instant::from_secs(1) + now,
                );
            }
        }
    }
    println!(
        "{} edits a second for {} simulated seconds, {} packets a second over {} flows{}, an edit touches 1 in {}",
        edits * SLICES,
        options.seconds,
        between as u32 * edits * SLICES,
        options.flows,
        if options.skewed { " (skewed)" } else { "" },
        options.share
    );
    println!(
        "{:<28} {:>9} {:>13} {:>13} {:>9} {:>9} {:>10} {:>9} {:>6}",
        "",
        "ns/packet",
        "of no edits",
        "median slice",
        "re-run",
        "due",
        "boxes/pkt",
        "edit us",
        "wrong"
    );
    let plain = lanes[0].total();
    for (lane, start) in lanes.iter().zip(starts) {
        let stats = lane.cache.stats();
        let packets = (stats.packets() - start.packets()) as f64;
        let rerun = stats.rechecked + stats.revisited + stats.misses
            - start.rechecked
            - start.revisited
            - start.misses;
        println!(
            "{:<28} {:>9.1} {:>11.1} % {:>11.1} % {rerun:>9} {:>9} {:>10.2} {:>9.2} {:>6}",
            lane.name,
            lane.total() * 1e9 / packets,
            100.0 * plain / lane.total(),
            100.0 * lane.median_share(&lanes[0]),
            lane.due,
            (stats.region_tests - start.region_tests) as f64 / packets,
            lane.editing.as_secs_f64() * 1e6 / f64::from(lane.edits.max(1)),
            lane.wrong
        );
        assert_eq!(
            lane.wrong, 0,
            "{}: a packet was judged by other rules than those of its moment",
            lane.name
        );
        if lane.mode != Mode::GlobalFlush {
            assert_eq!(
                rerun, lane.due,
                "{}: flows re-run are the flows touched",
                lane.name
            );
        }
    }
}
