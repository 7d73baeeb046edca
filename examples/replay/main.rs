//! Replays a capture through the cache and through the same hooks without it, and says what the cache saved.
//!
//! Without arguments it takes the capture that is embedded here (see `README.md` beside it) and a set of 1,000 rules.

mod capture;
mod dataplane;
mod front;
mod plot;
mod report;
mod rules;
mod stages;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Replay a capture through the flow cache, compare every packet with the same hooks without a cache, print the costs.
#[derive(Parser)]
#[command(name = "replay", version)]
struct Arguments {
    /// A pcap or pcapng file: Ethernet, raw IP or Linux cooked. Default: the embedded capture.
    capture: Option<PathBuf>,
    /// Rules to filter by, one a line, in nftables' manner. Default: a set of 1,000.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Without connection tracking; the default rules are then without `ct state`.
    #[arg(long)]
    stateless: bool,
    /// Judge fragments as they come, instead of the datagrams that they make.
    #[arg(long)]
    no_reassembly: bool,
    /// List the connections that are there at the end, in the form of `conntrack -L`; with words such as `-p tcp --state ESTABLISHED`
    /// those alone.
    #[arg(long, value_name = "WORDS", num_args = 0..=1, default_missing_value = "", allow_hyphen_values = true, conflicts_with = "stateless")]
    list: Option<String>,
    /// Show the last N events of connections, in the form of `conntrack -E`.
    #[arg(long, value_name = "N", conflicts_with = "stateless", value_parser = clap::value_parser!(u64).range(1..1_000_000))]
    events: Option<u64>,
    /// Insert or remove a rule every N packets, to see what edits cost.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    edit_every: Option<u64>,
    /// Say why packet N, counted from 1, got its verdict.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    explain: Option<u64>,
    /// Draw hit rate and cost over the capture.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Most sessions that the cache may hold.
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u64).range(1..1 << 30))]
    sessions: u64,
    /// Timed rounds of each side, interleaved; medians are printed.
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..10_000))]
    rounds: u64,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("replay: {why}");
            ExitCode::from(2)
        }
    }
}

/// Whether cache and twin agreed on every packet.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let capture = match &arguments.capture {
        Some(path) => capture::read(path)?,
        None => capture::embedded()?,
    };
    let rules = match &arguments.rules {
        Some(path) => rules::read(path)?,
        None => rules::thousand(!arguments.stateless),
    };
    let setup = dataplane::Setup {
        rules,
        sessions: arguments.sessions as usize,
        edit_every: arguments.edit_every,
        reassembles: !arguments.no_reassembly,
        list: match &arguments.list {
            Some(words) => Some(words.parse().map_err(|why| format!("--list: {why}"))?),
            None => None,
        },
        events: arguments.events.unwrap_or(0) as usize,
    };
    if let Some(number) = arguments.explain {
        if number > capture.packets.len() as u64 {
            return Err(format!(
                "--explain {number}: the capture has {} packets",
                capture.packets.len()
            ));
        }
    }
    let progress = report::progress(capture.packets.len() as u64 * (1 + 2 * arguments.rounds));
    let (checked, timed) = if arguments.stateless {
        play::<dataplane::Stateless>(arguments, &setup, &capture, &progress)?
    } else {
        play::<dataplane::Stateful>(arguments, &setup, &capture, &progress)?
    };
    progress.finish_and_clear();
    if let Some(explanation) = &checked.explanation {
        println!("{explanation}");
    }
    report::list(&checked);
    report::print(&setup, &capture, &checked, &timed);
    if let Some(path) = &arguments.svg {
        plot::draw(path, &checked.windows).map_err(|why| format!("{}: {why}", path.display()))?;
        println!("picture           {}", path.display());
    }
    Ok(checked.differences == 0)
}

fn play<H: dataplane::Hooks>(
    arguments: &Arguments,
    setup: &dataplane::Setup,
    capture: &capture::Capture,
    progress: &indicatif::ProgressBar,
) -> Result<(dataplane::Checked, dataplane::Timed), String> {
    let checked = dataplane::verify::<H>(setup, capture, arguments.explain, progress)?;
    let timed = dataplane::time::<H>(setup, capture, arguments.rounds, progress)?;
    Ok((checked, timed))
}
