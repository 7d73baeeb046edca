//! Builds a routing table in the prefix trie, checks it against a plain list, and measures it.
//!
//! `cargo run --release --example routes -- TABLE` reads one prefix a line: the address in hexadecimal, leading zeros optional, and
//! the length. IPv6 if any address or length needs more than 32 bits, else IPv4. A table packed with gzip is unpacked.
//!
//! Every lookup that is measured is checked first, alone and in bursts, against one hash map for each length; a sample is checked
//! against a plain list that is searched from end to end.

use std::collections::HashMap;
use std::hint::black_box;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use flate2::read::MultiGzDecoder;
use gufc::key::Key;
use gufc::testing::linear_prefix::LinearPrefixes;
use gufc::testing::prng::SplitMix64;
use gufc::trie::prefix::{Prefix, PrefixIndex, Width};

/// Builds a routing table in the prefix trie, checks it against a plain list, and measures it.
#[derive(Parser)]
struct Options {
    /// One prefix a line: the address in hexadecimal, and the length. Plain or packed with gzip.
    table: PathBuf,
    /// Lookups to check and to measure, of random addresses and of addresses of the table each.
    #[arg(long, default_value_t = 1_000_000)]
    lookups: usize,
    /// Lookups to check against the list as well, which is searched from end to end for each.
    #[arg(long, default_value_t = 2_000)]
    checked: usize,
    /// Seed of the order of insertion and of the addresses.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = read(&options.table).and_then(|lines| {
        let wide = lines
            .iter()
            .any(|line| line.address >> 32 != 0 || line.len > 32);
        if wide {
            run::<Ipv6Addr>(&lines, &options)
        } else {
            run::<Ipv4Addr>(&lines, &options)
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

struct Line {
    number: usize,
    address: u128,
    len: u8,
}

fn read(path: &Path) -> Result<Vec<Line>, String> {
    let text = text(path).map_err(|why| format!("{}: {why}", path.display()))?;
    let mut lines = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let wrong = |what: &str| format!("{}:{number}: {what}", path.display());
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some(len), None) = (words.next(), words.next(), words.next()) else {
            return Err(wrong("not an address and a length"));
        };
        let address = u128::from_str_radix(address, 16)
            .map_err(|_| wrong("the address is not hexadecimal, or has more than 128 bits"))?;
        let len = len
            .parse()
            .ok()
            .filter(|len| *len <= 128)
            .ok_or_else(|| wrong("the length is not a number of 0 to 128"))?;
        lines.push(Line {
            number,
            address,
            len,
        });
    }
    if lines.is_empty() {
        return Err(format!("{}: no prefix", path.display()));
    }
    Ok(lines)
}

/// What a file says, unpacked where it begins as gzip does (RFC 1952, 2.3.1).
fn text(path: &Path) -> std::io::Result<String> {
    let bytes = std::fs::read(path)?;
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
    } else {
        bytes.as_slice().read_to_string(&mut text)?;
    }
    Ok(text)
}

fn key<K: Key>(address: u128) -> K {
    let bits = address << (128 - K::BITS);
    let mut words = K::Words::default();
    let halves = [(bits >> 64) as u64, bits as u64];
    for (word, half) in words.as_mut().iter_mut().zip(halves) {
        *word = half;
    }
    K::from_words(words)
}

fn run<K: Key + std::fmt::Display + std::hash::Hash>(
    lines: &[Line],
    options: &Options,
) -> Result<(), String>
where
    K::Words: Width,
{
    let path = options.table.display();
    let mut random = SplitMix64(options.seed);
    let mut table = Vec::with_capacity(lines.len());
    for line in lines {
        let prefix = Prefix::<K>::new(key(line.address), line.len)
            .ok_or_else(|| format!("{path}:{}: the length is above {}", line.number, K::BITS))?;
        if prefix.first() != key(line.address) {
            return Err(format!(
                "{path}:{}: bits behind the length are set",
                line.number
            ));
        }
        table.push(prefix);
    }
    for place in (1..table.len()).rev() {
        table.swap(place, random.below(place as u64 + 1) as usize);
    }

    let index = build(&table).map_err(|why| format!("{path}: {why}"))?;
    check(&table, &index, &mut random, options.checked)?;

    let count = options.lookups.max(1);
    let random_keys: Vec<K> = (0..count).map(|_| anywhere(&mut random)).collect();
    let table_keys: Vec<K> = (0..count).map(|_| within(&table, &mut random)).collect();
    let lengths = Lengths::new(&table);
    for keys in [&random_keys, &table_keys] {
        lengths.check(&index, keys)?;
    }
    println!(
        "checked       {:>12}   lookups against a map for each length, alone and in bursts",
        2 * count
    );
    println!(
        "\n{:<24} {:>12} {:>12}",
        "ns a lookup", "alone", "burst of 32"
    );
    for (name, keys) in [
        ("random addresses", random_keys),
        ("addresses of the table", table_keys),
    ] {
        let alone = measure(&keys, |keys| {
            keys.iter()
                .filter_map(|key| index.longest(*key))
                .map(|(_, number)| u64::from(number))
                .sum()
        });
        let burst = measure(&keys, |keys| {
            let mut sum = 0;
            for keys in keys.chunks(32) {
                let mut found = [None; 32];
                index.longest_many(keys, &mut found);
                let numbers = found.iter().flatten();
                sum += numbers.map(|(_, number)| u64::from(*number)).sum::<u64>();
            }
            sum
        });
        if alone.1 != burst.1 {
            return Err(String::from("alone and in bursts lookups differ"));
        }
        let ns = |time: Duration| time.as_nanos() as f64 / count as f64;
        println!("{name:<24} {:>12.1} {:>12.1}", ns(alone.0), ns(burst.0));
    }
    Ok(())
}

fn build<K: Key>(table: &[Prefix<K>]) -> Result<PrefixIndex<K>, String>
where
    K::Words: Width,
{
    let mut index = PrefixIndex::try_new(table.len()).map_err(|why| why.to_string())?;
    let start = Instant::now();
    for (number, prefix) in table.iter().enumerate() {
        index
            .insert(*prefix, number as u32)
            .map_err(|why| why.to_string())?;
    }
    let time = start.elapsed();
    index.check()?;
    let (stats, work) = (index.stats(), index.work());
    let each = |value: u64| value as f64 / stats.prefixes as f64;
    println!(
        "prefixes      {:>12}   IPv{}",
        stats.prefixes,
        if K::BITS == 32 { 4 } else { 6 }
    );
    println!(
        "build         {:>9.1} ms   {:.0} ns each",
        time.as_secs_f64() * 1e3,
        each(time.as_nanos() as u64)
    );
    println!(
        "bytes         {:>12}   {:.1} each, of {} reserved",
        stats.bytes_touched,
        each(stats.bytes_touched as u64),
        stats.bytes_reserved
    );
    println!(
        "moved         {:>12}   {:.1} slots and cells an insertion",
        work.moved,
        each(work.moved)
    );
    println!(
        "resized       {:>12}   inflations, {} halvings",
        work.inflated, work.halved
    );
    println!(
        "nodes         {:>12}   {} slots, {} of them empty; root of 2^{}",
        stats.nodes, stats.slots, stats.slots_empty, stats.root_bits
    );
    println!(
        "depth mean    {:>12.2}   slots behind the root; {} prefixes in buckets",
        stats.depth_mean_thousandths() as f64 / 1e3,
        stats.in_buckets
    );
    for (depth, count) in stats.depths.iter().enumerate().take(stats.depth_max() + 1) {
        let bar = "#".repeat((count * 50).div_ceil(stats.prefixes));
        println!("  depth {depth:<3}   {count:>12}   {bar}");
    }
    Ok(index)
}

/// The table again, one hash map for each length: longest first, the first that has the address's prefix is the answer.
struct Lengths<K>(Vec<(u8, HashMap<Prefix<K>, u32>)>);

impl<K: Key + std::fmt::Display + std::hash::Hash> Lengths<K>
where
    K::Words: Width,
{
    fn new(table: &[Prefix<K>]) -> Self {
        let mut maps: HashMap<u8, HashMap<Prefix<K>, u32>> = HashMap::new();
        for (number, prefix) in (0..).zip(table) {
            let map = maps.entry(prefix.len()).or_default();
            map.insert(*prefix, number);
        }
        let mut maps: Vec<_> = maps.into_iter().collect();
        maps.sort_unstable_by_key(|(len, _)| std::cmp::Reverse(*len));
        Self(maps)
    }

    fn longest(&self, key: K) -> Option<(Prefix<K>, u32)> {
        self.0.iter().find_map(|(len, map)| {
            let prefix = Prefix::new(key, *len)?;
            Some((prefix, *map.get(&prefix)?))
        })
    }

    /// Compares lookups of all keys with these maps.
    fn check(&self, index: &PrefixIndex<K>, keys: &[K]) -> Result<(), String> {
        for keys in keys.chunks(32) {
            let mut burst = [None; 32];
            index.longest_many(keys, &mut burst);
            for (key, burst) in keys.iter().zip(burst) {
                let (alone, wanted) = (index.longest(*key), self.longest(*key));
                if alone != wanted || burst != wanted {
                    return Err(format!(
                        "{key}: found {alone:?}, in a burst {burst:?}, but the maps have {wanted:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Compares lookups with a list that is searched from end to end.
fn check<K: Key + std::fmt::Display>(
    table: &[Prefix<K>],
    index: &PrefixIndex<K>,
    random: &mut SplitMix64,
    count: usize,
) -> Result<(), String>
where
    K::Words: Width,
{
    let mut twin = LinearPrefixes::new();
    // The last of equal prefixes counts; `insert` would search for them.
    let mut seen: Vec<_> = (0..)
        .zip(table)
        .map(|(number, prefix)| (*prefix, number))
        .collect();
    seen.sort_unstable();
    seen.reverse();
    seen.dedup_by_key(|(prefix, _)| *prefix);
    twin.list = seen;
    for n in 0..count {
        let key = if n % 2 == 0 {
            anywhere(random)
        } else {
            within(table, random)
        };
        let wanted = twin
            .longest(key)
            .map(|(prefix, number): (_, &u32)| (prefix, *number));
        let found = index.longest(key);
        if found != wanted {
            return Err(format!(
                "{key}: found {found:?}, but the list has {wanted:?}"
            ));
        }
    }
    println!("checked       {count:>12}   lookups against the list");
    Ok(())
}

/// Any address; for IPv6 one of 2000::/3, where all tables are.
fn anywhere<K: Key>(random: &mut SplitMix64) -> K {
    let word = u128::from(random.next()) << 64 | u128::from(random.next());
    if K::BITS == 128 {
        key(word >> 3 | 1 << 125)
    } else {
        key(word >> (128 - K::BITS))
    }
}

/// An address of some prefix of the table.
fn within<K: Key>(table: &[Prefix<K>], random: &mut SplitMix64) -> K
where
    K::Words: Width,
{
    let prefix = table[random.below(table.len() as u64) as usize];
    let (mut first, last) = (prefix.first().words(), prefix.last().words());
    for (word, last) in first.as_mut().iter_mut().zip(last.as_ref()) {
        *word |= (*word ^ last) & random.next();
    }
    K::from_words(first)
}

/// The median of five, and the answer.
fn measure<K>(keys: &[K], mut sum: impl FnMut(&[K]) -> u64) -> (Duration, u64) {
    let mut times = [Duration::ZERO; 5];
    let mut answer = 0;
    for time in &mut times {
        let start = Instant::now();
        answer = black_box(sum(black_box(keys)));
        *time = start.elapsed();
    }
    times.sort_unstable();
    (times[2], answer)
}
