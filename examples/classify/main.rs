//! Checks and measures the interest index on a rule set and a header trace.
//!
//! ```text
//! cargo run --release --example classify -- RULES TRACE
//! cargo run --release --example classify -- --make acl,100000,4,1
//! cargo run --release --example classify -- --make nested,1089,4,1
//! ```
//!
//! Files are plain text in the formats of ClassBench's lists and traces (decompress first: `xz -dc NAME.rules.xz`). Every
//! distinct header is looked up in the index and in the linear twin, and the full lists compared; then a fifth of the rules
//! is removed, everything compared, the fifth put back, and everything compared again. The column of TCP flags and ICMP
//! types is no part of a flow: it is applied to what the index gives, and compared too.
//!
//! Printed are one line each for the index (all matches, then the first), for a tuple space search that finds the first, for a
//! tight linear walk over arrays that finds all, and for the naive walk over patterns. Latencies are of single lookups of distinct headers in shuffled order, the cost of reading the clock
//! subtracted, and of a few rounds over all headers the least counts. The exit code is 1 when any list differed.

mod tuple_space;

use std::collections::HashSet;
use std::error::Error;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use gufc::interest::{InterestId, InterestIndex, Scratch};
use gufc::key::Family;
use gufc::testing::hostile::{self, Attack};
use gufc::testing::linear_interest::LinearInterests;
use gufc::testing::prng::SplitMix64;
use gufc::testing::rulegen::{self, Header, Profile, Rule};
use gufc::testing::tight_walk::TightWalk;
use tuple_space::TupleSpace;

/// Check and measure the interest index against linear walks.
#[derive(Parser)]
struct Args {
    /// Rules, plain text.
    #[arg(required_unless_present = "make")]
    rules: Option<PathBuf>,
    /// Trace of headers, plain text.
    #[arg(required_unless_present = "make")]
    trace: Option<PathBuf>,
    /// Make the set instead: profile (acl, fw, ipc) or attack (nested, useless, ranges, ports, source-ports, zones, alike),
    /// rules, family (4, 6), seed.
    #[arg(
        long,
        value_name = "PROFILE,COUNT,FAMILY,SEED",
        conflicts_with = "rules"
    )]
    make: Option<String>,
    /// Check and measure at most so many distinct headers.
    #[arg(long, default_value_t = usize::MAX)]
    headers: usize,
    /// Seed of the index's hash functions and of the shuffling.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args = Args::parse();
    let (rules, trace) = match &args.make {
        Some(text) => make(text).ok_or("--make wants KIND,COUNT,FAMILY,SEED")?,
        None => read(&args)?,
    };
    let family = rules
        .first()
        .and_then(|rule| rule.pattern.implied_family())
        .ok_or("no rules")?;
    let mut chance = SplitMix64(args.seed);
    let mut headers = distinct(trace);
    shuffle(&mut headers, &mut chance);
    headers.truncate(args.headers);
    println!(
        "{} rules, {} distinct headers, {family:?}",
        rules.len(),
        headers.len()
    );

    let mut bench = Bench::new(rules, args.seed);
    let mut mismatches = bench.compare(&headers);
    let tight = TightWalk::new(family, bench.rules.iter().map(|rule| &rule.pattern));
    mismatches += bench.compare_tight(&tight, &headers);

    let clock = clock();
    let mut scratch = Scratch::new();
    let index_time = latencies(&headers, 5, clock, |header| {
        bench.index.matches(&header.flow, &mut scratch).len()
    });
    let first_time = latencies(&headers, 5, clock, |header| {
        bench
            .index
            .first(&header.flow)
            .map_or(0, |found| found.id.slot() as usize)
    });
    let tuples = TupleSpace::new(bench.rules.iter().map(|rule| &rule.pattern));
    mismatches += bench.compare_tuples(&tuples, &headers);
    let tuples_time = latencies(&headers, 3, clock, |header| {
        tuples.first(&header.flow).unwrap_or(0) as usize
    });
    let mut found = Vec::new();
    let some = &headers[..headers.len().min(20_000)];
    let tight_time = latencies(some, 3, clock, |header| {
        tight.matches(&header.flow, &mut found);
        found.len()
    });
    let few = &headers[..headers.len().min(2_000)];
    let naive_time = latencies(few, 2, clock, |header| {
        bench.naive(header, &mut found);
        found.len()
    });
    let stats = bench.index.stats();
    let lists: (usize, usize) = headers.iter().fold((0, 0), |(sum, most), header| {
        let count = bench.index.matches(&header.flow, &mut scratch).len();
        (sum + count, most.max(count))
    });

    let mut order: Vec<usize> = (0..bench.rules.len()).collect();
    shuffle(&mut order, &mut chance);
    order.truncate(bench.rules.len() / 5);
    let removes = bench.remove(&order, clock);
    mismatches += bench.compare(&headers);
    let inserts = bench.reinsert(&order, clock);
    mismatches += bench.compare(&headers);

    println!(
        "{} prefixes, {} pairs, {} buckets; {:.1} matches a header, at most {}",
        stats.prefixes,
        stats.pairs,
        stats.buckets,
        lists.0 as f64 / headers.len().max(1) as f64,
        lists.1
    );
    println!(
        "index  lookup {index_time}  insert {inserts}  remove {removes}  {:.1} B/rule  mismatches {mismatches}",
        stats.bytes as f64 / stats.patterns.max(1) as f64
    );
    println!("first  lookup {first_time}");
    println!(
        "tuples first  {tuples_time}  {} tables, index is {:.1} times as fast (means), {:.1} (medians)",
        tuples.tables(),
        tuples_time.mean / first_time.mean,
        tuples_time.p50 / first_time.p50.max(1.0),
    );
    println!(
        "tight  lookup {tight_time}  {:.1} B/rule  index is {:.1} times as fast (means), {:.1} (medians)",
        tight.bytes() as f64 / stats.patterns.max(1) as f64,
        tight_time.mean / index_time.mean,
        tight_time.p50 / index_time.p50.max(1.0),
    );
    println!(
        "naive  lookup {naive_time}  index is {:.1} times as fast (means)",
        naive_time.mean / index_time.mean
    );
    Ok(ExitCode::from(u8::from(mismatches != 0)))
}

struct Bench {
    rules: Vec<Rule>,
    index: InterestIndex<u32>,
    twin: LinearInterests<u32>,
    ids: Vec<InterestId>,
}

impl Bench {
    fn new(rules: Vec<Rule>, seed: u64) -> Self {
        let mut index = InterestIndex::new(rules.len(), seed);
        let mut ids = Vec::new();
        for (at, rule) in rules.iter().enumerate() {
            let id = index.insert(rule.pattern, at as u64, at as u32);
            ids.push(id.expect("capacity for every rule"));
        }
        let mut twin = LinearInterests::new();
        twin.extend(
            rules
                .iter()
                .zip(&ids)
                .enumerate()
                .map(|(at, (rule, &id))| (id, rule.pattern, at as u64, at as u32)),
        );
        Self {
            rules,
            index,
            twin,
            ids,
        }
    }

    /// Lists that differ from the twin's, before or after the flags.
    fn compare(&self, headers: &[Header]) -> usize {
        let mut scratch = Scratch::new();
        let mut wrong = 0;
        for header in headers {
            let found = self.index.matches(&header.flow, &mut scratch);
            let expected = self.twin.matches(&header.flow);
            let same = found.iter().map(|m| m.id).eq(expected.iter().copied());
            let left = found
                .iter()
                .filter_map(|m| self.index.get(m.id))
                .filter(|&&at| self.residue(at, header));
            let right = expected
                .iter()
                .filter_map(|&id| self.ids.get(self.position(id)?))
                .filter_map(|&id| self.index.get(id))
                .filter(|&&at| self.rules[at as usize].matches(header));
            let first = self.index.first(&header.flow).map(|m| m.id);
            if !same || !left.eq(right) || first != expected.first().copied() {
                wrong += 1;
            }
        }
        wrong
    }

    fn position(&self, id: InterestId) -> Option<usize> {
        self.index.get(id).map(|&at| at as usize)
    }

    /// Whether the flags, which no flow has, are those that the rule wants.
    fn residue(&self, at: u32, header: &Header) -> bool {
        let rule = &self.rules[at as usize];
        header.flags & rule.flags_mask == rule.flags
    }

    fn compare_tight(&self, tight: &TightWalk, headers: &[Header]) -> usize {
        let mut scratch = Scratch::new();
        let mut found = Vec::new();
        headers
            .iter()
            .filter(|header| {
                tight.matches(&header.flow, &mut found);
                let expected = self.index.matches(&header.flow, &mut scratch);
                let positions = expected.iter().filter_map(|m| self.index.get(m.id));
                !positions.eq(found.iter())
            })
            .count()
    }

    fn compare_tuples(&self, tuples: &TupleSpace, headers: &[Header]) -> usize {
        let first = |header: &Header| {
            let found = self.index.first(&header.flow)?;
            self.index.get(found.id).copied()
        };
        let differs = |header: &&Header| first(header) != tuples.first(&header.flow);
        headers.iter().filter(differs).count()
    }

    fn naive(&self, header: &Header, found: &mut Vec<u32>) {
        found.clear();
        for (at, rule) in self.rules.iter().enumerate() {
            if rule.pattern.matches(&header.flow) {
                found.push(at as u32);
            }
        }
    }

    fn remove(&mut self, order: &[usize], clock: f64) -> Summary {
        let mut times = Vec::new();
        for &at in order {
            let id = self.ids[at];
            let start = Instant::now();
            black_box(self.index.remove(id));
            times.push(start.elapsed().as_nanos() as f64 - clock);
        }
        let gone: HashSet<_> = order.iter().map(|&at| self.ids[at]).collect();
        self.twin.remove_all(|id| gone.contains(&id));
        Summary::of(times)
    }

    fn reinsert(&mut self, order: &[usize], clock: f64) -> Summary {
        let mut times = Vec::new();
        for &at in order {
            let pattern = self.rules[at].pattern;
            let start = Instant::now();
            let id = self.index.insert(pattern, at as u64, at as u32);
            times.push(start.elapsed().as_nanos() as f64 - clock);
            self.ids[at] = id.expect("room that was made");
        }
        self.twin.extend(order.iter().map(|&at| {
            let pattern = self.rules[at].pattern;
            (self.ids[at], pattern, at as u64, at as u32)
        }));
        Summary::of(times)
    }
}

/// Nanoseconds.
struct Summary {
    p50: f64,
    p99: f64,
    max: f64,
    mean: f64,
}

impl Summary {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let index = (times.len() as f64 * part) as usize;
            times.get(index).or(times.last()).copied().unwrap_or(0.0)
        };
        Self {
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
            mean: times.iter().sum::<f64>() / times.len().max(1) as f64,
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.p50 < 1e4 {
            write!(f, "p50 {:.0} p99 {:.0} ns", self.p50, self.p99)?;
        } else {
            write!(f, "p50 {:.1} p99 {:.1} us", self.p50 / 1e3, self.p99 / 1e3)?;
        }
        write!(
            f,
            " (mean {:.0} ns, max {:.1} us)",
            self.mean,
            self.max / 1e3
        )
    }
}

/// For each header the least of `rounds` timings, so that what else the machine did does not count.
fn latencies(
    headers: &[Header],
    rounds: usize,
    clock: f64,
    mut lookup: impl FnMut(&Header) -> usize,
) -> Summary {
    let mut times = vec![f64::MAX; headers.len()];
    for _ in 0..rounds {
        for (header, time) in headers.iter().zip(&mut times) {
            let start = Instant::now();
            black_box(lookup(black_box(header)));
            let taken = start.elapsed().as_nanos() as f64 - clock;
            *time = time.min(taken.max(0.0));
        }
    }
    Summary::of(times)
}

/// What reading the clock twice takes, in nanoseconds.
fn clock() -> f64 {
    let times = (0..10_000).map(|_| {
        let start = Instant::now();
        start.elapsed().as_nanos() as f64
    });
    Summary::of(times.collect()).p50
}

fn make(text: &str) -> Option<(Vec<Rule>, Vec<Header>)> {
    let mut parts = text.split(',');
    let kind = parts.next()?;
    let count = parts.next()?.parse().ok()?;
    let family = match parts.next()? {
        "4" => Family::V4,
        "6" => Family::V6,
        _ => return None,
    };
    let seed = parts.next()?.parse().ok()?;
    let attack = match kind {
        "acl" => {
            return Some(rulegen::generate(
                Profile::Acl,
                count,
                family,
                seed,
                100_000,
            ));
        }
        "fw" => {
            return Some(rulegen::generate(
                Profile::Firewall,
                count,
                family,
                seed,
                100_000,
            ));
        }
        "ipc" => {
            return Some(rulegen::generate(
                Profile::Chain,
                count,
                family,
                seed,
                100_000,
            ));
        }
        "nested" => Attack::Nested,
        "useless" => Attack::Useless,
        "ranges" => Attack::Ranges,
        "ports" => Attack::Ports,
        "source-ports" => Attack::SourcePorts,
        "zones" => Attack::Zones,
        "alike" => Attack::Alike,
        _ => return None,
    };
    Some(hostile::build(attack, family, count, seed))
}

fn read(args: &Args) -> Result<(Vec<Rule>, Vec<Header>), Box<dyn Error>> {
    let (Some(rules), Some(trace)) = (&args.rules, &args.trace) else {
        return Err("no files".into());
    };
    let rules = fs::read_to_string(rules)?
        .lines()
        .map(|line| rulegen::read_rule(line).ok_or_else(|| format!("not a rule: {line}")))
        .collect::<Result<Vec<_>, _>>()?;
    let family = rules
        .first()
        .and_then(|rule| rule.pattern.implied_family())
        .ok_or("no rules")?;
    let trace = fs::read_to_string(trace)?
        .lines()
        .map(|line| {
            rulegen::read_header(line, family).ok_or_else(|| format!("not a header: {line}"))
        })
        .collect::<Result<_, _>>()?;
    Ok((rules, trace))
}

/// Each flow once, with the flags of its first header.
fn distinct(trace: Vec<Header>) -> Vec<Header> {
    let mut seen = HashSet::new();
    trace
        .into_iter()
        .filter(|header| {
            let flow = &header.flow;
            seen.insert((
                flow.source,
                flow.destination,
                flow.source_port,
                flow.destination_port,
                flow.protocol,
            ))
        })
        .collect()
}

fn shuffle<T>(list: &mut [T], chance: &mut SplitMix64) {
    for i in (1..list.len()).rev() {
        list.swap(i, chance.below(i as u64 + 1) as usize);
    }
}
