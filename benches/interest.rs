//! All matches and the first match of distinct headers: the interest index beside a tight linear walk, at 256 to 100,000
//! rules; and an insert with a remove.
//!
//! Rules and headers are made (`gufc::testing::rulegen`, seed 1). Before anything is timed, every list of the index is
//! compared with the walk's.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_main};
use gufc::interest::{InterestIndex, Scratch};
use gufc::key::Family;
use gufc::testing::rulegen::{self, Header, Profile};
use gufc::testing::tight_walk::TightWalk;

/// Headers looked up in turn.
const HEADERS: usize = 1000;

fn lookup(c: &mut Criterion) {
    for (name, profile, family) in [
        ("acl4", Profile::Acl, Family::V4),
        ("fw4", Profile::Firewall, Family::V4),
        ("acl6", Profile::Acl, Family::V6),
    ] {
        let mut group = c.benchmark_group(format!("interest/matches/{name}"));
        group.throughput(Throughput::Elements(1));
        for count in [256, 1000, 10_000, 100_000] {
            let (rules, trace) = rulegen::generate(profile, count, family, 1, 20 * HEADERS);
            let headers = distinct(trace);
            let mut index = InterestIndex::new(count + 1, 1);
            for (at, rule) in rules.iter().enumerate() {
                index.insert(rule.pattern, at as u64, at as u32).unwrap();
            }
            let walk = TightWalk::new(family, rules.iter().map(|rule| &rule.pattern));
            let mut scratch = Scratch::new();
            let mut found = Vec::new();
            for header in &headers {
                walk.matches(&header.flow, &mut found);
                let matches = index.matches(&header.flow, &mut scratch);
                assert!(
                    matches
                        .iter()
                        .filter_map(|m| index.get(m.id))
                        .eq(found.iter())
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
            group.bench_function(BenchmarkId::new("first", count), |b| {
                b.iter(|| index.first(black_box(next())));
            });
            group.bench_function(BenchmarkId::new("walk", count), |b| {
                b.iter(|| {
                    walk.matches(black_box(next()), &mut found);
                    found.len()
                });
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
    }
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
    lookup(&mut criterion.configure_from_args());
}

criterion_main!(benches);
