//! Attacks on a flow cache, and what became of the flows that were there: work per packet under attack against quiet.
//!
//! A thousand connections are established and go on sending. Between their packets come the attacker's, eight to one, and now and
//! then a newcomer who wants to connect. Every line of the table is one attack on a fresh dataplane of the same size, played in
//! turns with a twin that is not attacked.
//!
//! The second table is of a dataplane without connection tracking, where an entry may stand for many flows: the same attacks, without
//! aggregates and with them.

mod attacks;
mod round;
mod stateless;
mod world;

use std::process::ExitCode;

use clap::Parser;

use attacks::{Attack, Packets};
use round::{median, play_round};
use world::{Counts, World};

/// Attack a flow cache with hardened connection tracking and a rule set, and print what packets cost and which flows survive.
#[derive(Parser)]
#[command(name = "attack", version)]
struct Arguments {
    /// Only the attacks whose name contains this.
    filter: Option<String>,
    /// Sessions, and connections, that there is room for.
    #[arg(long, value_name = "N", default_value_t = 8_192, value_parser = clap::value_parser!(u32).range(2_048..1 << 24))]
    capacity: u32,
    /// Connections that are there before.
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(64..32_768))]
    flows: u32,
    /// Aggregates that there is room for where no hook has state, 0 for none.
    #[arg(long, value_name = "N", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(0..=1 << 16))]
    aggregates: u32,
    /// Rounds; in each come 64 packets of the connections, 512 of the attacker's, and 8 newcomers.
    #[arg(long, value_name = "N", default_value_t = 400, value_parser = clap::value_parser!(u32).range(16..1 << 20))]
    rounds: u32,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("attack: {why}");
            ExitCode::from(2)
        }
    }
}

/// Whether every connection survived every attack, and every newcomer got in where the attack leaves room.
fn run(arguments: &Arguments) -> Result<bool, String> {
    println!(
        "{} connections, room for {}; ns are medians of rounds; slots are those that a lookup touches, at most, of a connection and of the attacker's packets",
        arguments.flows, arguments.capacity
    );
    println!(
        "{:<22} {:>7} {:>7} {:>9} {:>7} {:>7} {:>9} {:>10} {:>10}",
        "attack",
        "hit ns",
        "new ns",
        "attack ns",
        "x quiet",
        "slots",
        "cached",
        "tracked",
        "newcomers"
    );
    let mut survived = true;
    for attack in Attack::ALL {
        let wanted = arguments.filter.as_ref();
        if attack != Attack::Quiet
            && wanted.is_some_and(|name| !attack.name().contains(name.as_str()))
        {
            continue;
        }
        let line = play(attack, arguments)?;
        let Counts {
            cached,
            tracked,
            newcomers,
        } = line.counts;
        println!(
            "{:<22} {:>7.0} {:>7.0} {:>9.0} {:>7.2} {:>3}/{:<3} {:>4}/{:<4} {:>5}/{:<4} {:>5}/{:<4}",
            attack.name(),
            line.hit,
            line.new,
            line.attack,
            line.hit / line.quiet,
            line.slots[0],
            line.slots[1],
            cached,
            arguments.flows,
            tracked,
            arguments.flows,
            newcomers,
            8 * arguments.rounds,
        );
        survived &= tracked == arguments.flows as usize;
    }
    stateless::table(arguments)?;
    Ok(survived)
}

/// One line of the table.
struct Line {
    /// Nanoseconds a packet of an established connection: without the attack, in the same rounds, and under it.
    quiet: f64,
    hit: f64,
    /// The same of a newcomer, and of the attacker.
    new: f64,
    attack: f64,
    /// Slots that a lookup touches, at most: of a connection, of the attacker's packets.
    slots: [u32; 2],
    counts: Counts,
}

fn play(attack: Attack, arguments: &Arguments) -> Result<Line, String> {
    let new = |attack: Attack| World::new(attack.rules(), arguments.flows, arguments.capacity);
    let (mut world, mut twin) = (new(attack)?, new(Attack::Quiet)?);
    let mut packets = Packets::new(attack, &world);
    let mut quiet_packets = Packets::new(Attack::Quiet, &twin);
    let (mut times, mut quiet) = ([const { Vec::new() }; 3], Vec::new());
    let mut deepest = 0;
    for round in 0..arguments.rounds {
        let [hit, _, _] = play_round(&mut twin, &mut quiet_packets, round);
        quiet.push(hit);
        let now = play_round(&mut world, &mut packets, round);
        for (times, now) in times.iter_mut().zip(now) {
            times.push(now);
        }
        deepest = deepest.max(world.slots_of(&packets.next(&world)));
    }
    let [hit, new, attack] = times.map(median);
    Ok(Line {
        quiet: median(quiet),
        hit,
        new,
        attack,
        slots: [world.slots(), deepest],
        counts: world.counts(),
    })
}
