//! A NAT64 gateway in memory: IPv6 hosts reach IPv4 servers through one address, cached and uncached beside one another; then each
//! asks a question that comes in fragments, and gets an answer in fragments.
//!
//! `cargo run --release --example nat64`, or with the number of hosts and of questions that each asks.

mod long;

use std::time::{Duration, Instant as Clock};

use gufc::cache::{self, FlowCache};
use gufc::hooks::conntrack::{Config, Conntrack, Timeouts};
use gufc::hooks::filter::{Filter, Policy, Table};
use gufc::hooks::nat::{Nat, Place, PoolConfig};
use gufc::key::{Embedding, FlowKey, Tuple};
use gufc::packet::Packet;
use gufc::testing::uncached::Uncached;
use gufc::time::Instant;
use gufc::verdict::Verdict;
use gufc::wire::build::{Datagram, Transport};
use gufc::wire::{Arrival, Frame, HEADROOM};

type Hooks = (Nat<Tuple>, Filter);

/// What may pass, as rules see it behind the translation.
const FILTER: &str = "
    chain main {
        policy drop
        ct state invalid drop
        ct state established,related accept
        ip daddr 192.0.2.0/24 udp dport 53 accept
        ip daddr 192.0.2.0/24 icmp type echo-request accept
    }
";

fn hooks(connections: u32) -> Result<Hooks, Box<dyn std::error::Error>> {
    let mut config = Config::new(connections, [1, 2]);
    config.timeouts = vec![Timeouts::RFC];
    let mut nat = Nat::try_new(Conntrack::try_new(config)?, 8, [3, 4])?;
    let outside = vec!["198.51.100.1".parse()?];
    nat.add_pool(PoolConfig {
        prefix64: Some(Embedding::WELL_KNOWN),
        ..PoolConfig::new(outside)
    })?;
    let rule = "ip6 saddr 2001:db8::/32 ip6 daddr 64:ff9b::/96 nat64 to pool 0";
    let _ = nat.insert(Place::Last, rule.parse()?)?;
    let mut filter = Filter::new("filter", 100, 7, Policy::Drop);
    let table: Table = FILTER.parse()?;
    let _ = filter.commit(filter.diff(&table))?;
    Ok((nat, filter))
}

/// The packet with this key, in a buffer with room before it.
fn packet(key: &Tuple) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let (source, destination) = (key.source(), key.destination());
    let transport = if key.protocol().is_icmp() {
        let [kind, _] = destination.port.to_be_bytes();
        Transport::query(kind, source.port, 1)
    } else {
        Transport::udp(source.port, destination.port)
    };
    let datagram = Datagram::new(source.address, destination.address, transport);
    let mut buffer = vec![0; HEADROOM];
    buffer.extend(datagram.with_payload(b"a question or an answer").emit()?);
    Ok(buffer)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u32| arguments.next().map_or(Ok(default), |text| text.parse());
    let (hosts, questions) = (number(500)?, number(20)?);
    let mut cached = FlowCache::new(cache::Config::new([5, 6]), hooks(hosts.max(1) * 2)?)?;
    let mut plain = Uncached {
        hooks: hooks(hosts.max(1) * 2)?,
    };
    let (mut packets, mut hits, mut dropped) = (0u64, 0u64, 0u64);
    let mut spent = [Duration::ZERO; 2];
    let mut now = Instant::from_millis(1_000);
    for round in 0..questions {
        for host in 0..hosts {
            now = now + gufc::time::Duration::from_micros(50);
            let server = Embedding::WELL_KNOWN.embed([192, 0, 2, 1 + (host % 200) as u8].into());
            let key = if host % 4 == 0 {
                format!("icmpv6 2001:db8::{host:x} > {server} id 4000 type 128 code 0")
            } else {
                format!("udp [2001:db8::{host:x}]:4000 > [{server}]:53")
            };
            let mut next: Option<Tuple> = Some(key.parse()?);
            // The question, and what answers it as it left.
            for _ in 0..2 {
                let Some(key) = next.take() else { break };
                let (mut one, mut other) = (packet(&key)?, packet(&key)?);
                let arrival = Arrival::default();
                let mut one = Frame::<Tuple>::with_headroom(&mut one, HEADROOM, &arrival)?;
                let mut other = Frame::<Tuple>::with_headroom(&mut other, HEADROOM, &arrival)?;
                let begin = Clock::now();
                let got = cached.process(&mut one, now);
                spent[0] += begin.elapsed();
                let begin = Clock::now();
                let wanted = plain.process(&mut other, now);
                spent[1] += begin.elapsed();
                if !got.agrees(&wanted) || one.packet() != other.packet() || !one.is_intact() {
                    return Err(format!("round {round}: {key}: {got:?} is not {wanted:?}").into());
                }
                packets += 1;
                hits += u64::from(got.path.is_cached());
                if got.verdict == Verdict::Accept {
                    next = one.key().inverse();
                } else {
                    dropped += 1;
                }
            }
        }
    }
    let long = long::run(&mut cached, hosts, now)?;
    let nat = &cached.hooks().0;
    println!("hosts of IPv6                {hosts}");
    println!("addresses of IPv4            1");
    println!("bindings                     {}", nat.mappings().count());
    println!("packets, both ways           {packets}");
    println!("dropped                      {dropped}");
    println!("answered by the cache        {hits}");
    println!("differ from the uncached     0");
    println!("long datagrams, both ways    {}", long.datagrams);
    println!("  came in fragments          {}", long.came);
    println!("  left in fragments          {}", long.left);
    println!("  did not arrive as sent     0");
    let [with, without] = spent.map(|time| time.as_secs_f64());
    println!("time, cached to uncached     {:.2}", with / without);
    Ok(())
}
