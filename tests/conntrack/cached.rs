//! The tracker behind the cache, with a stateful filter: every packet as without a cache, and the same table after it.

use std::fs;
use std::io::Read;
use std::path::Path as FilePath;

use flate2::read::GzDecoder;
use gufc::cache::{self, FlowCache};
use gufc::epoch::Change;
use gufc::hooks::conntrack::{Config, Conntrack, Mode, Reason};
use gufc::hooks::filter::{Filter, Policy, Table};
use gufc::key::Tuple;
use gufc::packet::Packet;
use gufc::testing::prng::SplitMix64;
use gufc::testing::uncached::Uncached;
use gufc::time::{Duration, Instant};
use gufc::verdict::{Outcome, Path, Verdict};
use gufc::wire::{Arrival, Frame};
use proptest::prelude::*;

use super::bounds::bytes;
use super::story::Told;

pub(super) type Hooks = (Conntrack<Tuple>, Filter);

const RULES: &str = "
    set web {
        type inet_service
        elements = { 80, 443 }
    }
    chain main {
        policy drop
        ct state invalid drop
        ct status assured jump assured
        ct state established,related accept
        ct direction reply drop
        ct state new jump opening
        ct state untracked accept
        ct mark 0x1 drop
        tcp dport 0-1023 accept
        meta length 0-64 accept
    }
    chain assured {
        ct status none / seen-reply drop
        ct direction reply meta length 1000-9000 return
        ct zone 1 meta mark set 0x7 continue
        ct status seen-reply / seen-reply,snat,dnat accept
    }
    chain opening {
        ct status confirmed meta length 0-50 return
        tcp dport @web tcp flags syn / fin,syn,rst,ack accept
        udp dport 53 accept
        icmp type echo-request accept
        meta l4proto gre accept
        meta l4proto sctp goto long
    }
    chain long {
        meta length 0-64 accept
        ct status confirmed accept
    }
";

fn hooks(config: Config, rules: &str) -> Hooks {
    let mut filter = Filter::new("filter", 100, 7, Policy::Drop);
    let rules: Table = rules.parse().expect("rules");
    let _ = filter.commit(filter.diff(&rules)).expect("room");
    (Conntrack::try_new(config).expect("room"), filter)
}

fn dump(hooks: &Hooks) -> String {
    format!("{:?}", hooks.0.iter().collect::<Vec<_>>())
}

/// Both dataplanes.
pub(super) struct Pair {
    pub(super) cached: FlowCache<Tuple, Hooks>,
    pub(super) plain: Uncached<Hooks>,
    pub(super) hits: usize,
    pub(super) packets: usize,
}

impl Pair {
    pub(super) fn new(config: &Config, rules: &str) -> Self {
        let cache = cache::Config::new([3, 4]);
        Self {
            cached: FlowCache::new(cache, hooks(config.clone(), rules)).expect("room"),
            plain: Uncached {
                hooks: hooks(config.clone(), rules),
            },
            hits: 0,
            packets: 0,
        }
    }

    /// Gives the outcome behind the cache of a packet without bytes, on which both agree.
    pub(super) fn tell(&mut self, packet: &Told, now: Instant) -> Outcome {
        let (mut one, mut other) = (packet.clone(), packet.clone());
        let got = self.cached.process(&mut one, now);
        let wanted = self.plain.process(&mut other, now);
        self.compare(&one, &got, &wanted);
        got
    }

    /// Changes both in the same way; the change touches no flow.
    pub(super) fn edit(&mut self, edit: impl Fn(&mut Hooks)) {
        let both = |hooks: &mut Hooks| Ok::<_, ()>((edit(hooks), Change::nothing()));
        self.cached.edit(both).expect("done");
        self.plain.edit(both).expect("done");
    }

    fn compare<P: Packet<Key = Tuple>>(&mut self, packet: &P, got: &Outcome, wanted: &Outcome) {
        self.packets += 1;
        self.hits += usize::from(got.path == Path::Hit);
        assert!(
            got.agrees(wanted),
            "{}: {got:?} is not {wanted:?}",
            packet.key()
        );
        assert_eq!(
            dump(self.cached.hooks()),
            dump(&self.plain.hooks),
            "{got:?}"
        );
        for reason in Reason::ALL {
            let counts =
                [self.cached.hooks(), &self.plain.hooks].map(|hooks| hooks.0.count(reason));
            assert_eq!(counts[0], counts[1], "{reason}: {got:?}");
        }
        assert_eq!(
            self.cached.hooks().1.listing().to_string(),
            self.plain.hooks.1.listing().to_string(),
            "counters of rules: {got:?}"
        );
    }

    /// Gives the verdict, on which both agree; `None` for what is no packet.
    pub(super) fn process(&mut self, packet: &[u8], now: Instant) -> Option<Verdict> {
        let (mut one, mut other) = (packet.to_vec(), packet.to_vec());
        let arrival = Arrival::default();
        let (Ok(mut one), Ok(mut other)) = (
            Frame::<Tuple>::ip(&mut one, &arrival),
            Frame::<Tuple>::ip(&mut other, &arrival),
        ) else {
            return None;
        };
        let got = self.cached.process(&mut one, now);
        let wanted = self.plain.process(&mut other, now);
        self.compare(&one, &got, &wanted);
        Some(got.verdict)
    }
}

#[test]
fn traces_behind_the_cache() {
    let root = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let (mut hits, mut packets) = (0, 0);
    for group in fs::read_dir(root).expect("a folder") {
        for file in fs::read_dir(group.expect("an entry").path()).expect("a folder") {
            let bytes = fs::read(file.expect("an entry").path()).expect("a file");
            let mut text = String::new();
            GzDecoder::new(&bytes[..])
                .read_to_string(&mut text)
                .expect("gzip");
            let mut pair = Pair::new(&Config::new(64, [1, 2]), RULES);
            for line in text.lines().skip(1) {
                let record: serde_json::Value = serde_json::from_str(line).expect("JSON");
                let now = Instant::from_millis(record["t_ms"].as_u64().expect("a time"));
                let hex = record["hex"].as_str().expect("hex");
                let packet: Vec<u8> = (0..hex.len() / 2)
                    .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
                    .collect();
                pair.process(&packet, now);
            }
            hits += pair.hits;
            packets += pair.packets;
        }
    }
    println!("{hits} of {packets} packets were hits");
    assert!(hits > packets / 4, "{hits} of {packets}");
}

proptest! {
    #![proptest_config(crate::transparency::cases(150))]

    #[test]
    fn any_bytes_behind_the_cache(seed: u64) {
        let mut chance = SplitMix64(seed);
        let mut config = Config::new(2 + chance.below(12) as u32, [1, 2]);
        config.checksum = chance.below(4) == 0;
        config.accounting = true;
        config.mode = if chance.below(2) == 0 { Mode::Linux } else { Mode::Hardened };
        let mut pair = Pair::new(&config, RULES);
        let mut now = Instant::from_secs(1);
        for _ in 0..150 {
            let packet = bytes(&mut chance);
            pair.process(&packet, now);
            now = now + Duration::from_millis(chance.below(2000));
        }
    }
}

proptest! {
    #![proptest_config(crate::transparency::cases(300))]

    /// The stories that the fuzzer tells, too.
    #[test]
    fn stories_behind_the_cache(bytes in proptest::collection::vec(any::<u8>(), 20..700)) {
        if let Err(difference) = gufc::testing::track::track(&bytes) {
            panic!("{difference}");
        }
    }
}
