//! The two dataplanes: NIC, driver and shards; and the same hooks on their own.

use std::collections::BTreeSet;

use gufc::cache::Config;
use gufc::epoch::Change;
use gufc::hooks::conntrack::{self, Conntrack};
use gufc::hooks::filter::{EditError, Filter, Place, Policy, Rule};
use gufc::key::{FlowKey, Tuple};
use gufc::nic::{
    Driver, Facts, Faults, Indirection, Intake, Nic, NicConfig, Queue, Refusal, Rss, Width,
};
use gufc::packet::{Defect, Interface, Origin, Packet, TcpFlags};
use gufc::shard::{Homes, Placed, Placing, Shard, ShardId};
use gufc::testing::uncached::Uncached;
use gufc::time::{Duration, Instant};
use gufc::verdict::{Outcome, Path};
use gufc::wire::{Arrival, Frame};

use crate::capture::{Capture, Captured};
use crate::rules;

type Hooks = (Conntrack<Tuple>, Filter);

/// One queue and its shard.
#[derive(Clone, Default)]
pub(crate) struct Row {
    /// Packets that the NIC put into the queue.
    pub(crate) packets: u64,
    /// Packets that an entry of the shard answered.
    pub(crate) hits: u64,
    /// Of all packets: those whose cookie named their entry.
    pub(crate) cookie_hits: u64,
    /// Packets with a cookie that were looked up after all.
    pub(crate) fallbacks: u64,
    /// Sessions begun.
    pub(crate) misses: u64,
    /// Packets handed over to others, and taken over from them.
    pub(crate) handed: u64,
    pub(crate) taken: u64,
}

pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) flows: usize,
    pub(crate) flows_by_queue: Vec<u64>,
    pub(crate) differences: u64,
    pub(crate) moves: usize,
    pub(crate) marks: u64,
    pub(crate) refused: u64,
    pub(crate) retries: u64,
    pub(crate) unparsed: u64,
}

impl Report {
    pub(crate) fn packets(&self) -> Vec<u64> {
        self.rows.iter().map(|row| row.packets).collect()
    }
}

/// A thousand rules and a tracker.
fn hooks() -> Result<Hooks, String> {
    let mut all = vec!["ct state invalid drop".parse::<Rule>().unwrap_or_default()];
    all.extend(rules::thousand(false));
    let mut filter = Filter::new("filter", all.len() + 1, 7, Policy::Drop);
    // Nothing is cached yet, so nobody need be told.
    let ((), _change) = filter
        .replace(all, Policy::Drop)
        .map_err(|why| why.to_string())?;
    let tracker = Conntrack::try_new(conntrack::Config::new(16_384, [5, 6]));
    Ok((tracker.map_err(|why| why.to_string())?, filter))
}

/// The edit that comes half-way.
fn edit((_, filter): &mut Hooks) -> Result<Change, EditError> {
    let rule: Rule = "udp dport 53 meta mark set 0x35 continue"
        .parse()
        .unwrap_or_default();
    filter.insert(Place::First, rule).map(|(_, change)| change)
}

fn frame<'a>(
    captured: &Captured,
    bytes: &'a mut [u8],
    arrival: Arrival,
) -> Result<Frame<'a>, Defect> {
    let arrival = if captured.cut {
        arrival.cut_short()
    } else {
        arrival
    };
    Frame::parse(captured.link, bytes, &arrival)
}

struct World<'a> {
    capture: &'a Capture,
    nic: Nic<Tuple, usize>,
    driver: Driver<Tuple>,
    shards: Vec<Shard<Tuple, Hooks>>,
    twin: Uncached<Hooks>,
    report: Report,
    /// Cookies that the driver did not follow, by queue.
    refused: Vec<u64>,
}

/// Plays the capture to both.
pub(crate) fn run(
    capture: &Capture,
    rss: &Rss,
    queues: u16,
    cookies: &str,
) -> Result<Report, String> {
    let table = Indirection::equal(7, queues);
    let shard = |id| {
        Shard::new(
            ShardId(id),
            Config::new([1, 2]),
            hooks()?,
            rss.clone(),
            Homes::of_queues(&table),
            Placing::HandOver,
            65_536,
            Duration::from_secs(5 * 86_400),
        )
        .map_err(|why| why.to_string())
    };
    let shards = (0..queues).map(shard).collect::<Result<Vec<_>, String>>()?;
    let width = match cookies {
        "16" => Width::Bits16,
        "24" => Width::Bits24,
        _ => Width::Bits32,
    };
    let mut world = World {
        capture,
        nic: Nic::new(
            NicConfig::new(queues),
            rss.clone(),
            table.clone(),
            Faults::new([0, 0]),
        ),
        driver: Driver::new(width, 8_192, 0, Duration::from_millis(1)),
        shards,
        twin: Uncached { hooks: hooks()? },
        report: Report {
            rows: vec![Row::default(); usize::from(queues)],
            flows: 0,
            flows_by_queue: vec![0; usize::from(queues)],
            differences: 0,
            moves: 0,
            marks: 0,
            refused: 0,
            retries: 0,
            unparsed: 0,
        },
        refused: vec![0; usize::from(queues)],
    };
    let mut flows = BTreeSet::new();
    for number in 0..capture.packets.len() {
        if number == capture.packets.len() / 2 {
            world.change(queues)?;
        }
        world.receive(number, &mut flows, &table)?;
    }
    Ok(world.finish(flows.len()))
}

impl World<'_> {
    /// The indirection table is rebalanced, and a rule comes.
    fn change(&mut self, queues: u16) -> Result<(), String> {
        let load = self.nic.take_load();
        let moves = self.nic.indirection_mut().rebalance(&load, queues, 16);
        self.report.moves = moves.len();
        for shard in &mut self.shards {
            shard.edit(edit).ok_or("no room for the rule")?;
        }
        self.twin
            .edit(|hooks| edit(hooks).map(|change| ((), change)))
            .map_err(|why| why.to_string())
    }

    /// A packet comes in from the wire, and is processed at once.
    fn receive(
        &mut self,
        number: usize,
        flows: &mut BTreeSet<Tuple>,
        table: &Indirection,
    ) -> Result<(), String> {
        let captured = &self.capture.packets[number];
        let now = captured.at;
        let mut bytes = captured.bytes.clone();
        let arrival = Arrival::on(Interface(1));
        let Ok(packet) = frame(captured, &mut bytes, arrival) else {
            self.report.unparsed += 1;
            return Ok(());
        };
        let key = packet.key();
        let ends = TcpFlags::SYN.union(TcpFlags::FIN).union(TcpFlags::RST);
        let facts = Facts {
            fragment: packet.fragment().is_part(),
            control: packet.tcp_flags().intersects(ends),
            length: packet.length(),
        };
        if flows.insert(key) {
            let queue = table.queue(self.nic.rss().hash(&key.fields()));
            self.report.flows_by_queue[queue.index()] += 1;
        }
        self.driver.tick(&mut self.nic, now, 16);
        if let Intake::Queued(queue) = self.nic.receive(&key, facts, number, now) {
            while let Some(received) = self.nic.poll(queue) {
                let cookie = self.driver.resolve(received.cookie);
                self.refused[queue.index()] +=
                    u64::from(!matches!(cookie, Ok(_) | Err(Refusal::None)));
                let mut arrival = Arrival::on(Interface(1)).with_hash(received.hash);
                arrival.cookie = cookie.ok();
                self.deliver(queue, received.packet, arrival, now)?;
            }
        }
        Ok(())
    }

    fn deliver(
        &mut self,
        queue: Queue,
        number: usize,
        arrival: Arrival,
        now: Instant,
    ) -> Result<(), String> {
        let captured = &self.capture.packets[number];
        let (mut ours, mut theirs) = (captured.bytes.clone(), captured.bytes.clone());
        self.report.rows[queue.index()].packets += 1;
        let mut packet =
            frame(captured, &mut ours, arrival).map_err(|defect| defect.to_string())?;
        let key = packet.key();
        let mut place = queue.index();
        let mut placed = self.shards[place].process(&mut packet, now);
        let outcome: Outcome = loop {
            match placed {
                Placed::Here(outcome, announcement) => {
                    // Told before the packet is sent, so that no reply can overtake it.
                    if let Some(announcement) = announcement {
                        self.shards[usize::from(announcement.to.0)].learn(announcement, now);
                    }
                    break outcome;
                }
                Placed::Elsewhere(remote, handed) => {
                    place = usize::from(remote.shard.0);
                    placed = self.shards[place].take_over(&mut packet, handed, now);
                }
            }
        };
        if outcome.path == Path::Hit && !self.driver.is_marked(&key) {
            let cookie = self.shards[place].cache().cookie(Origin::Received, &key);
            if let Some(cookie) = cookie {
                // Without a mark the flow is looked up, as ever.
                let _ = self.driver.mark(&mut self.nic, key, None, cookie, now);
            }
        }
        let twin = frame(captured, &mut theirs, Arrival::on(Interface(1)))
            .map(|mut packet| self.twin.process(&mut packet, now));
        let agrees = twin.is_ok_and(|twin| outcome.agrees(&twin)) && ours == theirs;
        if !agrees {
            if self.report.differences == 0 {
                eprintln!(
                    "packet {}: {key}: {outcome:?}, expected {twin:?}",
                    number + 1
                );
            }
            self.report.differences += 1;
        }
        Ok(())
    }

    fn finish(mut self, flows: usize) -> Report {
        for ((row, shard), refused) in self
            .report
            .rows
            .iter_mut()
            .zip(&self.shards)
            .zip(&self.refused)
        {
            let stats = shard.cache().stats();
            row.hits = stats.cached();
            row.cookie_hits = stats.cookie_hits;
            row.fallbacks = stats.cookie_misses + refused;
            row.misses = stats.misses;
            row.handed = shard.stats().handed + shard.stats().remote;
            row.taken = shard.stats().taken;
        }
        self.report.flows = flows;
        let stats = self.driver.stats();
        (self.report.marks, self.report.refused, self.report.retries) =
            (stats.marks, stats.marks_refused, stats.retries);
        self.report
    }
}
