//! The same attacks on a dataplane whose hooks have no state by flow: routes and a filter.

use std::time::Instant as Clock;

use gufc::cache::{Config, FlowCache};
use gufc::hooks::filter::{Filter, Place, Policy};
use gufc::hooks::route::{Routes, Target};
use gufc::packet::Interface;
use gufc::time::{Duration, Instant};
use gufc::wire::{Arrival, Frame};

use crate::Arguments;
use crate::attacks::{Attack, Packets};
use crate::round::median;
use crate::world::{Key, Parcel, SEED, World};

type Hooks = (Routes, Filter);

/// What is allowed: the web and names, both ways.
const RULES: [&str; 4] = [
    "tcp dport 443 accept",
    "tcp sport 443 accept",
    "udp dport 53 accept",
    "udp sport 53 accept",
];

struct Stateless {
    cache: FlowCache<Key, Hooks>,
    now: Instant,
}

impl Stateless {
    fn new(rules: Vec<String>, capacity: u32, aggregates: u32) -> Result<Self, String> {
        let mut filter = Filter::new("filter", rules.len() + 2_000, 7, Policy::Drop);
        let fillers =
            (0..1_000).map(|n| format!("ip saddr 203.0.{}.{} udp dport 9 drop", n / 250, n % 250));
        let rules = rules.into_iter().chain(RULES.map(String::from));
        for line in rules.chain(fillers) {
            let rule = line.parse().map_err(|why| format!("{line}: {why}"))?;
            // Nothing is cached yet.
            let (_, _change) = filter
                .insert(Place::Last, rule)
                .map_err(|why| why.to_string())?;
        }
        let mut routes = Routes::try_new(16).map_err(|why| why.to_string())?;
        let hop = routes.add_next_hop(Interface(2));
        let hop = hop.map_err(|why| why.to_string())?;
        for prefix in ["0.0.0.0/0", "10.0.0.0/8", "198.51.100.0/24"] {
            let prefix = prefix.parse().map_err(|why| format!("{prefix}: {why}"))?;
            let (_, _change) = routes
                .insert(prefix, Target::Via(hop))
                .map_err(|why| why.to_string())?;
        }
        let config = Config {
            sessions: capacity as usize,
            aggregates: aggregates as usize,
            ..Config::new(SEED)
        };
        let cache = FlowCache::new(config, (routes, filter)).map_err(|why| why.to_string())?;
        Ok(Self {
            cache,
            now: Instant::from_secs(1),
        })
    }

    fn process(&mut self, mut parcel: Parcel) {
        let mut arrival = Arrival::on(Interface(1));
        if let Some(cookie) = parcel.cookie {
            arrival = arrival.with_cookie(cookie);
        }
        if let Ok(mut packet) = Frame::<Key>::ip(&mut parcel.bytes, &arrival) {
            let _ = self.cache.process(&mut packet, self.now);
        }
    }

    /// Nanoseconds a packet of a burst.
    fn timed(&mut self, burst: Vec<Parcel>) -> f64 {
        let count = burst.len() as f64;
        let began = Clock::now();
        for parcel in burst {
            self.process(parcel);
        }
        began.elapsed().as_nanos() as f64 / count
    }

    fn tick(&mut self) {
        self.now = self.now + Duration::from_millis(10);
        self.cache.maintain(self.now, 64);
    }

    /// Packets of all that hooks have judged.
    fn judged(&self) -> u64 {
        let stats = self.cache.stats();
        stats.packets() - stats.cached()
    }
}

/// What came of one attack without aggregates, or with them.
struct Line {
    hit: f64,
    attack: f64,
    /// Sessions and aggregates at the end.
    entries: [usize; 2],
    /// Of a thousand packets of the attacker's, those that hooks judged.
    judged: u64,
}

/// Prints the second table.
pub(crate) fn table(arguments: &Arguments) -> Result<(), String> {
    println!(
        "\nwithout connection tracking, routes and {} rules; entries are sessions + aggregates, judged is of a thousand of the attacker's packets",
        RULES.len() + 1_000
    );
    println!(
        "{:<22} | {:>6} {:>9} {:>11} {:>6} | {:>6} {:>9} {:>11} {:>6}",
        "attack",
        "hit ns",
        "attack ns",
        "entries",
        "judged",
        "hit ns",
        "attack ns",
        "entries",
        "judged"
    );
    for attack in Attack::ALL {
        let wanted = arguments.filter.as_ref();
        if wanted.is_some_and(|name| !attack.name().contains(name.as_str())) {
            continue;
        }
        let [off, on] = play(attack, arguments)?;
        let text = |line: Line| {
            let [sessions, aggregates] = line.entries;
            format!(
                "{:>6.0} {:>9.0} {:>11} {:>6}",
                line.hit,
                line.attack,
                format!("{sessions} + {aggregates}"),
                line.judged
            )
        };
        println!("{:<22} | {} | {}", attack.name(), text(off), text(on));
    }
    Ok(())
}

/// Without aggregates and with them, in turns.
fn play(attack: Attack, arguments: &Arguments) -> Result<[Line; 2], String> {
    // Who knows everything: whose connections are attacked.
    let mut world = World::new(attack.rules(), arguments.flows, arguments.capacity)?;
    let mut packets = Packets::new(attack, &world);
    let new = |aggregates| Stateless::new(attack.rules(), arguments.capacity, aggregates);
    let mut planes = [new(0)?, new(arguments.aggregates)?];
    let (mut times, mut judged) = ([const { [const { Vec::new() }; 2] }; 2], [0; 2]);
    for round in 0..arguments.rounds {
        let established = world.established(round);
        let hostile: Vec<Parcel> = (0..512).map(|_| packets.next(&world)).collect();
        for (n, plane) in planes.iter_mut().enumerate() {
            let before = plane.judged();
            times[n][1].push(plane.timed(hostile.clone()));
            judged[n] += plane.judged() - before;
            times[n][0].push(plane.timed(established.clone()));
            plane.tick();
        }
    }
    let mut lines = planes.into_iter().zip(times).zip(judged);
    let mut line = || {
        let ((plane, [hit, attack]), judged) = lines.next()?;
        let held = plane.cache.stats().aggregates_begun - plane.cache.stats().aggregates_ended;
        Some(Line {
            hit: median(hit),
            attack: median(attack),
            entries: [plane.cache.len(), held as usize],
            judged: judged * 1_000 / (512 * u64::from(arguments.rounds)),
        })
    };
    match (line(), line()) {
        (Some(off), Some(on)) => Ok([off, on]),
        _ => Err(String::from("two dataplanes")),
    }
}
