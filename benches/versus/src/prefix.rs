//! Longest prefixes on real routing tables, against tries that a user would pick instead.
//!
//! The tables come from the folder that `GUFC_PREFIXES` names: `ris-v4.txt` and `ris-v6.txt`, or the same with `.xz`, which the
//! program `xz` unpacks; one address in hexadecimal and one length a line. Without them these rows are left out.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Instant;

use gufc::key::Key;
use gufc::trie::prefix::{MOVES_MAX, Prefix, PrefixIndex, Width};
use ip_network::IpNetwork;
use ip_network_table::IpNetworkTable;
use ipnet::{Ipv4Net, Ipv6Net};
use iptrie::map::{LCTrieMap, RTrieMap};
use iptrie::{Ipv4Prefix, Ipv6Prefix};
use prefix_trie::PrefixMap;

use crate::memory::LIVE;
use crate::report::{Contender, OURS, Report, thread_time};

/// Lookups in a round.
const LOOKUPS: usize = 1 << 18;
/// Removals and insertions in a round.
const EDITS: usize = 1 << 14;
const BURST: usize = 32;

pub fn run(report: &mut Report) {
    family::<Ipv4Addr>(report);
    family::<Ipv6Addr>(report);
}

/// What the peers need of a family.
trait Family: Key<Words: Width> + Into<IpAddr> {
    const NAME: &'static str;
    /// The address whose first bits these are.
    fn of(bits: u128) -> Self;
    /// Addresses worth asking for: those of 2000::/3 for IPv6.
    fn anywhere(bits: u128) -> Self;

    /// The peers that have a type for each family.
    type Net: prefix_trie::Prefix + Copy;
    fn net(self, len: u8) -> Self::Net;
    type Patricia;
    type LcTrie;
    fn patricia(table: &[(Self, u8)]) -> Self::Patricia;
    fn compress(patricia: Self::Patricia) -> Self::LcTrie;
    fn lookup(trie: &Self::LcTrie, address: Self) -> u32;
}

macro_rules! family {
    ($address:ty, $name:literal, $net:ty, $prefix:ty, $of:expr, $anywhere:expr) => {
        impl Family for $address {
            const NAME: &'static str = $name;
            fn of(bits: u128) -> Self {
                $of(bits)
            }
            fn anywhere(bits: u128) -> Self {
                $of($anywhere(bits))
            }
            type Net = $net;
            fn net(self, len: u8) -> $net {
                <$net>::new(self, len).expect("a length")
            }
            type Patricia = RTrieMap<$prefix, u32>;
            type LcTrie = LCTrieMap<$prefix, u32>;
            fn patricia(table: &[(Self, u8)]) -> Self::Patricia {
                // Its root has a value; 0 is nobody's.
                let mut trie = RTrieMap::with_root(0);
                for (number, (address, len)) in table.iter().enumerate() {
                    let prefix = <$prefix>::new(*address, *len).expect("a length");
                    trie.insert(prefix, number as u32 + 1);
                }
                trie
            }
            fn compress(patricia: Self::Patricia) -> Self::LcTrie {
                patricia.compress()
            }
            fn lookup(trie: &Self::LcTrie, address: Self) -> u32 {
                *trie.lookup(&address).1
            }
        }
    };
}

family!(
    Ipv4Addr,
    "v4",
    Ipv4Net,
    Ipv4Prefix,
    |bits: u128| Ipv4Addr::from_bits((bits >> 96) as u32),
    |bits: u128| bits
);
family!(
    Ipv6Addr,
    "v6",
    Ipv6Net,
    Ipv6Prefix,
    Ipv6Addr::from_bits,
    |bits: u128| bits >> 3 | 1 << 125
);

fn family<A: Family>(report: &mut Report) {
    let v = A::NAME;
    let work = |work: &str| format!("prefix {work} {v}");
    let all = [
        "random single",
        "random fenced",
        "random burst",
        "table single",
        "table fenced",
        "table burst",
        "edit",
        "build",
        "bytes",
        "slowest-insert",
        "slowest-moves",
        "slowest-insert-4M",
        "slowest-moves-4M",
    ];
    let wanted: Vec<bool> = all.iter().map(|one| report.wants(&work(one))).collect();
    if !wanted.contains(&true) {
        return;
    }
    let Some(table) = load::<A>() else {
        println!(
            "prefix {v}: skipped, GUFC_PREFIXES names no folder with ris-{v}.txt or ris-{v}.txt.xz"
        );
        return;
    };
    let wants = |one: &str| {
        all.iter()
            .zip(&wanted)
            .any(|(name, wanted)| *name == one && *wanted)
    };

    let ours = timed(|| index(&table));
    let prefix_trie = timed(|| {
        let mut map = PrefixMap::<A::Net, u32>::new();
        for (number, (address, len)) in table.iter().enumerate() {
            map.insert(address.net(*len), number as u32 + 1);
        }
        map
    });
    let network = timed(|| {
        let mut map = IpNetworkTable::<u32>::new();
        for (number, (address, len)) in table.iter().enumerate() {
            let net = IpNetwork::new(*address, *len).expect("a length");
            map.insert(net, number as u32 + 1);
        }
        map
    });
    let lc_trie = timed(|| A::compress(A::patricia(&table)));
    let cells = |of: fn(&Cost) -> f64| {
        vec![
            (OURS, of(&ours.1)),
            ("prefix-trie", of(&prefix_trie.1)),
            ("ip_network_table", of(&network.1)),
            ("iptrie-lc", of(&lc_trie.1)),
        ]
    };
    let count = table.len() as f64;
    if wants("build") {
        report.add(&work("build"), "ms", None, cells(|cost| cost.ms));
    }
    if wants("bytes") {
        let mut cells: Vec<_> = cells(|cost| cost.bytes)
            .into_iter()
            .map(|(name, bytes)| (name, bytes / count))
            .collect();
        cells.push(("gufc-touched", ours.0.stats().bytes_touched as f64 / count));
        report.add(&work("bytes"), "bytes", None, cells);
    }

    let mut random = Random(7);
    let anywhere: Vec<A> = (0..LOOKUPS).map(|_| A::anywhere(random.wide())).collect();
    let inside: Vec<A> = (0..LOOKUPS).map(|_| random.within(&table)).collect();
    for (name, keys) in [("random", anywhere), ("table", inside)] {
        for how in ["single", "fenced", "burst"] {
            if wants(&format!("{name} {how}")) {
                let work = work(&format!("{name} {how}"));
                lookups(
                    report,
                    &work,
                    how,
                    &keys,
                    &ours.0,
                    &prefix_trie.0,
                    &network.0,
                    &lc_trie.0,
                );
            }
        }
    }
    if wants("edit") {
        let (mut ours, mut prefix_trie, mut network) = (ours.0, prefix_trie.0, network.0);
        let moving: Vec<_> = (0..EDITS).map(|_| random.below(table.len())).collect();
        let number = |at: usize| at as u32 + 1;
        let edited = vec![
            Contender::new(OURS, |_| {
                let mut sum = 0;
                for at in &moving {
                    let (address, len) = table[*at];
                    let prefix = Prefix::new(address, len).expect("a length");
                    sum += u64::from(ours.remove(prefix).unwrap_or(0));
                    ours.insert(prefix, number(*at)).expect("room");
                }
                sum
            }),
            Contender::new("prefix-trie", |_| {
                let mut sum = 0;
                for at in &moving {
                    let net = table[*at].0.net(table[*at].1);
                    sum += u64::from(prefix_trie.remove(&net).unwrap_or(0));
                    prefix_trie.insert(net, number(*at));
                }
                sum
            }),
            Contender::new("ip_network_table", |_| {
                let mut sum = 0;
                for at in &moving {
                    let net = IpNetwork::new(table[*at].0, table[*at].1).expect("a length");
                    sum += u64::from(network.remove(net).unwrap_or(0));
                    network.insert(net, number(*at));
                }
                sum
            }),
        ];
        report.measure(&work("edit"), EDITS, Some(("prefix-trie", 1.0)), edited);
    }
    if wants("slowest-insert") || wants("slowest-moves") {
        slowest(
            report,
            &table,
            &work("slowest-insert"),
            &work("slowest-moves"),
        );
    }
    if wants("slowest-insert-4M") || wants("slowest-moves-4M") {
        slowest(
            report,
            &filled(&table, 4_000_000),
            &work("slowest-insert-4M"),
            &work("slowest-moves-4M"),
        );
    }
}

#[expect(clippy::too_many_arguments, reason = "one of each contender")]
fn lookups<A: Family>(
    report: &mut Report,
    work: &str,
    how: &'static str,
    keys: &[A],
    ours: &PrefixIndex<A>,
    prefix_trie: &PrefixMap<A::Net, u32>,
    network: &IpNetworkTable<u32>,
    lc_trie: &A::LcTrie,
) {
    // Fenced: each address waits for the answer before it, so that nothing overlaps.
    fn walk<A: Family>(how: &str, keys: &[A], lookup: impl Fn(A) -> u32) -> u64 {
        if how != "fenced" {
            return keys.iter().map(|key| u64::from(lookup(*key))).sum();
        }
        let mut sum = 0;
        let mut last = 0;
        for key in keys {
            // No number is that large; the machine does not know.
            let mut words = key.words();
            if let Some(word) = words.as_mut().first_mut() {
                *word ^= u64::from(last >> 31);
            }
            last = lookup(A::from_words(words));
            sum += u64::from(last);
        }
        sum
    }
    let us = move |_| {
        if how != "burst" {
            return walk(how, keys, |key| {
                ours.longest(key).map_or(0, |(_, number)| number)
            });
        }
        let mut sum = 0;
        for keys in keys.chunks(BURST) {
            let mut found = [None; BURST];
            ours.longest_many(keys, &mut found);
            sum += found
                .iter()
                .flatten()
                .map(|(_, number)| u64::from(*number))
                .sum::<u64>();
        }
        sum
    };
    let bits = A::BITS as u8;
    let contenders = vec![
        Contender::new(OURS, us),
        Contender::new("prefix-trie", move |_| {
            walk(how, keys, |key| {
                prefix_trie
                    .get_lpm(&key.net(bits))
                    .map_or(0, |(_, number)| *number)
            })
        }),
        Contender::new("ip_network_table", move |_| {
            walk(how, keys, |key| {
                network.longest_match(key).map_or(0, |(_, number)| *number)
            })
        }),
        Contender::new("iptrie-lc", move |_| {
            walk(how, keys, |key| A::lookup(lc_trie, key))
        }),
    ];
    report.measure(work, keys.len(), Some(("prefix-trie", 1.0)), contenders);
}

/// The table, and prefixes inside of its prefixes, up to `count` in all.
fn filled<A: Family>(table: &[(A, u8)], count: usize) -> Vec<(A, u8)> {
    let mut random = Random(13);
    let mut filled = table.to_vec();
    while filled.len() < count {
        let (address, len) = table[random.below(table.len())];
        let inside = random.within(&[(address, len)]);
        let longest = if A::BITS == 32 { 32 } else { 64 };
        let longer = len + random.below(usize::from(longest.max(len) - len) + 1) as u8;
        let prefix = Prefix::new(inside, longer).expect("a length");
        filled.push((prefix.first(), longer));
    }
    for place in (1..filled.len()).rev() {
        filled.swap(place, random.below(place + 1));
    }
    filled
}

/// For each insertion the least time of four runs: what the structure does repeats, what the machine does to it does not.
fn slowest<A: Family>(report: &mut Report, table: &[(A, u8)], time: &str, moves: &str) {
    let mut least = vec![u64::MAX; table.len()];
    let (mut most, mut total) = (0, 0);
    for _ in 0..4 {
        let mut index = PrefixIndex::try_new(table.len()).expect("memory");
        let mut before = 0;
        for (number, (address, len)) in table.iter().enumerate() {
            let prefix = Prefix::new(*address, *len).expect("a length");
            let start = Instant::now();
            index.insert(prefix, number as u32 + 1).expect("room");
            least[number] = least[number].min(start.elapsed().as_nanos() as u64);
            let moved = index.work().moved;
            most = most.max(moved - before);
            before = moved;
        }
        total = before;
    }
    let worst = least.iter().max().copied().unwrap_or(0) as f64 / 1e3;
    report.add(
        time,
        "us",
        Some(("bar", 1.0)),
        vec![(OURS, worst), ("bar", 100.0)],
    );
    let average = total as f64 / table.len() as f64;
    report.add(
        moves,
        "slots and cells",
        Some(("stated", 1.0)),
        vec![
            (OURS, most as f64),
            ("stated", MOVES_MAX as f64),
            ("average", average),
        ],
    );
}

fn index<A: Family>(table: &[(A, u8)]) -> PrefixIndex<A> {
    let mut index = PrefixIndex::try_new(table.len()).expect("memory");
    for (number, (address, len)) in table.iter().enumerate() {
        let prefix = Prefix::new(*address, *len).expect("a length");
        index.insert(prefix, number as u32 + 1).expect("room");
    }
    index
}

struct Cost {
    ms: f64,
    bytes: f64,
}

/// Builds something, and says what that took.
fn timed<T>(build: impl FnOnce() -> T) -> (T, Cost) {
    let (start, before) = (thread_time(), LIVE.load(Ordering::Relaxed));
    let built = black_box(build());
    let ms = (thread_time() - start).as_secs_f64() * 1e3;
    let bytes = LIVE.load(Ordering::Relaxed).saturating_sub(before) as f64;
    (built, Cost { ms, bytes })
}

/// The table in random order.
fn load<A: Family>() -> Option<Vec<(A, u8)>> {
    let folder = std::env::var_os("GUFC_PREFIXES")?;
    let plain = Path::new(&folder).join(format!("ris-{}.txt", A::NAME));
    let text = std::fs::read_to_string(&plain).ok().or_else(|| {
        let packed = plain.with_extension("txt.xz");
        let output = Command::new("xz").arg("-dc").arg(packed).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then_some(text)
    })?;
    let mut table = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let parsed = line.split_once(' ').and_then(|(hex, len)| {
            let bits = u128::from_str_radix(hex, 16).ok()? << (128 - A::BITS);
            Some((
                A::of(bits),
                len.parse().ok().filter(|len| u32::from(*len) <= A::BITS)?,
            ))
        });
        let Some(parsed) = parsed else {
            println!("{}:{number}: not an address and a length", plain.display());
            return None;
        };
        table.push(parsed);
    }
    let mut random = Random(5);
    for place in (1..table.len()).rev() {
        table.swap(place, random.below(place + 1));
    }
    Some(table)
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// An address of some prefix of the table.
    fn within<A: Family>(&mut self, table: &[(A, u8)]) -> A {
        let (address, len) = table[self.below(table.len())];
        let prefix = Prefix::new(address, len).expect("a length");
        let (mut words, last) = (address.words(), prefix.last().words());
        for (word, last) in words.as_mut().iter_mut().zip(last.as_ref()) {
            *word |= (*word ^ last) & self.next();
        }
        A::from_words(words)
    }
}
