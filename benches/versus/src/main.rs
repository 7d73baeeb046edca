//! gufc against its peers: one table of work, gufc, each peer, ratio.
//!
//! Each work is done by all contenders in turn, round after round, so that a noisy moment strikes all alike; the table shows
//! medians, and every contender must give the same answer. Compare ratios of one run, not figures of different runs.

mod conntrack;
mod exact;
mod flows;
mod growth;
mod memory;
mod nat;
mod nic;
mod prefix;
mod report;

use clap::Parser;

/// Measures gufc against its peers.
#[derive(Parser)]
struct Options {
    /// Only works whose name contains all of these words.
    filter: Vec<String>,
    /// Write the rows to this file as JSON, one object each.
    #[arg(long)]
    json: Option<std::path::PathBuf>,
    /// Interleaved rounds; the median counts.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Print the names of the works and stop.
    #[arg(long)]
    list: bool,
}

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let mut report = report::Report::new(options.filter, options.rounds, options.list);
    exact::run(&mut report);
    growth::run(&mut report);
    memory::run(&mut report);
    prefix::run(&mut report);
    nic::run(&mut report);
    conntrack::run(&mut report);
    nat::run(&mut report);
    report.finish(options.json.as_deref())
}
