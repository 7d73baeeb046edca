//! What a NIC's help is worth: a cookie against a key, a port solved for against a port searched for, two shards against one.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant as Clock};

use gufc::cache::{Config, FlowCache};
use gufc::cookie::FlowCookie;
use gufc::hooks::filter::{Filter, Place, Policy, Rule};
use gufc::key::{Fields, FlowKey, Protocol, SevenTuple};
use gufc::nic::{Bucket, End, Indirection, PortSolver, Queue, Rss, RssKey};
use gufc::packet::{Origin, Packet, Rewrite};
use gufc::shard::{Edit, Homes, Placed, Placing, Shard, ShardId, shards};
use gufc::time::{self, Instant};
use gufc::verdict::Path;

use crate::flows::{self, Draw};
use crate::report::{Contender, OURS, Report, median, thread_time};

type Flow = SevenTuple<Ipv4Addr>;
type Hooks = (Filter,);

pub fn run(report: &mut Report) {
    for (size, label) in [(100_000, "100k"), (4_000_000, "4M")] {
        cookies(report, size, label);
    }
    for queues in [64, 1024] {
        ports(report, queues);
    }
    threads(report);
}

/// A packet that is its key, and perhaps a cookie.
#[derive(Clone, Copy)]
struct Bare {
    key: Flow,
    cookie: Option<FlowCookie>,
}

impl Packet for Bare {
    type Key = Flow;
    fn key(&self) -> Flow {
        self.key
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
    fn cookie(&self) -> Option<FlowCookie> {
        self.cookie
    }
    fn hop_limit(&self) -> u8 {
        64
    }
    fn rewrite(&mut self, rewrite: &Rewrite<Flow>) {
        self.key = rewrite.to;
    }
    fn set_hop_limit(&mut self, _: u8) {}
}

fn filter() -> Filter {
    Filter::new("filter", 100, 7, Policy::Accept)
}

const NOW: Instant = Instant::from_secs(1);

/// A whole hit, found by cookie and found by key: flows uniformly random, one packet at a time and in bursts of 32.
fn cookies(report: &mut Report, size: usize, label: &str) {
    let single = format!("nic cookie-hit single v4 {label}");
    let burst = format!("nic cookie-hit burst v4 {label}");
    let (wants_single, wants_burst) = (report.wants(&single), report.wants(&burst));
    if !wants_single && !wants_burst {
        return;
    }
    let keys = flows::flows::<Ipv4Addr>(size, 5);
    let config = Config {
        sessions: size,
        idle_provisional: time::Duration::from_secs(1_000_000),
        ..Config::new([1, 2])
    };
    let mut cache: FlowCache<Flow, Hooks> = FlowCache::new(config, (filter(),)).expect("memory");
    for key in &keys {
        let mut packet = Bare {
            key: *key,
            cookie: None,
        };
        assert!(matches!(cache.process(&mut packet, NOW).path, Path::Miss));
    }
    // What a NIC would deliver, in the order in which it comes.
    let traffic: Vec<Bare> = flows::uniform(size, 1 << 19)
        .into_iter()
        .map(|at| Bare {
            key: keys[at],
            cookie: cache.cookie(Origin::Received, &keys[at]),
        })
        .collect();
    drop(keys);
    let cache = RefCell::new(cache);
    let plain = |packet: &Bare| Bare {
        cookie: None,
        ..*packet
    };
    // For a table that no cache of the machine holds, the bar is that of the issue.
    let bar = (size > 1_000_000).then_some(("key", 1.0 / 1.3));
    let one = |packet: Bare| {
        let mut packet = packet;
        u64::from(cache.borrow_mut().process(&mut packet, NOW).path == Path::Hit)
    };
    if wants_single {
        let contenders = vec![
            Contender::new(OURS, |_| traffic.iter().map(|packet| one(*packet)).sum()),
            Contender::new("key", |_| {
                traffic.iter().map(|packet| one(plain(packet))).sum()
            }),
        ];
        report.measure(&single, traffic.len(), bar, contenders);
    }
    if wants_burst {
        let all = |packet: &dyn Fn(&Bare) -> Bare| {
            let mut hits = 0;
            let mut cache = cache.borrow_mut();
            for chunk in traffic.chunks(32) {
                let mut burst = [*chunk.first().expect("not empty"); 32];
                for (to, from) in burst.iter_mut().zip(chunk) {
                    *to = packet(from);
                }
                cache.process_batch(&mut burst[..chunk.len()], NOW, |_, outcome| {
                    hits += u64::from(outcome.path == Path::Hit);
                });
            }
            hits
        };
        let contenders = vec![
            Contender::new(OURS, |_| all(&|packet| *packet)),
            Contender::new("key", |_| all(&plain)),
        ];
        report.measure(&burst, traffic.len(), bar, contenders);
    }
}

/// A port whose reply comes to a given queue, for a reply tuple that is new each time: by the equations, and by hashing one port
/// after the other.
fn ports(report: &mut Report, queues: u16) {
    let work = format!("nic port-home {queues} queues");
    if !report.wants(&work) {
        return;
    }
    let rss = Rss::new(RssKey::MICROSOFT);
    let table = Indirection::equal(12, queues);
    let flow = |host: u32| {
        SevenTuple::new(
            Ipv4Addr::from_bits(host),
            Ipv4Addr::new(192, 0, 2, 1),
            Protocol::TCP,
            443,
            0,
        )
        .fields()
    };
    let solver = PortSolver::new(&rss, &flow(1), End::Destination, 0x7fff, table.bits());
    // A shard knows its own buckets.
    let buckets: Vec<Vec<Bucket>> = (0..queues)
        .map(|queue| table.buckets_of(Queue(queue)).collect())
        .collect();
    let mut draw = Draw(17);
    let wanted: Vec<(Fields, Queue, u16)> = (0..2_000)
        .map(|_| {
            let queue = Queue((draw.next() % u64::from(queues)) as u16);
            (flow(draw.next() as u32), queue, draw.next() as u16)
        })
        .collect();
    let arrives = |reply: &Fields, port: u16| {
        let reply = Fields {
            destination_port: port,
            ..*reply
        };
        table.queue(rss.hash(&reply))
    };
    let solve = |(reply, queue, turn): &(Fields, Queue, u16)| {
        let own = &buckets[queue.index()];
        let from = usize::from(*turn) % own.len();
        let (before, after) = own.split_at(from);
        after.iter().chain(before).find_map(|bucket| {
            solver
                .ports(reply, *bucket, 0x8000, u32::from(*turn))
                .next()
        })
    };
    for want in &wanted {
        let port = solve(want).expect("a port");
        assert!(port >= 0x8000 && arrives(&want.0, port) == want.1);
    }
    let search = |(reply, queue, turn): &(Fields, Queue, u16)| {
        (0..0x8000u16)
            .map(|step| 0x8000 | (turn.wrapping_add(step) & 0x7fff))
            .find(|port| arrives(reply, *port) == *queue)
    };
    let count = |found: Option<u16>| u64::from(found.is_some());
    let contenders = vec![
        Contender::new(OURS, |_| wanted.iter().map(|want| count(solve(want))).sum()),
        Contender::new("search", |_| {
            wanted.iter().map(|want| count(search(want))).sum()
        }),
    ];
    report.measure(&work, wanted.len(), Some(("search", 1.0)), contenders);
}

/// The same packets by one shard and by two on threads of their own, while a third publishes an edit every ten milliseconds
/// (few enough that no flow meets more than one or two between two of its packets, whichever side has it). Processor time of
/// the threads, so that what else runs on the machine does not count; what two shards do to one another does. A virtual
/// processor that its host takes away is on that clock all the same, for a second at a time, so the rounds are many.
fn threads(report: &mut Report) {
    let work = "nic two-shards v4 65536 flows, edits";
    if !report.wants(work) {
        return;
    }
    let (mut one, mut two, mut edits) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..25 {
        let (alone, _) = round(1);
        let (both, published) = round(2);
        one.push(alone);
        two.push(both);
        edits.push(published);
    }
    let (one, two) = (median(one), median(two));
    report.add(
        work,
        "ns a packet of either",
        Some(("one-shard", 1.0 / 1.8)),
        vec![(OURS, two), ("one-shard", one), ("edits", median(edits))],
    );
}

/// Nanoseconds for a packet of all packets, and edits published meanwhile.
fn round(count: u16) -> (f64, f64) {
    const PACKETS: usize = 1 << 22;
    let table = Indirection::equal(7, count);
    let rss = Rss::new(RssKey::symmetric(0x6d5a));
    let keys = flows::flows::<Ipv4Addr>(65_536, 5);
    let all = (0..count)
        .map(|id| {
            Shard::<Flow, Hooks>::new(
                ShardId(id),
                Config::new([1, 2]),
                (filter(),),
                rss.clone(),
                Homes::of_queues(&table),
                Placing::Local,
                16,
                time::Duration::from_secs(60),
            )
            .expect("memory")
        })
        .collect();
    let (control, all) = shards(all, 64);
    let done = AtomicBool::new(false);
    let mut published = 0u64;
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        let threads: Vec<_> = all
            .into_iter()
            .enumerate()
            .map(|(id, mut shard)| {
                // The NIC has sorted the flows already.
                let own: Vec<Flow> = keys
                    .iter()
                    .filter(|key| table.queue(rss.hash(&key.fields())).index() == id)
                    .copied()
                    .collect();
                scope.spawn(move || {
                    let order = flows::uniform(own.len(), 1 << 16);
                    let mut burst = [Bare {
                        key: own[0],
                        cookie: None,
                    }; 32];
                    let mut run = |packets: usize| {
                        let mut accepted = 0;
                        for chunk in order.chunks(32).cycle().take(packets / 32) {
                            for (to, at) in burst.iter_mut().zip(chunk) {
                                to.key = own[*at];
                            }
                            shard.process_burst(&mut burst, NOW, |_, placed| {
                                accepted += u64::from(
                                    matches!(placed, Placed::Here(one, _) if one.verdict.is_accept()),
                                );
                            });
                        }
                        assert_eq!(accepted, packets as u64);
                    };
                    run(1 << 18);
                    let start = thread_time();
                    run(PACKETS / usize::from(count));
                    thread_time() - start
                })
            })
            .collect();
        let publisher = scope.spawn(|| {
            let mut edits = 0u64;
            while !done.load(Ordering::Acquire) {
                // One rule comes and goes; it touches a sixteenth of the flows' ports' space and denies nobody.
                let comes = edits % 2 == 0;
                let edit = Edit::new(move |(filter,): &mut Hooks| {
                    if comes {
                        let rule: Rule = "tcp sport 4096-8191 continue".parse().ok()?;
                        filter.insert(Place::First, rule).ok().map(|r| r.1)
                    } else {
                        let first = filter.rules().next().map(|(id, ..)| id)?;
                        filter.remove(first).ok().map(|r| r.1)
                    }
                });
                edits += u64::from(control.publish(edit).is_ok());
                let wait = Clock::now();
                while wait.elapsed() < Duration::from_millis(10) {
                    std::thread::sleep(Duration::from_millis(2));
                }
            }
            edits
        });
        for thread in threads {
            slowest = slowest.max(thread.join().expect("a shard"));
        }
        done.store(true, Ordering::Release);
        published = publisher.join().expect("the publisher");
    });
    (slowest.as_nanos() as f64 / PACKETS as f64, published as f64)
}
