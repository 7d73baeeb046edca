//! Masquerading over shards: ports are chosen so that replies come home, and where none is left, a handle brings them.

use core::sync::atomic::{AtomicU32, Ordering};
use std::collections::BTreeMap;
use std::sync::mpsc;

use gufc::cache::Config;
use gufc::hook::{Context, Hook, Judge, Judgement, Stage, Stages};
use gufc::hooks::conntrack::{self, Conntrack};
use gufc::hooks::nat::{Nat, Place};
use gufc::key::{Endpoint, FlowKey, Protocol, SevenTuple, Tuple};
use gufc::nic::{Choice, End, HomePorts, Indirection, PortBlock, PortSolver, Queue, Rss, RssKey};
use gufc::packet::{Packet, Rewrite};
use gufc::shard::{
    Announcement, Handed, Homes, HomingPorts, Placed, Placing, Shard, ShardId, shards,
};
use gufc::testing::prng::SplitMix64;
use gufc::testing::toy::ToyPacket;
use gufc::time::{Duration, Instant};
use gufc::verdict::{By, Verdict};

const QUEUES: u16 = 4;

fn public() -> core::net::IpAddr {
    core::net::Ipv4Addr::new(192, 0, 2, 1).into()
}

fn rss() -> Rss {
    // Not symmetric: nothing but the choice of ports and the handles brings replies home.
    Rss::new(RssKey::MICROSOFT)
}

/// Translates sources inside 10/8 to one public address; its mappings live in its shard.
struct Masquerade {
    queue: Queue,
    table: Indirection,
    solver: PortSolver,
    ports: HomePorts,
    /// Ports that lead home may be used up on purpose.
    home_ports: bool,
    /// By original: what it leaves as; by reply: where it goes.
    there: BTreeMap<Tuple, Tuple>,
    back: BTreeMap<Tuple, Tuple>,
    unknown: u64,
}

impl Masquerade {
    fn new(queue: Queue, home_ports: bool) -> Self {
        let (rss, table) = (rss(), Indirection::equal(7, QUEUES));
        let any: Tuple = "tcp 198.51.100.1:80 > 192.0.2.1:0"
            .parse()
            .expect("a tuple");
        let solver = PortSolver::new(&rss, &any.fields(), End::Destination, 0x7fff, table.bits());
        let away_block = PortBlock {
            fixed: 0x4000 | queue.0 << 10,
            free: 0x03ff,
        };
        Self {
            queue,
            table,
            solver,
            ports: HomePorts::new(32, away_block),
            home_ports,
            there: BTreeMap::new(),
            back: BTreeMap::new(),
            unknown: 0,
        }
    }

    /// The tuple that a flow from inside leaves as.
    fn map(&mut self, from: Tuple) -> Option<Tuple> {
        if let Some(to) = self.there.get(&from) {
            return Some(*to);
        }
        let leaves = |port| from.with(Endpoint::new(public(), port), from.destination());
        let reply = leaves(0)?.inverse()?.fields();
        let (back, home_ports) = (&self.back, self.home_ports);
        let is_free = |port| {
            let reply = leaves(port).and_then(|to| to.inverse());
            (home_ports || port < 0x8000) && reply.is_some_and(|reply| !back.contains_key(&reply))
        };
        let turn = u32::from(from.fields().source_port);
        let choice = self.ports.choose(
            &self.solver,
            &self.table,
            self.queue,
            &reply,
            0x8000,
            turn,
            is_free,
        );
        let port = match choice {
            Choice::Home(port) | Choice::Away(port) => port,
            Choice::None => return None,
        };
        let to = leaves(port)?;
        self.there.insert(from, to);
        self.back.insert(to.inverse()?, from.inverse()?);
        Some(to)
    }
}

impl Hook for Masquerade {
    type Step = Rewrite<Tuple>;
    fn name(&self) -> &'static str {
        "masquerade"
    }
    fn stages(&self) -> Stages {
        Stages::of(Stage::Destination).and(Stage::Source)
    }
}

fn stage_of(key: &Tuple) -> Stage {
    if key.destination().address == public() {
        Stage::Destination
    } else {
        Stage::Source
    }
}

impl<P: Packet<Key = Tuple>> Judge<P> for Masquerade {
    fn judge(
        &mut self,
        stage: Stage,
        packet: &mut P,
        context: &mut Context,
        step: &mut Option<Rewrite<Tuple>>,
    ) -> Judgement {
        let from = packet.key();
        let inside = from.source().address.to_string().starts_with("10.");
        let to = match stage {
            Stage::Destination if from.destination().address == public() => {
                let to = self.back.get(&from).copied();
                self.unknown += u64::from(to.is_none());
                to
            }
            Stage::Source if inside => self.map(from),
            _ => return Judgement::Continue,
        };
        let Some(to) = to else {
            context.by = By {
                hook: "masquerade",
                rule: None,
            };
            return Judgement::Finish {
                verdict: Verdict::Drop,
                constant: false,
            };
        };
        let rewrite = Rewrite::between(&from, &to);
        packet.rewrite(&rewrite);
        *step = Some(rewrite);
        Judgement::Continue
    }

    fn run(
        &mut self,
        stage: Stage,
        step: &Rewrite<Tuple>,
        packet: &mut P,
        _: &mut Context,
    ) -> Option<Verdict> {
        if stage == stage_of(&packet.key()) {
            packet.rewrite(step);
        }
        None
    }
}

struct World {
    shards: Vec<Shard<Tuple, (Masquerade,)>>,
    rss: Rss,
    table: Indirection,
    now: Instant,
}

impl World {
    fn new(home_ports: bool) -> Self {
        let table = Indirection::equal(7, QUEUES);
        let shard = |id| {
            Shard::new(
                ShardId(id),
                Config::new([1, 2]),
                (Masquerade::new(Queue(id), home_ports),),
                rss(),
                Homes::of_queues(&table),
                Placing::HandOver,
                10_000,
                Duration::from_secs(600),
            )
            .expect("a valid configuration")
        };
        Self {
            shards: (0..QUEUES).map(shard).collect(),
            rss: rss(),
            table: table.clone(),
            now: Instant::from_secs(1),
        }
    }

    /// Sends a packet in, and gives what comes out.
    fn send(&mut self, key: Tuple) -> Option<Tuple> {
        let at = self.table.queue(self.rss.hash(&key.fields())).index();
        let mut packet = ToyPacket::new(key);
        let mut placed = self.shards[at].process(&mut packet, self.now);
        loop {
            match placed {
                Placed::Elsewhere(remote, handed) => {
                    packet.cookie = packet.cookie.or(remote.cookie);
                    let shard = &mut self.shards[usize::from(remote.shard.0)];
                    placed = shard.take_over(&mut packet, handed, self.now);
                }
                Placed::Here(outcome, announcement) => {
                    if let Some(announcement) = announcement {
                        let to = usize::from(announcement.to.0);
                        assert!(self.shards[to].learn(announcement, self.now));
                    }
                    return outcome.verdict.is_accept().then_some(packet.key);
                }
            }
        }
    }
}

/// A flow's first packet, whose length says which flow it is.
fn numbered(n: u32) -> ToyPacket {
    let key = SevenTuple::new(
        core::net::Ipv4Addr::from_bits(0x0a00_0001 + n / 8),
        core::net::Ipv4Addr::new(198, 51, 100, (n % 5) as u8),
        Protocol::TCP,
        2_000 + n as u16,
        443,
    );
    ToyPacket {
        length: n,
        ..ToyPacket::new(key)
    }
}

/// What shards send to one another.
enum Message {
    Announced(Announcement<Tuple>),
    HandedOver(ToyPacket, Handed),
}

/// Flows out, replies back, and again, in random order; every reply must reach the host that the flow is from, and no two flows may
/// leave alike.
fn story(home_ports: bool) -> World {
    let mut world = World::new(home_ports);
    let mut chance = SplitMix64(7);
    let mut leaves: BTreeMap<Tuple, Tuple> = BTreeMap::new();
    let mut owners: BTreeMap<Tuple, Tuple> = BTreeMap::new();
    for _ in 0..6_000 {
        let n = chance.below(600) as u32;
        let flow: Tuple = SevenTuple::new(
            core::net::Ipv4Addr::from_bits(0x0a00_0001 + n / 4),
            core::net::Ipv4Addr::new(198, 51, 100, (n % 3) as u8),
            Protocol::TCP,
            2_000 + n as u16,
            443,
        )
        .into();
        let out = world.send(flow).expect("a port");
        assert_eq!(out.source().address, public());
        assert_eq!(*leaves.entry(flow).or_insert(out), out, "as before");
        assert_eq!(*owners.entry(out).or_insert(flow), flow, "nobody else's");
        let reply = out.inverse().expect("an answer");
        assert_eq!(world.send(reply), flow.inverse(), "{flow} as {out}");
    }
    world
}

type Translator = Shard<Tuple, (Nat<Tuple>,)>;

/// The translator, with the rule of `snat`, on four shards: flows out and replies back. Gives the shards, and flows sent.
fn translated(snat: &str) -> (Vec<Translator>, u64) {
    let table = Indirection::equal(7, QUEUES);
    let mut shards: Vec<_> = (0..QUEUES)
        .map(|id| {
            let tracker = Conntrack::try_new(conntrack::Config::new(1_024, [1, 2])).expect("room");
            let mut nat = Nat::try_new(tracker, 10, [3, u64::from(id)]).expect("room");
            let rule = format!("ip saddr 10.0.0.0/8 {snat}")
                .parse()
                .expect("a rule");
            let _ = nat.insert(Place::Last, rule).expect("room");
            let ports = HomingPorts::new(&rss(), &table, ShardId(id), QUEUES, 64);
            nat.set_homing(Some(Box::new(ports)));
            let (homes, idle) = (Homes::of_queues(&table), Duration::from_secs(600));
            let config = Config::new([1, 2]);
            Shard::new(
                ShardId(id),
                config,
                (nat,),
                rss(),
                homes,
                Placing::HandOver,
                10_000,
                idle,
            )
            .expect("a valid configuration")
        })
        .collect();
    let now = Instant::from_secs(1);
    let mut send = |key: Tuple| {
        let at = table.queue(rss().hash(&key.fields())).index();
        let mut packet = ToyPacket::new(key);
        let mut placed = shards[at].process(&mut packet, now);
        loop {
            match placed {
                Placed::Elsewhere(remote, handed) => {
                    packet.cookie = packet.cookie.or(remote.cookie);
                    let shard = &mut shards[usize::from(remote.shard.0)];
                    placed = shard.take_over(&mut packet, handed, now);
                }
                Placed::Here(outcome, announcement) => {
                    if let Some(announcement) = announcement {
                        let to = usize::from(announcement.to.0);
                        assert!(shards[to].learn(announcement, now));
                    }
                    assert!(outcome.verdict.is_accept(), "{key}: {outcome:?}");
                    return packet.key;
                }
            }
        }
    };
    let mut owners: BTreeMap<Tuple, Tuple> = BTreeMap::new();
    let flows = 1_200;
    for n in 0..flows {
        let flow: Tuple = SevenTuple::new(
            core::net::Ipv4Addr::from_bits(0x0a00_0001 + n),
            core::net::Ipv4Addr::new(198, 51, 100, (n % 3) as u8),
            Protocol::UDP,
            4_000,
            443,
        )
        .into();
        for _ in 0..2 {
            let out = send(flow);
            assert_eq!(out.source().address, public());
            assert_eq!(*owners.entry(out).or_insert(flow), flow, "nobody else's");
            let back = send(out.inverse().expect("an answer"));
            assert_eq!(Some(back), flow.inverse(), "{flow} as {out}");
        }
    }
    (shards, flows.into())
}

/// Goal: the translator itself chooses ports that lead home, over all shards no two alike.
#[test]
fn the_translator_s_ports_lead_home() {
    let (shards, flows) = translated("snat to 192.0.2.1");
    let mut home = 0;
    for shard in &shards {
        let (nat,) = shard.cache().hooks();
        home += nat.counters().home;
        assert_eq!(nat.counters().away, 0);
        let stats = shard.stats();
        assert_eq!((stats.announced, stats.remote, stats.handed), (0, 0, 0));
    }
    assert_eq!(home, flows);
}

/// Goal: where its rule leaves it no such port it falls back, counted, and handles bring the replies home.
#[test]
fn the_translator_s_other_ports_are_counted() {
    let (shards, flows) = translated("snat to 192.0.2.1:16384-32767");
    let (mut away, mut remote) = (0, 0);
    for shard in &shards {
        let (nat,) = shard.cache().hooks();
        away += nat.counters().away;
        remote += shard.stats().remote;
        assert_eq!(nat.counters().home, 0);
    }
    assert_eq!(away, flows);
    assert!(remote > flows, "{remote}");
}

#[test]
fn replies_of_chosen_ports_come_home() {
    let world = story(true);
    for shard in &world.shards {
        let (masquerade,) = shard.cache().hooks();
        assert!(masquerade.ports.home > 50);
        assert_eq!((masquerade.ports.away, masquerade.ports.none), (0, 0));
        assert_eq!(masquerade.unknown, 0);
        let stats = shard.stats();
        assert_eq!((stats.announced, stats.remote, stats.handed), (0, 0, 0));
    }
}

#[test]
fn replies_of_other_ports_are_brought_home_by_handles() {
    let world = story(false);
    let (mut away, mut remote, mut cookie_hits) = (0, 0, 0);
    for shard in &world.shards {
        let (masquerade,) = shard.cache().hooks();
        assert_eq!((masquerade.ports.home, masquerade.unknown), (0, 0));
        away += masquerade.ports.away;
        remote += shard.stats().remote;
        cookie_hits += shard.cache().stats().cookie_hits;
    }
    assert!(away >= 500, "{away}");
    assert!(remote > 3_000, "{remote}");
    // The handle names the entry: no lookup at home.
    assert!(cookie_hits > 3_000, "{cookie_hits} of {remote}");
}

/// Goal: with shards on threads of their own, each reply reaches the flow that it answers, whichever shard it lands at. Method: the
/// rule of the module's documentation, that announcements are made before packets are sent, and that inboxes are read after queues
/// are polled. A reply that overtook its announcement would be unknown where it lands.
#[test]
fn no_reply_overtakes_its_announcement() {
    const FLOWS: u32 = 2_000;
    let table = Indirection::equal(7, QUEUES);
    let World { shards: all, .. } = World::new(false);
    let (_control, all) = shards(all, 4);
    let answered = AtomicU32::new(0);
    let queues: Vec<_> = (0..QUEUES).map(|_| mpsc::channel::<ToyPacket>()).collect();
    let inboxes: Vec<_> = (0..QUEUES).map(|_| mpsc::channel::<Message>()).collect();
    let (wires, queues): (Vec<_>, Vec<_>) = queues.into_iter().unzip();
    let (posts, inboxes): (Vec<_>, Vec<_>) = inboxes.into_iter().unzip();
    let queue_of = |key: &Tuple| table.queue(rss().hash(&key.fields())).index();
    for n in 0..FLOWS {
        let packet = numbered(n);
        wires[queue_of(&packet.key)].send(packet).expect("open");
    }
    let ends = all.into_iter().zip(queues).zip(inboxes);
    std::thread::scope(|scope| {
        for ((mut shard, queue), inbox) in ends {
            let (wires, posts, answered, queue_of) = (&wires, &posts, &answered, &queue_of);
            scope.spawn(move || {
                let now = Instant::from_secs(1);
                // What became of a packet: told, handed over, or sent and answered.
                let settle = |packet: ToyPacket, placed| match placed {
                    Placed::Elsewhere(remote, handed) => {
                        let packet = ToyPacket {
                            cookie: packet.cookie.or(remote.cookie),
                            ..packet
                        };
                        let to = &posts[usize::from(remote.shard.0)];
                        to.send(Message::HandedOver(packet, handed)).expect("open");
                    }
                    Placed::Here(outcome, announcement) => {
                        assert!(outcome.verdict.is_accept(), "{packet:?} {outcome:?}");
                        if let Some(announcement) = announcement {
                            let to = &posts[usize::from(announcement.to.0)];
                            to.send(Message::Announced(announcement)).expect("open");
                        }
                        let sent = numbered(packet.length).key;
                        if packet.key.source().address == public() {
                            let reply = packet.key.inverse().expect("an answer");
                            let packet = ToyPacket {
                                key: reply,
                                cookie: None,
                                ..packet
                            };
                            wires[queue_of(&reply)].send(packet).expect("open");
                        } else {
                            assert_eq!(Some(packet.key), sent.inverse(), "another's reply");
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                };
                while answered.load(Ordering::Relaxed) < FLOWS {
                    let mut burst: Vec<ToyPacket> = queue.try_iter().take(32).collect();
                    for message in inbox.try_iter() {
                        match message {
                            Message::Announced(announcement) => {
                                assert!(shard.shard_mut().learn(announcement, now));
                            }
                            Message::HandedOver(mut packet, handed) => {
                                let placed = shard.shard_mut().take_over(&mut packet, handed, now);
                                settle(packet, placed);
                            }
                        }
                    }
                    shard.process_burst(&mut burst, now, |packet, placed| settle(*packet, placed));
                    std::thread::yield_now();
                }
                let (masquerade,) = shard.shard().cache().hooks();
                assert_eq!(masquerade.unknown, 0);
            });
        }
    });
    assert_eq!(answered.load(Ordering::Relaxed), FLOWS);
}
