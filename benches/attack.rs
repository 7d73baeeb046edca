//! What a packet costs under attack: of a connection that was there before, and of the attacker.
//!
//! The attacks and the dataplane are those of `examples/attack`, which prints them as one table and says what became of whom; here
//! they are measured the longer way. After each, every connection must be there still.

#[path = "../examples/attack/attacks.rs"]
mod attacks;
#[path = "../examples/attack/round.rs"]
mod round;
#[path = "../examples/attack/world.rs"]
mod world;

use std::time::Duration;

use criterion::Criterion;

use attacks::{Attack, Packets};
use round::{median, play_round};
use world::World;

const FLOWS: u32 = 1_024;
const CAPACITY: u32 = 8_192;

fn attacks(criterion: &mut Criterion) {
    for attack in Attack::ALL {
        let mut group = criterion.benchmark_group(attack.name());
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(800));
        let mut world = World::new(attack.rules(), FLOWS, CAPACITY)
            .unwrap_or_else(|why| panic!("{}: {why}", attack.name()));
        let mut packets = Packets::new(attack, &world);
        let (mut round, mut newcomers) = (0, Vec::new());
        for (at, whose) in ["a connection's packet", "the attacker's packet"]
            .into_iter()
            .enumerate()
        {
            group.bench_function(whose, |bencher| {
                bencher.iter_custom(|iterations| {
                    let mut spent = 0.0;
                    for _ in 0..iterations {
                        let [hit, new, hostile] = play_round(&mut world, &mut packets, round);
                        spent += [hit, hostile][at];
                        newcomers.push(new);
                        round += 1;
                    }
                    Duration::from_nanos(spent as u64)
                });
            });
        }
        group.finish();
        let attacked = packets.next(&world);
        let slots = [world.slots(), world.slots_of(&attacked)];
        let counts = world.counts();
        println!(
            "{}: at most {} slots a lookup of a connection, {} of the attacker's; {} cached, {} tracked; a newcomer's packet {:.0} ns, {} in\n",
            attack.name(),
            slots[0],
            slots[1],
            counts.cached,
            counts.tracked,
            median(std::mem::take(&mut newcomers)),
            counts.newcomers,
        );
        assert_eq!(counts.tracked, FLOWS as usize, "every connection survives");
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    attacks(&mut criterion);
    criterion.final_summary();
}
