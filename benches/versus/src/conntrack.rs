//! Connection tracking: what the window step adds to a cached packet, what a connection costs to set up, and what it weighs.
//!
//! The peer is the published crate `arcbox-conntrack`. What it leaves out, so that its figures are read for what they are:
//!
//! * TCP: no sequence numbers and windows, no state table; a reply makes a connection "established" only where the caller says
//!   so, a reset or FIN changes nothing. Nothing is ever invalid.
//! * Every other protocol than TCP and UDP over IPv4: IPv6, ICMP errors, GRE, SCTP, fragments pass untranslated and untracked.
//! * Capacity: its size is not enforced, the table grows without end; expiry is a scan of the whole table that allocates, by one
//!   timeout for all protocols and states, and by the process's own clock.
//! * Confirmation, refusal, clashes: a port is handed out in turn, whether or not another connection has it.
//! * Its hash of the fast cache has no secret.
//! * A filter, routes, classes, events, marks, zones, expectations and helpers.
//!
//! It does rewrite addresses, ports and checksums of each packet, which our rows do not.
//!
//! A million connections are some hundred megabytes, read in no order: what the machine's pages cost is in every figure. With
//! `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` large pages are asked for, for all contenders.

use std::collections::VecDeque;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;

use arcbox_conntrack::{ConnTrackKey, NatDirection, NatEngine, NatEngineConfig, NatResult};
use gufc::cache::{self, FlowCache, Quotas};
use gufc::hook::Judge;
use gufc::hooks::conntrack::{self, Confirmation, Conntrack, TimeoutClass, Timeouts, Trackable};
use gufc::hooks::filter::{Filter, Policy};
use gufc::hooks::route::{Routes, Target};
use gufc::key::{FlowKey, Protocol, SevenTuple, Tuple};
use gufc::packet::{Interface, Packet, TcpFlags};
use gufc::pipeline::{Pipeline, Walk};
use gufc::time::{Duration, Instant};
use gufc::wire::{Arrival, Frame, FrameKey, Link};

use crate::flows::{self, Draw};
use crate::memory::LIVE;
use crate::report::{Contender, OURS, Report};

const BURST: usize = 32;
const M: usize = 1_000_000;

type V4 = SevenTuple<Ipv4Addr>;

pub fn run(report: &mut Report) {
    window_step(report);
    for (open, name) in SIZES {
        set_up(report, open, name);
    }
    bytes(report);
}

/// An Ethernet frame with IPv4 and TCP, 12 bytes of options and 16 of payload at most.
#[derive(Clone)]
struct Bytes([u8; SIZE], usize);

const SIZE: usize = 14 + 20 + 32 + 16;
const IP: usize = 14;
const TCP: usize = IP + 20;

/// What a segment says.
#[derive(Clone, Copy)]
enum Kind {
    Syn,
    SynAck,
    Ack,
    Data,
}

/// First sequence numbers of both sides.
const ISN: [u32; 2] = [1000, 5000];

impl Bytes {
    fn template(kind: Kind) -> Self {
        let (flags, options, payload) = match kind {
            Kind::Syn => (0x02, true, 0),
            Kind::SynAck => (0x12, true, 0),
            Kind::Ack => (0x10, false, 0),
            Kind::Data => (0x18, false, 16),
        };
        let header = if options { 32 } else { 20 };
        let length = 20 + header + payload;
        let mut bytes = [0; SIZE];
        bytes[12] = 0x08;
        bytes[IP] = 0x45;
        bytes[IP + 3] = length as u8;
        bytes[IP + 8] = 64;
        bytes[IP + 9] = 6;
        bytes[TCP + 12] = (header as u8 / 4) << 4;
        bytes[TCP + 13] = flags;
        bytes[TCP + 14..TCP + 16].copy_from_slice(&[0xff, 0xff]);
        if options {
            // MSS 1460, SACK permitted, window scale 14, padding.
            bytes[TCP + 20..TCP + 32].copy_from_slice(&[2, 4, 5, 180, 4, 2, 3, 3, 14, 1, 1, 1]);
        }
        Self(bytes, 14 + length)
    }

    /// Addresses and ports of the flow, or of its reply; numbers of the side that sends.
    #[inline]
    fn fill(&mut self, flow: &V4, reply: bool, seq: u32, ack: u32) {
        let bytes = &mut self.0;
        let from = (flow.source_address(), flow.source_port());
        let to = (flow.destination_address(), flow.destination_port());
        let (from, to) = if reply { (to, from) } else { (from, to) };
        bytes[IP + 12..IP + 16].copy_from_slice(&from.0.octets());
        bytes[IP + 16..IP + 20].copy_from_slice(&to.0.octets());
        bytes[TCP..TCP + 2].copy_from_slice(&from.1.to_be_bytes());
        bytes[TCP + 2..TCP + 4].copy_from_slice(&to.1.to_be_bytes());
        bytes[TCP + 4..TCP + 8].copy_from_slice(&seq.to_be_bytes());
        bytes[TCP + 8..TCP + 12].copy_from_slice(&ack.to_be_bytes());
        self.seal();
    }

    /// The checksum of the IPv4 header.
    #[inline]
    fn seal(&mut self) {
        self.0[IP + 10..IP + 12].fill(0);
        let words = self.0[IP..TCP].chunks_exact(2);
        let sum: u32 = words
            .map(|word| u32::from(u16::from_ne_bytes([word[0], word[1]])))
            .sum();
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        self.0[IP + 10..IP + 12].copy_from_slice(&sum.to_ne_bytes());
    }

    /// The answer to `asked` as it left.
    #[inline]
    fn answer(&mut self, asked: &Self, seq: u32, ack: u32) {
        let (bytes, asked) = (&mut self.0, &asked.0);
        bytes[IP + 12..IP + 16].copy_from_slice(&asked[IP + 16..IP + 20]);
        bytes[IP + 16..IP + 20].copy_from_slice(&asked[IP + 12..IP + 16]);
        bytes[TCP..TCP + 2].copy_from_slice(&asked[TCP + 2..TCP + 4]);
        bytes[TCP + 2..TCP + 4].copy_from_slice(&asked[TCP..TCP + 2]);
        bytes[TCP + 4..TCP + 8].copy_from_slice(&seq.to_be_bytes());
        bytes[TCP + 8..TCP + 12].copy_from_slice(&ack.to_be_bytes());
        self.seal();
    }

    /// The next bytes of the same side.
    #[inline]
    fn go_on(&mut self) {
        if let Some(seq) = self.0[TCP + 4..].first_chunk_mut() {
            *seq = (u32::from_be_bytes(*seq) + 16).to_be_bytes();
        }
    }

    fn packet(&mut self) -> &mut [u8] {
        &mut self.0[..self.1]
    }
}

/// A dataplane: what accepts a burst of packets that all go the same way.
trait Plane {
    /// How many passed.
    fn pass(&mut self, frames: &mut [Bytes], reply: bool, now: Instant) -> u64;

    /// Ends what is over: called once for each burst of new connections.
    fn age(&mut self, now: Instant);
}

/// A key that a frame and a tracker have.
trait PlaneKey: FrameKey + Trackable {}

impl PlaneKey for V4 {}
impl PlaneKey for Tuple {}

/// How long an idle connection lasts, where connections come and go.
const LIFE: Duration = Duration::from_secs(10);
/// Slots that maintenance looks at for each new connection: a round takes a fraction of a lifetime.
const LOOKS: usize = 4;

fn tracker<K: Trackable>(capacity: usize) -> Conntrack<K> {
    let timeouts = Timeouts::LINUX.with(TimeoutClass::TcpEstablished, 10);
    Conntrack::try_new(conntrack::Config {
        // As where the network card has verified them.
        checksum: false,
        timeouts: vec![timeouts],
        ..conntrack::Config::new(capacity as u32, [1, 2])
    })
    .expect("memory")
}

fn routes() -> Routes {
    let mut routes = Routes::try_new(8).expect("memory");
    for (number, prefix) in ["10.0.0.0/8", "0.0.0.0/0"].into_iter().enumerate() {
        let hop = routes
            .add_next_hop(Interface(number as u32))
            .expect("a next hop");
        let prefix = prefix.parse().expect("a prefix");
        let _ = routes.insert(prefix, Target::Via(hop)).expect("a route");
    }
    routes
}

fn filter(rules: &[&str]) -> Filter {
    let mut filter = Filter::new("filter", rules.len(), 3, Policy::Drop);
    let rules = rules.iter().map(|rule| rule.parse().expect("a rule"));
    let _ = filter
        .replace(rules.collect(), Policy::Drop)
        .expect("a ruleset");
    filter
}

/// Rules that say the same with and without a tracker.
const STATELESS: [&str; 2] = ["tcp dport 443 accept", "tcp sport 443 accept"];
const STATEFUL: [&str; 3] = [
    "ct state invalid drop",
    "ct state established accept",
    "ct state new tcp dport 443 accept",
];

struct Cached<K: PlaneKey, H: Pipeline>(FlowCache<K, H>);

impl<K: PlaneKey, H: Pipeline> Cached<K, H> {
    fn new(sessions: usize, hooks: H) -> Self {
        let config = cache::Config {
            sessions,
            local: 16,
            idle_established: LIFE,
            quotas: Quotas {
                denied: 100,
                provisional: 1000,
                established: 1000,
            },
            ..cache::Config::new([3, 4])
        };
        Self(FlowCache::new(config, hooks).expect("a cache"))
    }
}

impl<K: PlaneKey, H> Plane for Cached<K, H>
where
    H: Pipeline + for<'a> Walk<Frame<'a, K>> + Aging,
{
    fn pass(&mut self, frames: &mut [Bytes], _: bool, now: Instant) -> u64 {
        let mut passed = 0;
        let mut packets: Vec<Frame<'_, K>> = parse(frames).collect();
        self.0.process_batch(&mut packets, now, |_, outcome| {
            passed += u64::from(outcome.verdict.is_accept());
        });
        passed
    }

    fn age(&mut self, now: Instant) {
        self.0.maintain(now, LOOKS * BURST);
        H::age(&mut self.0, now);
    }
}

fn parse<K: FrameKey>(frames: &mut [Bytes]) -> impl Iterator<Item = Frame<'_, K>> {
    let arrival = Arrival::default();
    let parse = move |bytes| Frame::parse(Link::Ethernet, bytes, &arrival).expect("a packet");
    frames.iter_mut().map(Bytes::packet).map(parse)
}

/// What its hooks let end.
trait Aging: Pipeline + Sized {
    fn age<K: PlaneKey>(cache: &mut FlowCache<K, Self>, now: Instant);
}

type Stateless = (Routes, Filter);
type Stateful<K> = (Conntrack<K>, Routes, Filter);

impl Aging for Stateless {
    fn age<K: PlaneKey>(_: &mut FlowCache<K, Self>, _: Instant) {}
}

impl<T: PlaneKey> Aging for Stateful<T> {
    fn age<K: PlaneKey>(cache: &mut FlowCache<K, Self>, now: Instant) {
        let done = cache.edit(|(tracker, ..)| {
            tracker.maintain(now, (LOOKS * BURST) as u32);
            Ok::<_, std::convert::Infallible>(((), gufc::epoch::Change::nothing()))
        });
        black_box(done.is_ok());
    }
}

/// The tracker by itself: every packet judged, first packets confirmed. Where a packet opens a connection, a burst's places in
/// its index are read ahead.
impl<K: PlaneKey> Plane for Conntrack<K> {
    fn pass(&mut self, frames: &mut [Bytes], _: bool, now: Instant) -> u64 {
        let packets: Vec<Frame<'_, K>> = parse(frames).collect();
        let opens = |packet: &&Frame<'_, K>| packet.tcp_flags() == TcpFlags::SYN;
        let flows: Vec<K> = packets.iter().filter(opens).map(Frame::key).collect();
        black_box(Judge::<Frame<'_, K>>::warm_new(self, &flows));
        let mut passed = 0;
        for packet in &packets {
            let tracked = self.track(packet, now);
            let confirmed = tracked.connection.map(|id| self.confirm(id, now));
            passed += u64::from(confirmed.is_some_and(Confirmation::is_accept));
        }
        passed
    }

    fn age(&mut self, now: Instant) {
        self.maintain(now, (LOOKS * BURST) as u32);
    }
}

/// The peer, and the keys of its connections, oldest first: expiry by its own clock would be a scan of all of them.
struct Arcbox {
    engine: NatEngine,
    keys: VecDeque<ConnTrackKey>,
    most: usize,
}

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

impl Arcbox {
    fn new(most: usize) -> Self {
        let config = NatEngineConfig::new(OUTSIDE).with_port_range(1024, 65535);
        let mut engine = NatEngine::new(&config);
        engine.set_internal_network(Ipv4Addr::new(10, 0, 0, 0), 8);
        Self {
            engine,
            keys: VecDeque::with_capacity(most + BURST),
            most,
        }
    }
}

impl Plane for Arcbox {
    fn pass(&mut self, frames: &mut [Bytes], reply: bool, _: Instant) -> u64 {
        let direction = if reply {
            NatDirection::Inbound
        } else {
            NatDirection::Outbound
        };
        let mut passed = 0;
        for frame in frames {
            let packet = frame.packet();
            let syn = packet[TCP + 13] == 0x02;
            if syn {
                let at = |i: usize| <[u8; 4]>::try_from(&packet[i..i + 4]).expect("four bytes");
                let [s0, s1, d0, d1] = at(TCP);
                let key = ConnTrackKey::new(
                    at(IP + 12).into(),
                    at(IP + 16).into(),
                    u16::from_be_bytes([s0, s1]),
                    u16::from_be_bytes([d0, d1]),
                    6,
                );
                self.keys.push_back(key);
            }
            let result = self.engine.translate(packet, direction);
            passed += u64::from(matches!(result, Ok(NatResult::Translated)));
        }
        passed
    }

    fn age(&mut self, _: Instant) {
        while self.keys.len() > self.most {
            if let Some(key) = self.keys.pop_front() {
                self.engine.conntrack_mut().remove(&key);
            }
        }
    }
}

/// Opens connections, burst by burst, on a clock of its own.
struct Opener<P> {
    plane: P,
    frames: [[Bytes; BURST]; 3],
    now: Instant,
    /// Between bursts.
    pause: Duration,
}

impl<P: Plane> Opener<P> {
    fn new(plane: P, pause: Duration) -> Self {
        let frames = [Kind::Syn, Kind::SynAck, Kind::Ack];
        Self {
            plane,
            frames: frames.map(|kind| std::array::from_fn(|_| Bytes::template(kind))),
            now: Instant::START,
            pause,
        }
    }

    /// Three packets for each flow: SYN, SYN/ACK, ACK. How many passed.
    fn open(&mut self, flows: &[V4]) -> u64 {
        let [isn, answer] = ISN;
        let mut passed = 0;
        for flows in flows.chunks(BURST) {
            let count = flows.len();
            self.now = self.now + self.pause;
            self.plane.age(self.now);
            let [syns, syn_acks, acks] = self.frames.each_mut().map(|all| &mut all[..count]);
            for (flow, syn) in flows.iter().zip(&mut *syns) {
                syn.fill(flow, false, isn, 0);
            }
            passed += self.plane.pass(syns, false, self.now);
            for ((syn, syn_ack), (flow, ack)) in
                (syns.iter().zip(&mut *syn_acks)).zip(flows.iter().zip(&mut *acks))
            {
                syn_ack.answer(syn, answer, isn + 1);
                ack.fill(flow, false, isn + 1, answer + 1);
            }
            passed += self.plane.pass(syn_acks, true, self.now);
            passed += self.plane.pass(acks, false, self.now);
        }
        passed
    }
}

/// `count` flows of TCP.
fn tcp_flows(count: usize, seed: u64) -> Vec<V4> {
    let mut flows = flows::flows::<Ipv4Addr>(count + count / 4, seed);
    flows.retain(|flow| flow.protocol() == Protocol::TCP);
    flows.truncate(count);
    flows
}

/// Packets of a million open connections in any order, in bursts: routed and filtered, with and without the window step.
fn window_step(report: &mut Report) {
    const PACKETS: usize = 1 << 18;
    const NAME: &str = "conntrack window-step 1M burst";
    if !report.wants(NAME) {
        return;
    }
    let flows = tcp_flows(M, 21);
    let mut draw = Draw(22);
    // Data of either side, in the window that was offered: each round sends the next bytes.
    let frames: Vec<Bytes> = (0..PACKETS)
        .map(|_| {
            let mut frame = Bytes::template(Kind::Data);
            let (flow, reply) = (flows[draw.below(M)], draw.below(2) == 1);
            let [own, peer] = if reply { [ISN[1], ISN[0]] } else { ISN };
            frame.fill(&flow, reply, own + 1, peer + 1);
            frame
        })
        .collect();
    let stateless = (routes(), filter(&STATELESS));
    let stateful = |rules: &[&str]| (tracker::<V4>(M + BURST), routes(), filter(rules));
    let sessions = M + BURST;
    let contenders = vec![
        sender(
            OURS,
            Cached::<V4, _>::new(sessions, stateful(&STATELESS)),
            &flows,
            &frames,
        ),
        sender(
            "stateless",
            Cached::<V4, _>::new(sessions, stateless),
            &flows,
            &frames,
        ),
        sender(
            "gufc-ct-rules",
            Cached::<V4, _>::new(sessions, stateful(&STATEFUL)),
            &flows,
            &frames,
        ),
    ];
    report.measure(NAME, PACKETS, Some(("stateless", 1.5)), contenders);
}

fn sender<'a>(
    name: &'static str,
    plane: impl Plane + 'a,
    flows: &[V4],
    frames: &[Bytes],
) -> Contender<'a> {
    let mut opener = Opener::new(plane, Duration::ZERO);
    assert_eq!(opener.open(flows), 3 * flows.len() as u64);
    let mut frames = frames.to_vec();
    Contender::new(name, move |_| {
        let mut passed = 0;
        for burst in frames.chunks_mut(BURST) {
            burst.iter_mut().for_each(Bytes::go_on);
            passed += opener.plane.pass(burst, false, opener.now);
        }
        passed
    })
}

/// Open connections: a table that fits in the caches of a core, and one that does not.
const SIZES: [(usize, &str); 2] = [(10_000, "10k"), (M, "1M")];

/// New connections in a round.
const NEW: usize = 1 << 17;

/// Handshakes while so many connections are open, each lasting ten seconds, so that as many end: through the tracker, and through
/// the cache, the tracker, routes and a filter.
fn set_up(report: &mut Report, open: usize, name: &str) {
    let name = format!("conntrack set-up {name}");
    if !report.wants(&name) {
        return;
    }
    let rounds = report.rounds() + 1;
    // A round of maintenance takes a quarter of what is in the table, so that some are over and still there.
    let room = open + open / 2;
    let flows = tcp_flows(room + rounds * NEW, 23);
    let pause = Duration::from_nanos(LIFE.as_nanos() as u64 * BURST as u64 / open as u64);
    let alone = vec![
        handshakes(OURS, tracker::<V4>(room), &flows, room, pause),
        handshakes("gufc-dual", tracker::<Tuple>(room), &flows, room, pause),
        handshakes("arcbox-conntrack", Arcbox::new(open), &flows, room, pause),
    ];
    judge(report, &name, alone);
    let name = format!("{name} whole-path");
    let hooks = (tracker::<V4>(room), routes(), filter(&STATEFUL));
    let dual = (tracker::<Tuple>(room), routes(), filter(&STATEFUL));
    let whole = vec![
        handshakes(OURS, Cached::<V4, _>::new(room, hooks), &flows, room, pause),
        handshakes(
            "gufc-dual",
            Cached::<Tuple, _>::new(room, dual),
            &flows,
            room,
            pause,
        ),
    ];
    judge(report, &name, whole);
}

/// Holds the first of them to a million connections a second.
fn judge(report: &mut Report, name: &str, contenders: Vec<Contender<'_>>) {
    let mut cells = report.medians(name, NEW, contenders);
    cells.push(("bar", 1000.0));
    report.add(name, "ns", Some(("bar", 1.0)), cells);
}

fn handshakes<'a>(
    name: &'static str,
    plane: impl Plane + 'a,
    flows: &'a [V4],
    first: usize,
    pause: Duration,
) -> Contender<'a> {
    let mut opener = Opener::new(plane, pause);
    let (first, rest) = flows.split_at(first);
    assert_eq!(opener.open(first), 3 * first.len() as u64, "{name}");
    let mut rest = rest.chunks_exact(NEW);
    Contender::new(name, move |_| opener.open(rest.next().expect("a round")))
}

/// Bytes that a million connections take, as an allocator sees it: reserved for as many, all open.
fn bytes(report: &mut Report) {
    let flows = tcp_flows(M, 25);
    let one = |report: &mut Report, name: &str, cells: &dyn Fn() -> Vec<(&'static str, f64)>| {
        let name = format!("conntrack bytes {name}");
        if report.wants(&name) {
            report.add(&name, "bytes", Some(("bar", 1.0)), cells());
        }
    };
    one(report, "v4", &|| weights::<V4>(&flows));
    one(report, "dual-stack", &|| weights::<Tuple>(&flows));
}

fn weights<K: PlaneKey>(flows: &[V4]) -> Vec<(&'static str, f64)> {
    let stateful = || (tracker::<K>(M), routes(), filter(&STATEFUL));
    vec![
        (OURS, weight(flows, || tracker::<K>(M))),
        ("bar", 256.0),
        (
            "with-cache",
            weight(flows, || Cached::<K, _>::new(M, stateful())),
        ),
        ("arcbox-conntrack", weight(flows, || Arcbox::new(M))),
    ]
}

fn weight<P: Plane>(flows: &[V4], plane: impl FnOnce() -> P) -> f64 {
    let before = LIVE.load(Ordering::Relaxed);
    let mut opener = Opener::new(plane(), Duration::ZERO);
    assert_eq!(opener.open(flows), 3 * flows.len() as u64);
    (LIVE.load(Ordering::Relaxed) - before) as f64 / flows.len() as f64
}
