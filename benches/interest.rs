//! All matches and the first match of distinct headers: the interest index beside a tight linear walk, the naive walk, and (for
//! the first) a tuple space search, at 256 to 100,000 rules and on lists crafted against it; and an insert with a remove.
//!
//! Rules and headers are made (`gufc::testing::rulegen` and `hostile`, seed 1). Before anything is timed, every list of the index
//! is compared with the walk's, and the walk's first with the tuple space's.

#[path = "../examples/classify/tuple_space.rs"]
mod tuple_space;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_main};
use gufc::interest::{InterestIndex, Scratch};
use gufc::key::Family;
use gufc::testing::hostile::{self, Attack};
use gufc::testing::rulegen::{self, Header, Profile, Rule};
use gufc::testing::tight_walk::TightWalk;
use tuple_space::TupleSpace;

/// Headers looked up in turn.
const HEADERS: usize = 1000;

/// Lists such as people write.
fn written(c: &mut Criterion) {
    for (name, profile, family) in [
        ("acl4", Profile::Acl, Family::V4),
        ("fw4", Profile::Firewall, Family::V4),
        ("acl6", Profile::Acl, Family::V6),
    ] {
        for count in [256, 1000, 10_000, 100_000] {
            let (rules, trace) = rulegen::generate(profile, count, family, 1, 20 * HEADERS);
            compare(c, name, family, &rules, trace);
        }
    }
}

/// Lists crafted against the index.
fn crafted(c: &mut Criterion) {
    for (name, attack, count) in [
        ("nested4", Attack::Nested, 1089),
        ("useless4", Attack::Useless, 10_000),
        ("ranges4", Attack::Ranges, 10_000),
        ("alike4", Attack::Alike, 10_000),
    ] {
        let (rules, trace) = hostile::build(attack, Family::V4, count, 1);
        compare(c, name, Family::V4, &rules, trace);
    }
}

/// The index and its peers on one list.
fn compare(c: &mut Criterion, name: &str, family: Family, rules: &[Rule], trace: Vec<Header>) {
    let count = rules.len();
    let mut group = c.benchmark_group(format!("interest/{name}"));
    group.throughput(Throughput::Elements(1));
    let headers = distinct(trace);
    let mut index = InterestIndex::new(count + 1, 1);
    for (at, rule) in rules.iter().enumerate() {
        index.insert(rule.pattern, at as u64, at as u32).unwrap();
    }
    let walk = TightWalk::new(family, rules.iter().map(|rule| &rule.pattern));
    let tuples = TupleSpace::new(rules.iter().map(|rule| &rule.pattern));
    let mut scratch = Scratch::new();
    let mut found = Vec::new();
    for header in &headers {
        walk.matches(&header.flow, &mut found);
        let matches = index.matches(&header.flow, &mut scratch);
        let matches = matches.iter().filter_map(|m| index.get(m.id));
        assert!(matches.eq(found.iter()), "{name}: the walk's list");
        let first = tuples.first(&header.flow);
        let tables = tuples.tables();
        assert_eq!(
            first.as_ref(),
            found.first(),
            "{name}: first of {tables} tables"
        );
    }
    let mut at = 0;
    let mut next = || {
        at = (at + 1) % headers.len();
        &headers[at].flow
    };
    group.bench_function(BenchmarkId::new("index", count), |b| {
        b.iter(|| index.matches(black_box(next()), &mut scratch).len());
    });
    group.bench_function(BenchmarkId::new("walk", count), |b| {
        b.iter(|| {
            walk.matches(black_box(next()), &mut found);
            found.len()
        });
    });
    group.bench_function(BenchmarkId::new("naive walk", count), |b| {
        b.iter(|| {
            let flow = black_box(next());
            let matching = rules.iter().filter(|rule| rule.pattern.matches(flow));
            matching.count()
        });
    });
    group.bench_function(BenchmarkId::new("first", count), |b| {
        b.iter(|| index.first(black_box(next())));
    });
    group.bench_function(BenchmarkId::new("first of tuple space", count), |b| {
        b.iter(|| tuples.first(black_box(next())));
    });
    let mut slot = 0;
    group.bench_function(BenchmarkId::new("remove+insert", count), |b| {
        let mut ids: Vec<_> = index.iter().map(|entry| entry.id).collect();
        b.iter(|| {
            slot = (slot + 7919) % count;
            index.remove(ids[slot]);
            ids[slot] = index
                .insert(rules[slot].pattern, slot as u64, slot as u32)
                .unwrap();
        });
    });
}

/// Different headers next to each other, `HEADERS` of them.
fn distinct(mut trace: Vec<Header>) -> Vec<Header> {
    trace.dedup();
    trace.truncate(HEADERS);
    trace
}

/// The one group of this bench.
fn benches() {
    let criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400));
    let mut criterion = criterion.configure_from_args();
    written(&mut criterion);
    crafted(&mut criterion);
}

criterion_main!(benches);
