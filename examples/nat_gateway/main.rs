//! Many hosts behind one address: a gateway with a tracker, a pool of outside ports and a flow cache, for some simulated
//! minutes of resolving, browsing, pinging, streaming and being called.
//!
//! Every packet that leaves is checked: its source is the outside end of one inside end only, its checksums are right, and
//! what comes back reaches the host that asked. Exit status 0 when all of it held.

mod hosts;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use gufc::cache::{self, FlowCache};
use gufc::hooks::conntrack::{Config, Conntrack, Timeouts};
use gufc::hooks::nat::{Allocation, Nat, Place, Pool, PoolConfig, PoolError, PoolId};
use gufc::hooks::route::{Options, Routes, Target};
use gufc::key::{Endpoint, FlowKey, Ports, Tuple};
use gufc::packet::{Interface, Packet};
use gufc::time::{Duration, Instant};
use gufc::wire::{Arrival, Frame};

use hosts::{Event, Hosts};

const INSIDE: Interface = Interface(1);
const OUTSIDE: Interface = Interface(2);
const OWN: &str = "203.0.113.1";

/// Simulate hosts behind one address; print what the translator did.
#[derive(Parser)]
#[command(name = "nat_gateway", version)]
struct Arguments {
    /// Hosts, each with an address of its own in 10.0.0.0/16.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    hosts: u32,
    /// Simulated seconds.
    #[arg(long, value_name = "S", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Outside ports of the one address, for each protocol.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u16).range(64..=64_512))]
    ports: u16,
    /// Ports that one host may have at once.
    #[arg(long, value_name = "N", default_value_t = 64)]
    quota: u32,
    /// How ports are handed out.
    #[arg(long, value_enum, default_value_t = Way::Single)]
    allocation: Way,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Ways to hand out ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Each by itself.
    Single,
    /// Blocks of 16, four for a host at most.
    Blocks,
    /// Blocks that follow from the host's address (RFC 7422).
    Deterministic,
}

type Hooks = (Nat<Tuple>, Routes);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("nat_gateway: {why}");
            ExitCode::FAILURE
        }
    }
}

fn say(why: impl ToString) -> String {
    why.to_string()
}

fn hooks(arguments: &Arguments) -> Result<Hooks, String> {
    let own: IpAddr = OWN.parse().map_err(say)?;
    let mut tracking = Config::new(200_000, [1, arguments.seed]);
    tracking.timeouts = vec![Timeouts::RFC];
    let tracker = Conntrack::try_new(tracking).map_err(say)?;
    let mut nat = Nat::try_new(tracker, 8, [2, arguments.seed]).map_err(say)?;
    nat.set_addresses(OUTSIDE, &[own]);
    let bits = 32 - (arguments.hosts + 1).next_power_of_two().trailing_zeros();
    let inside = format!("10.0.0.0/{bits}").parse().map_err(say)?;
    let pool = PoolConfig {
        ports: Ports {
            first: 1024,
            last: 1024 + (arguments.ports - 1),
        },
        inside: vec!["10.0.0.0/16".parse().map_err(say)?],
        quota: Some(arguments.quota),
        quarantine: Duration::from_secs(120),
        allocation: match arguments.allocation {
            Way::Single => Allocation::Single,
            Way::Blocks => Allocation::Blocks { size: 16, max: 4 },
            Way::Deterministic => Allocation::Deterministic { inside },
        },
        ..PoolConfig::new(vec![own])
    };
    let pool = nat.add_pool(pool).map_err(say)?;
    let rule = "ip saddr 10.0.0.0/16 oif 2 snat to pool 0"
        .parse()
        .map_err(say)?;
    let (_, _change) = nat.insert(Place::Last, rule).map_err(say)?;
    // The first host offers something to the world.
    let server: Tuple = "tcp 10.0.0.1:80 > 0.0.0.0:0".parse().map_err(say)?;
    nat.forward(pool, &server, Endpoint::new(own, 80))
        .map_err(say)?;
    let options = Options {
        decrement: true,
        ..Options::default()
    };
    let mut routes = Routes::with_options(4, 0, 2, options).map_err(say)?;
    for (prefix, interface) in [("10.0.0.0/16", INSIDE), ("0.0.0.0/0", OUTSIDE)] {
        let hop = routes.add_next_hop(interface).map_err(say)?;
        let (_, _change) = routes
            .insert(prefix.parse().map_err(say)?, Target::Via(hop))
            .map_err(say)?;
    }
    Ok((nat, routes))
}

/// What the simulation has counted by itself.
#[derive(Default)]
struct Seen {
    out: u64,
    back: u64,
    turned: u64,
    refused: u64,
    stray: u64,
    ports_max: usize,
    mappings_max: usize,
    host_max: u32,
}

fn run(arguments: &Arguments) -> Result<String, String> {
    let own: IpAddr = OWN.parse().map_err(say)?;
    let config = cache::Config {
        sessions: 200_000,
        ..cache::Config::new([3, arguments.seed])
    };
    let mut cache: FlowCache<Tuple, Hooks> =
        FlowCache::new(config, hooks(arguments)?).map_err(say)?;
    let mut hosts = Hosts::new(arguments.hosts, own, arguments.seed);
    let mut seen = Seen::default();
    // Whom an outside end belongs to while his mapping lives.
    let mut ends: BTreeMap<(u8, Endpoint), Endpoint> = BTreeMap::new();
    let mut now = Instant::from_secs(1);
    let end = now + Duration::from_secs(arguments.seconds);
    while now < end {
        now = now + Duration::from_millis(20);
        for event in hosts.tick(now) {
            let Event {
                from_inside,
                mut bytes,
                expected,
            } = event;
            let ingress = if from_inside { INSIDE } else { OUTSIDE };
            let frame = Frame::ip(&mut bytes, &Arrival::on(ingress)).map_err(say)?;
            let mut frame: Frame<'_> = frame.locate(|address| address == own);
            let before = frame.key();
            let outcome = cache.process(&mut frame, now);
            let key = frame.key();
            if !outcome.verdict.is_accept() {
                seen.refused += u64::from(from_inside);
                seen.stray += u64::from(!from_inside);
                hosts.lost(&before);
                continue;
            }
            if !frame.is_intact() {
                return Err(format!("{key}: a wrong checksum"));
            }
            let egress = outcome.egress.map(|egress| egress.interface);
            match (from_inside, egress) {
                (true, Some(OUTSIDE)) => {
                    seen.out += 1;
                    let outside = (key.protocol().0, key.source());
                    let holder = *ends.entry(outside).or_insert(before.source());
                    if holder != before.source() && is_mapped(&cache, &key, holder) {
                        return Err(format!(
                            "{} and {holder:?} share {:?}",
                            before.source().address,
                            key.source()
                        ));
                    }
                    ends.insert(outside, before.source());
                    hosts.left(&before, &key, now);
                }
                (true, Some(INSIDE)) => seen.turned += 1,
                (false, Some(INSIDE)) => {
                    seen.back += 1;
                    let reached = inside_end(&key);
                    if expected.is_some_and(|expected| expected != reached) {
                        return Err(format!("{before} went to {reached:?}, not to {expected:?}"));
                    }
                    hosts.arrived(&key, now);
                }
                _ => seen.stray += 1,
            }
        }
        cache.maintain(now, 256);
        let mut maintained = || {
            cache.edit(|(nat, _)| {
                nat.maintain(now, 4096);
                Ok::<_, String>(((), gufc::epoch::Change::nothing()))
            })
        };
        maintained()?;
        if now.nanos() % 1_000_000_000 == 0 {
            let nat = &cache.hooks().0;
            seen.ports_max = seen.ports_max.max(pool(nat)?.lent());
            seen.mappings_max = seen.mappings_max.max(nat.mappings().count());
            let most = hosts
                .addresses()
                .map(|host| pool(nat).map_or(0, |pool| pool.ports_of(host)))
                .max();
            seen.host_max = seen.host_max.max(most.unwrap_or(0));
        }
    }
    if seen.host_max > arguments.quota {
        return Err(format!("a host has {} ports", seen.host_max));
    }
    table(arguments, &cache, &seen)
}

fn pool(nat: &Nat<Tuple>) -> Result<&Pool, String> {
    nat.pool(PoolId(0)).ok_or_else(|| "no pool".into())
}

/// Whom an answer has reached; an ICMP identifier stands with the source.
fn inside_end(key: &Tuple) -> Endpoint {
    let end = key.destination();
    if key.protocol().is_icmp() {
        return Endpoint::new(end.address, key.source().port);
    }
    end
}

/// Whether an inside end still has the outside end that a packet left with.
fn is_mapped(cache: &FlowCache<Tuple, Hooks>, key: &Tuple, inside: Endpoint) -> bool {
    cache.hooks().0.mappings().any(|one| {
        one.protocol() == key.protocol()
            && one.outside == key.source()
            && one.inside.source() == inside
    })
}

fn table(
    arguments: &Arguments,
    cache: &FlowCache<Tuple, Hooks>,
    seen: &Seen,
) -> Result<String, String> {
    let (nat, _) = cache.hooks();
    let pool = pool(nat)?;
    let (stats, counters) = (cache.stats(), nat.counters());
    let mut text = String::new();
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "{what:<44}{value:>14}");
    };
    let share = |part: u64, of: u64| format!("{:.1} %", 100.0 * part as f64 / of.max(1) as f64);
    line("hosts behind one address", arguments.hosts.to_string());
    line("simulated seconds", arguments.seconds.to_string());
    line("packets out, translated", seen.out.to_string());
    line(
        "packets back, to the host that asked",
        seen.back.to_string(),
    );
    line("turned back inside (hairpin)", seen.turned.to_string());
    line("strays from outside, nobody's", seen.stray.to_string());
    line(
        "packets refused for want of a port",
        seen.refused.to_string(),
    );
    line(
        "answered by the cache",
        share(stats.cached(), stats.packets()),
    );
    line("connections now", nat.tracker().len().to_string());
    line("connections translated", counters.translated.to_string());
    line(
        "mappings now / at most",
        format!("{} / {}", nat.mappings().count(), seen.mappings_max),
    );
    line(
        "ports lent now / at most",
        format!("{} / {}", pool.lent(), seen.ports_max),
    );
    line("of each protocol", arguments.ports.to_string());
    line(
        "ports of one host at most / quota",
        format!("{} / {}", seen.host_max, arguments.quota),
    );
    line("ports and blocks at rest", pool.resting().to_string());
    for (what, reason) in [
        ("refused: no port free", PoolError::Exhausted),
        ("refused: the host's quota", PoolError::Quota),
        ("refused: no block for the address", PoolError::Outsider),
    ] {
        line(what, pool.refused(reason).to_string());
    }
    line(
        "first packets dropped by the translator",
        (counters.unlent + counters.exhausted + counters.filtered).to_string(),
    );
    line(
        "bytes kept by translation",
        nat.reserved_bytes().to_string(),
    );
    Ok(text)
}
