//! A world from one seed: hosts that talk, floods and scans, edits of every hook, clocks that jump, caches that are full; every
//! promise that can be seen from outside is checked at every step.
//!
//! Apart from the [stories](super::script), which are short and tell anything: a world is long, and built of what dataplanes meet.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::prng::SplitMix64;
use super::script::{CookieKind, Op, Story, op};
use super::toy::{Choices, ToyPacket, packet};
use crate::cache::{Config, Eviction, Pace, Quotas, Segment, Stats, Trust};
use crate::key::FlowKey;
use crate::packet::{Defect, Fragment, Origin};
use crate::time::Duration;

/// Runs the world of a seed for so many scenes.
///
/// # Errors
///
/// What was promised and not kept, with the seed and where it was.
pub fn world(seed: u64, scenes: usize) -> Result<Stats, String> {
    let mut chance = SplitMix64(seed);
    let config = config(&mut chance);
    let kills = [None, None, Some("filter"), Some("nat")][chance.below(4) as usize];
    let mut world = World {
        story: Story::of(config, chance.below(2) == 1, kills),
        chance,
    };
    for scene in 0..scenes {
        world
            .scene()
            .map_err(|what| format!("seed {seed}, scene {scene}: {what}"))?;
    }
    Ok(world.story.stats().clone())
}

fn config(chance: &mut SplitMix64) -> Config {
    let mut one = |of: &[u64]| of[chance.below(of.len() as u64) as usize];
    let pace = Pace {
        per_second: one(&[5, u64::MAX, u64::MAX]),
        burst: 20,
    };
    let orders = [Eviction::Clock, Eviction::Sieve, Eviction::S3Fifo];
    let pace = match pace.per_second {
        u64::MAX => Pace::UNLIMITED,
        _ => pace,
    };
    Config {
        sessions: one(&[1, 4, 16, 64, 256]) as usize,
        local: one(&[1, 8, 256]) as usize,
        regions: one(&[1, 8, 64]) as usize,
        eviction: orders[one(&[0, 1, 2]) as usize],
        eviction_established: orders[one(&[0, 1, 2]) as usize],
        evict_scan: one(&[1, 4, 16]) as usize,
        quotas: Quotas {
            denied: one(&[1, 250, 1_000]) as u16,
            provisional: one(&[100, 500, 1_000]) as u16,
            established: one(&[200, 875, 1_000]) as u16,
        },
        stay_provisional: Duration::from_millis(one(&[0, 0, 100])),
        per_source: one(&[2, 20, u64::from(u32::MAX)]) as u32,
        per_zone: one(&[3, u64::from(u32::MAX), u64::from(u32::MAX)]) as u32,
        idle_provisional: Duration::from_secs(4),
        idle_established: Duration::from_secs(16),
        idle_denied: Duration::from_secs(2),
        reruns: pace,
        misses: pace,
        ..Config::new([seed_of(one(&[1, 2, 3])), 5])
    }
}

const fn seed_of(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

struct World {
    story: Story,
    chance: SplitMix64,
}

impl World {
    fn scene(&mut self) -> Result<(), String> {
        match self.chance.below(16) {
            0..=5 => self.conversation()?,
            6 | 7 => self.anything()?,
            8 => self.flood()?,
            9 => self.burst()?,
            10 => self.play(&Op::Maintain(self.chance.clone().next() as u8))?,
            11 => self.clock()?,
            12 => {
                let trust = match self.chance.below(2) {
                    0 => Trust::Trust,
                    _ => Trust::Reevaluate,
                };
                let budget = self.chance.next() as u8;
                if self.chance.below(4) == 0 {
                    self.play(&Op::Migrate(trust, budget))?;
                }
            }
            13 => {
                let segment = Segment::ALL[self.chance.below(3) as usize];
                if self.chance.below(4) == 0 {
                    self.play(&Op::Sweep(segment, 3))?;
                }
            }
            _ => self.edits()?,
        }
        self.account()
    }

    /// Plays it to the cache and to the dataplane without one: verdicts, bytes and hooks must be the same, and the cache sound.
    fn play(&mut self, op: &Op) -> Result<(), String> {
        self.story
            .play(op)
            .map_err(|what| format!("{op:?}: {what}"))
    }

    fn packet(&mut self) -> ToyPacket {
        let bytes = self.chance.bytes(16);
        packet(&mut Choices::new(&bytes))
    }

    /// Two hosts exchange some packets.
    fn conversation(&mut self) -> Result<(), String> {
        let there = ToyPacket {
            fragment: Fragment::Whole,
            defect: None,
            ..self.packet()
        };
        for _ in 0..=self.chance.below(8) {
            let answer = there.key.inverse().filter(|_| self.chance.below(2) == 1);
            let key = answer.unwrap_or(there.key);
            let origin = match key.fields().locality.source {
                true => Origin::Local,
                false => Origin::Received,
            };
            let flags = self.packet().flags;
            let packet = ToyPacket {
                key,
                origin,
                flags: if there.flags.0 == 0 {
                    there.flags
                } else {
                    flags
                },
                ..there
            };
            let cookie = match self.chance.below(6) {
                0 => CookieKind::Forged(self.chance.next() as u8),
                1 | 2 => CookieKind::True,
                _ => CookieKind::None,
            };
            self.play(&Op::Packet(packet, cookie))?;
        }
        Ok(())
    }

    /// Strangers, one packet each, none answered: whoever is established stays.
    fn flood(&mut self) -> Result<(), String> {
        let established = |story: &Story| -> usize {
            let all = story.cache().iter();
            all.filter(|one| one.segment == Segment::Established)
                .count()
        };
        let before = established(&self.story);
        for n in 0..40 + self.chance.below(80) as u16 {
            let mut packet = self.packet();
            packet.defect = (n % 16 == 0).then_some(Defect::TcpHeaderLength);
            let ends = (packet.key.source(), packet.key.destination());
            let mut source = ends.0;
            // Ports that nobody of the cast has, so that these are nobody's answers.
            source.port = 1_000 + (self.chance.next() as u16 >> 2);
            if packet.key.protocol().is_icmp() {
                continue;
            }
            packet.key = packet.key.with(source, ends.1).unwrap_or(packet.key);
            self.play(&Op::Packet(packet, CookieKind::None))?;
        }
        let after = established(&self.story);
        if after < before {
            return Err(format!(
                "{before} established before a flood, {after} after"
            ));
        }
        Ok(())
    }

    fn burst(&mut self) -> Result<(), String> {
        let count = self.chance.below(40);
        let packets: Vec<ToyPacket> = (0..count).map(|_| self.packet()).collect();
        self.play(&Op::Burst(packets))
    }

    fn clock(&mut self) -> Result<(), String> {
        for _ in 0..1 << self.chance.below(6) {
            self.play(&Op::Tick(self.chance.clone().next() as u8))?;
        }
        let _ = self.chance.next();
        Ok(())
    }

    /// Any operation of the stories.
    fn anything(&mut self) -> Result<(), String> {
        let bytes = self.chance.bytes(64);
        let op = op(&mut Choices::new(&bytes), &[]);
        self.play(&op)
    }

    /// Some edits in a row.
    fn edits(&mut self) -> Result<(), String> {
        for _ in 0..=self.chance.below(3) {
            let mut bytes = self.chance.bytes(16);
            if let Some(first) = bytes.first_mut() {
                // The operations that edit, in the stories' numbering.
                let edits = [21, 21, 22, 24, 25, 26, 27, 28, 31, 32, 33];
                *first = edits[self.chance.below(edits.len() as u64) as usize];
            }
            let op = op(&mut Choices::new(&bytes), &[]);
            self.play(&op)?;
        }
        Ok(())
    }

    /// Every packet is in one counter of paths and in one of verdicts, and no structure is past its capacity.
    fn account(&self) -> Result<(), String> {
        let cache = self.story.cache();
        let stats = cache.stats();
        let paths = stats.cached()
            + stats.revisited
            + stats.first_replies
            + stats.misses
            + stats.uncached.iter().sum::<u64>();
        if paths != stats.packets() {
            return Err(format!(
                "{} packets, {paths} of them accounted for",
                stats.packets()
            ));
        }
        if cache.len() > cache.config().sessions {
            return Err(format!("{} sessions", cache.len()));
        }
        Ok(())
    }
}
