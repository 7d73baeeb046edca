//! What is printed.

use gufc::verdict::Uncached;
use indicatif::{ProgressBar, ProgressStyle};

use crate::capture::Capture;
use crate::dataplane::{Checked, Setup, Timed};

/// A bar for so many packets; hidden where the output is not a terminal.
pub(crate) fn progress(packets: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {percent:>3} % of {len} packets, {eta} left");
    ProgressBar::new(packets).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What was asked to be listed.
pub(crate) fn list(checked: &Checked) {
    for line in checked.events.iter().chain(&checked.listing) {
        println!("{line}");
    }
}

/// The table.
pub(crate) fn print(setup: &Setup, capture: &Capture, checked: &Checked, timed: &Timed) {
    let stats = &checked.stats;
    let judged = stats.packets();
    let share = |part: u64| 100.0 * part as f64 / judged.max(1) as f64;
    println!(
        "capture           {}, {} packets",
        capture.name,
        capture.packets.len()
    );
    println!("rules             {}", setup.rules.len());
    for (why, packets) in &checked.held {
        println!("not judged        {packets:>8}         {why}");
    }
    let (waiting, lost) = checked.unfinished;
    if waiting > 0 {
        println!("datagrams         {waiting:>8}         still wait for fragments");
    }
    for (datagrams, why) in [
        (lost.refused, "refused"),
        (lost.expired, "waited too long"),
        (lost.displaced, "gave way to others"),
    ] {
        if datagrams > 0 {
            println!("datagrams         {datagrams:>8}         {why}");
        }
    }
    for ((verdict, by), packets) in &checked.verdicts {
        println!(
            "{:<17} {packets:>8} {:>5.1} %  by {by}",
            verdict.to_string(),
            share(*packets)
        );
    }
    println!(
        "hits              {:>8} {:>5.1} %  stayed on the fast path",
        stats.cached(),
        share(stats.cached())
    );
    if checked.tracked.is_some() {
        let (packets, fast) = checked.stages.established();
        let part = |fast: u64, packets: u64| 100.0 * fast as f64 / packets.max(1) as f64;
        println!(
            "  established     {fast:>8} {:>5.1} %  of {packets} packets of answered connections that begin and end nothing",
            part(fast, packets)
        );
        for (name, packets, fast) in checked.stages.lines() {
            println!(
                "  by stage        {packets:>8} {:>5.1} %  fast: {name}",
                part(fast, packets)
            );
        }
    }
    if stats.commits > 0 {
        let (restamped, rechecked) = (stats.restamped, stats.rechecked);
        println!("  after an edit   {restamped:>8}         not touched by it");
        println!("                  {rechecked:>8}         touched, looked at again");
        println!("edits             {:>8}", stats.commits);
    }
    let misses = [
        (stats.misses, "first packet of a flow"),
        (stats.first_replies, "first reply"),
        (stats.revisited, "a hook asked to see the packet"),
    ];
    let uncached = Uncached::ALL.map(|why| (stats.uncached[why as usize], why.to_string()));
    let misses = misses
        .into_iter()
        .map(|(packets, why)| (packets, why.to_string()));
    for (packets, why) in misses.chain(uncached).filter(|(packets, _)| *packets > 0) {
        println!(
            "judged            {packets:>8} {:>5.1} %  {why}",
            share(packets)
        );
    }
    println!(
        "sessions          {:>8}         at most at once, of {}",
        checked.sessions, setup.sessions
    );
    println!(
        "bytes a session   {:>8}         both directions, indexes included",
        checked.session_bytes
    );
    if let Some(tracked) = &checked.tracked {
        println!(
            "connections       {:>8}         at most at once; {} bytes each, index included",
            tracked.connections, tracked.bytes
        );
        for (reason, packets) in &tracked.reasons {
            println!("  tracker         {packets:>8}         {reason}");
        }
    }
    println!(
        "cached            {:>8.0} ns      a packet, parsing and misses included",
        timed.cached
    );
    println!(
        "cached, again     {:>8.0} ns      a packet, played a second time",
        timed.warm
    );
    println!("uncached          {:>8.0} ns      a packet", timed.uncached);
    println!("ratio             {:>8.1} x", timed.ratio);
    match checked.differences {
        0 => println!(
            "verified          {judged:>8}         packets: verdict, reason, egress, mark, bytes and connections agree"
        ),
        n => println!("DIFFER            {n:>8}         packets"),
    }
}
