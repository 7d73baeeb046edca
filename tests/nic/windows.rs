//! Connections that the NIC forwards: the real tracker and a stateful filter, and what the tracker knows when they come back.

use core::net::{IpAddr, Ipv4Addr};

use gufc::cache::{Config, FlowCache};
use gufc::hook::Direction;
use gufc::hooks::conntrack::{self, Conntrack, TcpPhase};
use gufc::hooks::filter::{Filter, Policy, parse_rules};
use gufc::key::Tuple;
use gufc::nic::{
    Driver, Facts, Faults, Indirection, Intake, Nic, NicConfig, OffloadId, Queue, Rss, RssKey,
    Told, Width,
};
use gufc::packet::{Origin, Packet, Seq, TcpFlags};
use gufc::time::{Duration, Instant};
use gufc::verdict::Verdict;
use gufc::wire::build::{Datagram, Tcp, Transport};
use gufc::wire::{Arrival, Frame};

type Hooks = (Conntrack<Tuple>, Filter);

const RULES: &str =
    "ct state invalid drop\nct state established accept\ntcp dport 80 accept\nudp dport 53 accept";

fn at(millis: u64) -> Instant {
    Instant::from_millis(1_000 + millis)
}

/// A dataplane of one queue, and where the two ends of its TCP connections are.
struct World {
    cache: FlowCache<Tuple, Hooks>,
    nic: Nic<Tuple, Vec<u8>>,
    driver: Driver<Tuple>,
    now: Instant,
    ends: [Seq; 2],
    forwarded: u64,
}

impl World {
    fn new() -> Self {
        let mut config = conntrack::Config::new(64, [1, 2]);
        config.accounting = true;
        let tracker = Conntrack::try_new(config).expect("room");
        let mut filter = Filter::new("filter", 10, 1, Policy::Drop);
        let rules = parse_rules(RULES, |_| None).expect("rules");
        let _ = filter.replace(rules, Policy::Drop).expect("room");
        let nic = Nic::new(
            NicConfig::new(1),
            Rss::new(RssKey::symmetric(0x6d5a)),
            Indirection::equal(7, 1),
            Faults::new([0, 0]),
        );
        Self {
            cache: FlowCache::new(Config::new([1, 2]), (tracker, filter)).expect("a cache"),
            nic,
            driver: Driver::new(Width::Bits24, 10, 10, Duration::from_millis(5)),
            now: at(0),
            ends: [Seq(1_000), Seq(9_000)],
            forwarded: 0,
        }
    }

    /// A packet from the wire: the verdict, or `None` where the NIC has forwarded it.
    fn receive(&mut self, mut bytes: Vec<u8>) -> Option<Verdict> {
        self.now = self.now + Duration::from_millis(1);
        self.driver.tick(&mut self.nic, self.now, 10);
        let arrival = Arrival::default();
        let packet = Frame::<Tuple>::ip(&mut bytes, &arrival).expect("a packet");
        let ends = TcpFlags::SYN.union(TcpFlags::FIN).union(TcpFlags::RST);
        let facts = Facts {
            fragment: false,
            control: packet.tcp_flags().intersects(ends),
            length: packet.length(),
        };
        let key = packet.key();
        match self.nic.receive(&key, facts, bytes, self.now) {
            Intake::Forwarded(..) => {
                self.forwarded += 1;
                None
            }
            other => {
                assert_eq!(other, Intake::Queued(Queue(0)));
                let mut bytes = self.nic.poll(Queue(0)).expect("queued").packet;
                let mut packet = Frame::<Tuple>::ip(&mut bytes, &arrival).expect("a packet");
                Some(self.cache.process(&mut packet, self.now).verdict)
            }
        }
    }

    /// A segment that follows on what its side has sent, of a connection from this port.
    fn send(
        &mut self,
        port: u16,
        way: Direction,
        flags: TcpFlags,
        payload: usize,
    ) -> Option<Verdict> {
        self.send_at(port, way, flags, payload, 0)
    }

    /// The same, so many bytes further on.
    fn send_at(
        &mut self,
        port: u16,
        way: Direction,
        flags: TcpFlags,
        payload: usize,
        ahead: u32,
    ) -> Option<Verdict> {
        let ([from, to], ports) = match way {
            Direction::Original => ([INSIDE, OUTSIDE], [port, 80]),
            Direction::Reply => ([OUTSIDE, INSIDE], [80, port]),
        };
        let tcp = Tcp {
            seq: self.ends[way as usize] + ahead,
            ack: self.ends[way.reverse() as usize],
            flags,
            ..Tcp::new(ports[0], ports[1])
        };
        let tcp = if flags == TcpFlags::SYN {
            Tcp { ack: Seq(0), ..tcp }
        } else {
            tcp
        };
        if ahead == 0 {
            let counts = flags.intersects(TcpFlags::SYN.union(TcpFlags::FIN));
            self.ends[way as usize] = tcp.seq + payload as u32 + u32::from(counts);
        }
        let datagram = Datagram::new(from, to, tcp).with_payload(&vec![0; payload]);
        self.receive(datagram.emit().expect("a packet"))
    }

    /// A connection from this port, open and with data both ways.
    fn open(&mut self, port: u16) -> Tuple {
        use Direction::{Original, Reply};
        let ack = TcpFlags::ACK;
        let steps = [
            (Original, TcpFlags::SYN, 0),
            (Reply, TcpFlags::SYN.union(ack), 0),
            (Original, ack, 0),
            (Original, ack, 100),
            (Reply, ack, 100),
            (Original, ack, 0),
        ];
        for (way, flags, payload) in steps {
            assert_eq!(self.send(port, way, flags, payload), Some(Verdict::Accept));
        }
        let text = format!("tcp {INSIDE}:{port} > {OUTSIDE}:80");
        text.parse().expect("a tuple")
    }

    fn offload(&mut self, flow: &Tuple) -> OffloadId {
        let lent = self.cache.lend(Origin::Received, flow).expect("plain");
        let id = self
            .driver
            .offload(&mut self.nic, lent.flows, lent.views, self.now);
        self.now = self.now + Duration::from_millis(1);
        self.driver.tick(&mut self.nic, self.now, 10);
        id.expect("room")
    }

    /// The NIC's counters are read, and what it has given back is taken back.
    fn collect(&mut self) {
        self.driver.tick(&mut self.nic, self.now, 10);
        let cache = &mut self.cache;
        self.driver.collect(&mut self.nic, |_, told| {
            let kept = match told {
                Told::Forwarded(flow, tally) => cache.credit(Origin::Received, flow, &tally),
                Told::Ended(flows) => cache.take_back(flows),
            };
            assert!(kept, "{told:?}");
        });
    }

    fn take_back(&mut self, id: OffloadId) {
        assert!(self.driver.withdraw(&mut self.nic, id, self.now));
        self.now = self.now + Duration::from_millis(1);
        self.collect();
    }

    fn phase(&self, flow: &Tuple) -> Option<TcpPhase> {
        let (tracker, _) = self.cache.hooks();
        let (id, _) = tracker.find(flow, self.now)?;
        tracker.connection(id)?.tcp_phase()
    }

    /// Packets that the tracker has counted, both ways.
    fn counted(&self, flow: &Tuple) -> u64 {
        let (tracker, _) = self.cache.hooks();
        let (id, _) = tracker.find(flow, self.now).expect("tracked");
        let connection = tracker.connection(id).expect("tracked");
        let packets = |way| connection.traffic(way).packets;
        packets(Direction::Original) + packets(Direction::Reply)
    }
}

const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Goal: a megabyte goes by unseen, many windows of it; then the connection closes as if every segment had been seen. A connection
/// that is not lent and jumps as far is not believed.
#[test]
fn a_connection_closes_in_order_after_it_was_offloaded() {
    use Direction::{Original, Reply};
    let mut world = World::new();
    let flow = world.open(1_000);
    world.offload(&flow);
    for _ in 0..1_000 {
        assert_eq!(world.send(1_000, Original, TcpFlags::ACK, 1_000), None);
        assert_eq!(world.send(1_000, Reply, TcpFlags::ACK, 0), None);
    }
    let fin = TcpFlags::FIN.union(TcpFlags::ACK);
    let accept = Some(Verdict::Accept);
    // The NIC has not told of anything yet.
    assert_eq!(world.send(1_000, Original, fin, 0), accept);
    assert_eq!(world.phase(&flow), Some(TcpPhase::FinWait));
    world.collect();
    assert_eq!(world.send(1_000, Reply, fin, 0), accept);
    assert_eq!(world.send(1_000, Original, TcpFlags::ACK, 0), accept);
    assert_eq!(world.phase(&flow), Some(TcpPhase::TimeWait));
    world.now = world.now + Duration::from_millis(1);
    world.collect();
    assert_eq!(world.forwarded, 2_000);
    assert_eq!(world.counted(&flow), 6 + 2_000 + 3);
    assert_eq!(world.driver.offload_of(&flow), None);

    world.open(1_001);
    let jump = 1_000_000;
    let verdict = world.send_at(1_001, Original, TcpFlags::ACK, 10, jump);
    assert_eq!(
        verdict,
        Some(Verdict::Drop),
        "the filter drops what is invalid"
    );
    assert_eq!(world.cache.check(), Ok(()));
}

/// Goal: once both sides have been heard again, the windows are watched as before.
#[test]
fn windows_are_watched_again_after_an_offload() {
    use Direction::{Original, Reply};
    let mut world = World::new();
    let flow = world.open(1_000);
    let id = world.offload(&flow);
    for _ in 0..200 {
        assert_eq!(world.send(1_000, Reply, TcpFlags::ACK, 1_000), None);
        assert_eq!(world.send(1_000, Original, TcpFlags::ACK, 0), None);
    }
    world.take_back(id);
    for _ in 0..4 {
        for way in [Reply, Original] {
            assert_eq!(
                world.send(1_000, way, TcpFlags::ACK, 500),
                Some(Verdict::Accept)
            );
        }
    }
    let wild = world.send_at(1_000, Reply, TcpFlags::ACK, 10, 1_000_000);
    assert_eq!(wild, Some(Verdict::Drop));
    let reset = world.send_at(1_000, Reply, TcpFlags::RST, 0, 1_000_000);
    assert_eq!(reset, Some(Verdict::Drop), "a blind reset");
    assert_eq!(world.phase(&flow), Some(TcpPhase::Established));
    assert_eq!(
        world.send(1_000, Original, TcpFlags::ACK, 10),
        Some(Verdict::Accept)
    );
    assert_eq!(world.cache.check(), Ok(()));
}

/// Goal: what is forwarded keeps connections and sessions alive, of TCP and UDP; a lent connection that falls silent expires.
#[test]
fn forwarded_packets_keep_a_connection_alive() {
    let mut world = World::new();
    let udp = |ports: [u16; 2], ends: [IpAddr; 2]| {
        let datagram = Datagram::new(ends[0], ends[1], Transport::udp(ports[0], ports[1]));
        datagram.emit().expect("a packet")
    };
    let there = || udp([5_000, 53], [INSIDE, OUTSIDE]);
    let back = || udp([53, 5_000], [OUTSIDE, INSIDE]);
    let flow: Tuple = format!("udp {INSIDE}:5000 > {OUTSIDE}:53")
        .parse()
        .expect("a tuple");
    for _ in 0..4 {
        // Two-way for longer than two seconds: a stream.
        assert_eq!(world.receive(there()), Some(Verdict::Accept));
        assert_eq!(world.receive(back()), Some(Verdict::Accept));
        world.now = world.now + Duration::from_secs(1);
    }
    world.offload(&flow);
    let alive = |world: &World| {
        let (tracker, _) = world.cache.hooks();
        let tracked = tracker.find(&flow, world.now).is_some();
        (
            tracked,
            world.cache.cookie(Origin::Received, &flow).is_some(),
        )
    };
    for _ in 0..20 {
        world.now = world.now + Duration::from_secs(60);
        assert_eq!(world.receive(there()), None);
        world.collect();
        world.cache.maintain(world.now, 100);
        assert_eq!(alive(&world), (true, true));
    }
    world.now = world.now + Duration::from_secs(1_000);
    world.collect();
    assert_eq!(alive(&world), (false, true), "the session is still lent");
}
