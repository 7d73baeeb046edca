//! A quiet hit: no allocation, whatever the hooks. A binary of its own, for it counts what the allocator is asked for.

use gufc::cache::{Config, FlowCache};
use gufc::key::{FlowKey, Tuple};
use gufc::packet::{Origin, Packet};
use gufc::testing::script::hooks;
use gufc::testing::toy::ToyPacket;
use gufc::time::Instant;
use gufc::verdict::Path;

#[test]
fn a_hit_allocates_nothing() {
    let mut cache: FlowCache<Tuple, _> =
        FlowCache::new(Config::new([1, 2]), hooks(true)).expect("a valid configuration");
    let rules = [
        "tcp flags syn / syn,ack log continue",
        "meta length 1000-9000 drop",
        "ct state invalid drop",
    ];
    for rule in rules {
        let rule = rule.parse().expect("a rule");
        cache
            .edit(|(_, _, _, filter, ..)| filter.insert(gufc::hooks::filter::Place::Last, rule))
            .expect("room");
    }
    let now = Instant::from_secs(1);
    let there = ToyPacket::new(
        "tcp 10.0.0.1:1000 > 10.0.0.2:80"
            .parse::<Tuple>()
            .expect("a tuple"),
    );
    let back = ToyPacket {
        key: there.key.inverse().expect("an answer"),
        ..there
    };
    assert_eq!(cache.process(&mut there.clone(), now).path, Path::Miss);
    assert_eq!(cache.process(&mut back.clone(), now).path, Path::FirstReply);
    let cookie = cache.cookie(Origin::Received, &there.key());

    let measure = |cache: &mut FlowCache<Tuple, _>| {
        let mut paths = Vec::with_capacity(64);
        let allocated = allocation_counter::measure(|| {
            paths.push(cache.process(&mut there.clone(), now).path);
            paths.push(cache.process(&mut ToyPacket { cookie, ..there }, now).path);
            let mut burst = [there, back, there, back];
            cache.process_batch(&mut burst, now, |_, outcome| paths.push(outcome.path));
        });
        (allocated.count_total, paths)
    };
    assert_eq!(measure(&mut cache), (0, vec![Path::Hit; 6]));

    // So does a hit on an entry that an edit did not touch.
    let rule = "udp dport 53 accept".parse().expect("a rule");
    cache
        .edit(|(_, _, _, filter, ..)| filter.insert(gufc::hooks::filter::Place::First, rule))
        .expect("room");
    let (allocated, paths) = measure(&mut cache);
    assert_eq!((allocated, paths[0]), (0, Path::Restamped));

    // The counter counts.
    assert!(allocation_counter::measure(|| drop(core::hint::black_box(vec![1]))).count_total > 0);
}

/// What a cache will take is known before it is made, to the byte, and it takes no more when it is filled.
#[test]
fn memory_is_what_the_formula_says() {
    use gufc::cache::{Eviction, Pace};
    use gufc::hooks::filter::{Filter, Policy};
    type Cache = FlowCache<Tuple, (Filter,)>;
    let small = Config {
        sessions: 700,
        local: 9,
        regions: 3,
        ..Config::new([1, 2])
    };
    let configs = [
        small.clone(),
        Config {
            eviction: Eviction::S3Fifo,
            per_source: 5_000,
            ..small.clone()
        },
        Config {
            sessions: 20_000,
            regions: 5_000,
            eviction: Eviction::Sieve,
            misses: Pace::UNLIMITED,
            ..small
        },
    ];
    for config in configs {
        let hooks = (Filter::new("filter", 4, 1, Policy::Accept),);
        let mut made = None;
        let sessions = config.sessions;
        let expected = Cache::bytes_for(&config);
        let making = allocation_counter::measure(|| made = Some(Cache::new(config, hooks)));
        assert_eq!(making.bytes_current, expected as i64);
        let mut cache = made.expect("made").expect("a valid configuration");
        let key = |n: usize| {
            let (high, low) = (n >> 8 & 255, n & 255);
            let text = format!("udp 10.0.{high}.{low}:{} > 10.0.0.2:80", 1 + (n >> 16));
            text.parse::<Tuple>().expect("a tuple")
        };
        let packets: Vec<_> = (0..2 * sessions).map(|n| ToyPacket::new(key(n))).collect();
        // The first packet makes the scratch space of look-ups, which is the hooks' affair.
        let _ = cache.process(&mut packets[0].clone(), Instant::from_secs(1));
        let filling = allocation_counter::measure(|| {
            for packet in &packets {
                let _ = cache.process(&mut packet.clone(), Instant::from_secs(1));
            }
        });
        assert_eq!(filling.count_total, 0);
        assert_eq!(cache.len(), sessions);
    }
}

/// Nor does a tracked connection, from the acknowledgement that opens it to its last one. A flood of openings against a table and a cache
/// that are full costs each of its packets the same, late as early.
#[test]
fn tracked_packets_allocate_nothing() {
    use gufc::hooks::conntrack::{self, Conntrack};
    use gufc::hooks::filter::{Filter, Policy, Table};
    use gufc::packet::{Seq, TcpFlags};
    use gufc::wire::build::{Datagram, Tcp};
    use gufc::wire::{Arrival, Frame};
    use std::net::{IpAddr, Ipv4Addr};

    const ROOM: u32 = 128;
    let rules: Table = "chain main {
        policy drop
        ct state invalid drop
        ct state established accept
        tcp dport 80 ct state new accept
    }"
    .parse()
    .expect("rules");
    let mut filter = Filter::new("filter", 8, 7, Policy::Drop);
    let _ = filter.commit(filter.diff(&rules)).expect("room");
    let config = conntrack::Config {
        news_capacity: 64,
        ..conntrack::Config::new(ROOM, [1, 2])
    };
    let tracker: Conntrack<Tuple> = Conntrack::try_new(config).expect("room");
    let config = Config {
        sessions: ROOM as usize,
        ..Config::new([1, 2])
    };
    let mut cache = FlowCache::new(config, (tracker, filter)).expect("room");

    let server = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
    let segment = |client: u32, back: bool, flags: TcpFlags, seq: u32, ack: u32, size: usize| {
        let client = IpAddr::V4(Ipv4Addr::from_bits(client));
        let (from, to, ports) = if back {
            (server, client, [80, 1000])
        } else {
            (client, server, [1000, 80])
        };
        let tcp = Tcp {
            flags,
            seq: Seq(seq),
            ack: Seq(ack),
            ..Tcp::new(ports[0], ports[1])
        };
        let packet = Datagram::new(from, to, tcp).with_payload(&[7; 1000][..size]);
        packet.emit().expect("a packet")
    };
    let (syn, ack) = (TcpFlags::SYN, TcpFlags::ACK);
    let fin = TcpFlags::FIN.union(ack);
    let client = 0x0a00_0001;
    let story = [
        (segment(client, false, syn, 0, 0, 0), false),
        (segment(client, true, syn.union(ack), 0, 1, 0), false),
        (segment(client, false, ack, 1, 1, 0), true),
        (segment(client, false, ack, 1, 1, 100), true),
        (segment(client, true, ack, 1, 101, 900), true),
        (segment(client, false, fin, 101, 901, 0), false),
        (segment(client, true, ack, 901, 102, 500), true),
        (segment(client, false, ack, 102, 1401, 0), true),
        (segment(client, true, fin, 1401, 102, 0), false),
        (segment(client, false, ack, 102, 1402, 0), true),
    ];
    let now = Instant::from_secs(1);
    let arrival = Arrival::default();
    for (number, (mut bytes, fast)) in story.into_iter().enumerate() {
        let mut answer = None;
        let allocated = allocation_counter::measure(|| {
            let frame: Result<Frame<'_, Tuple>, _> = Frame::ip(&mut bytes, &arrival);
            answer = frame.ok().map(|mut frame| cache.process(&mut frame, now));
        });
        let outcome = answer.expect("a packet");
        assert!(outcome.verdict.is_accept(), "{number}: {outcome:?}");
        assert_eq!(outcome.path == Path::Hit, fast, "{number}: {outcome:?}");
        if fast {
            assert_eq!(allocated.count_total, 0, "{number}");
        }
    }
    let mut flood: Vec<_> = (0..8 * ROOM)
        .map(|n| segment(0xc000_0000 + n * 7, false, syn, 5, 0, 0))
        .collect();
    let mut counts = [0; 2];
    let half = flood.len() / 2;
    for (number, bytes) in flood.iter_mut().enumerate() {
        let allocated = allocation_counter::measure(|| {
            let frame: Result<Frame<'_, Tuple>, _> = Frame::ip(bytes, &arrival);
            if let Ok(mut frame) = frame {
                let _ = cache.process(&mut frame, now);
            }
        });
        counts[number / half] += allocated.count_total;
    }
    assert_eq!(cache.hooks().0.len(), ROOM as usize);
    // A newcomer takes what another had; what is allocated once is the filter's residue, compiled to see whether it is known.
    assert!(
        counts[1] <= counts[0] && counts[1] <= half as u64,
        "{counts:?} of {half} each"
    );
}
