//! Spreads a capture over the queues of a simulated NIC and their shards, and compares every packet with one dataplane that has no
//! NIC, no shards and no cache.
//!
//! Half-way the indirection table is rebalanced and a rule comes: nothing may be judged otherwise for it.

#[path = "../replay/capture.rs"]
mod capture;
#[expect(dead_code, reason = "rule files are for the other example")]
#[path = "../replay/rules.rs"]
mod rules;

mod dataplane;
mod picture;
mod spread;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use gufc::nic::{Function, Indirection, Rss, RssKey, Symmetry, chi_square};

/// Spread a capture over queues and shards; print packets, hits, cookie hits and fallbacks of each.
#[derive(Parser)]
#[command(name = "rss", version)]
struct Arguments {
    /// A pcap or pcapng file: Ethernet, raw IP or Linux cooked. Default: the embedded capture.
    capture: Option<PathBuf>,
    /// Queues, each with a shard of its own.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=128))]
    queues: u16,
    /// How flows are hashed.
    #[arg(long, value_enum, default_value_t = Way::SymmetricXor)]
    hash: Way,
    /// Synthetic flows to spread as well.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    flows: u32,
    /// Bits of the cookies that the NIC carries.
    #[arg(long, value_name = "BITS", default_value = "24", value_parser = ["16", "24", "32"])]
    cookies: String,
    /// Draw packets and flows of each queue.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Ways to hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// Toeplitz under Microsoft's key: replies go elsewhere, and are found by remote handles.
    Toeplitz,
    /// Toeplitz under a symmetric key.
    SymmetricKey,
    /// Toeplitz over source XOR destination (Linux's symmetric-xor).
    SymmetricXor,
    /// Toeplitz over source OR destination and source XOR destination (Linux's symmetric-or-xor).
    SymmetricOrXor,
    /// All words XORed and folded.
    XorFold,
}

impl Way {
    fn rss(self) -> Rss {
        let rss = Rss::new(RssKey::MICROSOFT);
        match self {
            Self::Toeplitz => rss,
            Self::SymmetricKey => Rss::new(RssKey::symmetric(0x6d5a)),
            Self::SymmetricXor => rss.with_symmetry(Symmetry::Xor),
            Self::SymmetricOrXor => rss.with_symmetry(Symmetry::OrXor),
            Self::XorFold => rss.with_function(Function::XorFold),
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("rss: {why}");
            ExitCode::from(2)
        }
    }
}

/// Whether the shards and the one dataplane agreed on every packet.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let capture = match &arguments.capture {
        Some(path) => capture::read(path)?,
        None => capture::embedded()?,
    };
    let rss = arguments.hash.rss();
    let report = dataplane::run(&capture, &rss, arguments.queues, &arguments.cookies)?;
    println!(
        "capture           {}, {} packets, {} flow directions, {} queues",
        capture.name,
        capture.packets.len(),
        report.flows,
        arguments.queues
    );
    println!(
        "\nqueue    packets       hits  cookie hits  fallbacks     misses  handed over   taken over"
    );
    for (queue, row) in report.rows.iter().enumerate() {
        println!(
            "{queue:>5} {:>10} {:>10} {:>12} {:>10} {:>10} {:>12} {:>12}",
            row.packets,
            row.hits,
            row.cookie_hits,
            row.fallbacks,
            row.misses,
            row.handed,
            row.taken
        );
    }
    println!(
        "\nhalf-way          {} buckets moved, a rule inserted",
        report.moves
    );
    println!(
        "marks             {} asked for, {} refused by the NIC, {} retries",
        report.marks, report.refused, report.retries
    );
    println!(
        "not judged        {} packets that are not IP, or not whole",
        report.unparsed
    );
    let spread = spread::spread(&rss, arguments.queues, arguments.flows);
    let shares = Indirection::equal(7, arguments.queues).shares(arguments.queues);
    let free = f64::from(arguments.queues) - 1.0;
    println!(
        "\nchi-square (an even spread: {free:.0}, give or take {:.1})",
        (2.0 * free).sqrt()
    );
    println!(
        "  packets         {:>12.1}",
        chi_square(&report.packets(), &shares)
    );
    println!(
        "  flows           {:>12.1}",
        chi_square(&report.flows_by_queue, &shares)
    );
    println!(
        "  synthetic flows {:>12.1}  of {}",
        chi_square(&spread, &shares),
        arguments.flows
    );
    println!("\ndifferences       {}", report.differences);
    if let Some(path) = &arguments.svg {
        let bars = [
            ("packets of the capture", report.packets()),
            (
                "flow directions of the capture",
                report.flows_by_queue.clone(),
            ),
            ("synthetic flows", spread),
        ];
        picture::draw(path, &bars).map_err(|why| format!("{}: {why}", path.display()))?;
        println!("picture           {}", path.display());
    }
    Ok(report.differences == 0)
}
