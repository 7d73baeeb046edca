//! Operations on the interest index, read from bytes, against its [twin](super::linear_interest).

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::linear_interest::LinearInterests;
use super::toy::Choices;
use crate::interest::{InterestId, InterestIndex, Scratch};
use crate::key::{Cidr, Family, Fields, Locality, Pattern, Ports, Protocol, Zone};

/// Most patterns held.
const CAPACITY: usize = 300;

/// A prefix of a family among few that nest, or any address.
fn side(choices: &mut Choices<'_>, family: Family) -> Option<Cidr> {
    let len = choices.one(&[0, 0, 4, 8, 16, 24, 31, 32, 32, 48, 64, 127, 128]);
    let bits = address(choices);
    (len > 0 && len <= family.bits()).then(|| Cidr::from_bits(family, bits, len))
}

/// One of 256 addresses, that differ early, late and in between.
fn address(choices: &mut Choices<'_>) -> u128 {
    let byte = u128::from(choices.byte());
    byte << 120 & 0xc0 << 120 | (byte & 0x30) << 104 | (byte & 0x0c) << 96 | (byte & 3) << 62
}

fn ports(choices: &mut Choices<'_>) -> Ports {
    let (first, width) = (choices.byte(), choices.one(&[0, 0, 1, 15, 200]));
    match choices.below(3) {
        0 => Ports::ALL,
        _ => Ports::new(first.into(), u16::from(first) + width).unwrap_or(Ports::ALL),
    }
}

fn family(choices: &mut Choices<'_>) -> Family {
    choices.one(&[Family::V4, Family::V4, Family::V6])
}

fn pattern(choices: &mut Choices<'_>) -> Pattern {
    let family = family(choices);
    let mut pattern = Pattern {
        source: side(choices, family),
        destination: side(choices, family),
        ..Pattern::ANY
    };
    let more = choices.byte();
    if more & 1 != 0 {
        pattern.source_ports = ports(choices);
        pattern.destination_ports = ports(choices);
    }
    if more & 2 != 0 {
        pattern.protocol = Some(choices.one(&[Protocol::TCP, Protocol::UDP]));
    }
    if more & 4 != 0 {
        pattern.zone = Zone::new(choices.below(3).into());
    }
    if more & 8 != 0 {
        pattern.source_local = Some(choices.below(2) == 1);
    }
    if more & 16 != 0 {
        pattern.family = Some(family);
    }
    if more & 0xe0 == 0xe0 {
        // One that no flow can match.
        pattern.family = Some(match family {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        });
    }
    pattern
}

fn flow(choices: &mut Choices<'_>) -> Fields {
    Fields {
        family: family(choices),
        source: address(choices),
        destination: address(choices),
        source_port: choices.byte().into(),
        destination_port: choices.byte().into(),
        protocol: choices.one(&[Protocol::TCP, Protocol::UDP, Protocol::ICMP]),
        locality: Locality {
            source: choices.below(2) == 1,
            destination: false,
        },
        zone: Zone::new(choices.below(3).into()).unwrap_or_default(),
    }
}

struct World {
    index: InterestIndex<u32>,
    twin: LinearInterests<u32>,
    ids: Vec<InterestId>,
    scratch: Scratch,
    next: u32,
}

impl World {
    fn insert(&mut self, pattern: Pattern, priority: u64) -> Result<(), String> {
        self.next += 1;
        match self.index.insert(pattern, priority, self.next) {
            Ok(id) => {
                self.twin.insert(id, pattern, priority, self.next);
                self.ids.push(id);
                Ok(())
            }
            Err(_) if self.index.len() == CAPACITY => Ok(()),
            Err(why) => Err(format!("insert: {why}")),
        }
    }

    fn remove(&mut self, pick: usize) -> Result<(), String> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let id = self.ids.swap_remove(pick % self.ids.len());
        let (got, expected) = (self.index.remove(id), self.twin.remove(id));
        if got != expected {
            return Err(format!("remove: expected {expected:?}, got {got:?}"));
        }
        if self.index.remove(id).is_some() {
            return Err("removed twice".into());
        }
        Ok(())
    }

    fn ask(&mut self, flow: &Fields) -> Result<(), String> {
        let expected = self.twin.matches(flow);
        let found = self.index.matches(flow, &mut self.scratch);
        let found: Vec<InterestId> = found.iter().map(|found| found.id).collect();
        if found != expected {
            return Err(format!("{flow:?}: expected {expected:?}, got {found:?}"));
        }
        let first = self.index.first(flow).map(|found| found.id);
        if first != expected.first().copied() {
            return Err(format!("{flow:?}: first of {expected:?} is not {first:?}"));
        }
        Ok(())
    }

    fn ask_region(&self, region: &Pattern) -> Result<(), String> {
        let mut found = Vec::new();
        self.index.overlapping(region, |id| found.push(id));
        let set: BTreeSet<InterestId> = found.iter().copied().collect();
        let expected: BTreeSet<InterestId> = self.twin.overlapping(region).into_iter().collect();
        if set != expected || set.len() != found.len() {
            return Err(format!("{region:?}: expected {expected:?}, got {found:?}"));
        }
        Ok(())
    }
}

/// Plays the operations that the bytes say to index and twin; after every edit the structure is checked, and after every
/// operation some flow and some region are asked for.
///
/// # Errors
///
/// The first difference.
pub fn interest_ops(bytes: &[u8]) -> Result<(), String> {
    let mut choices = Choices::new(bytes);
    let mut world = World {
        index: InterestIndex::new(CAPACITY, choices.byte().into()),
        twin: LinearInterests::new(),
        ids: Vec::new(),
        scratch: Scratch::new(),
        next: 0,
    };
    while !choices.is_empty() {
        match choices.below(16) {
            0..=5 => {
                let priority = choices.below(8).into();
                world.insert(pattern(&mut choices), priority)?;
            }
            6 | 7 => {
                // Many at once that differ in one thing, as lists have them.
                let like = pattern(&mut choices);
                let (what, count) = (choices.below(5), choices.below(100));
                for n in 0..count {
                    let mut one = like;
                    match what {
                        0 => one.destination_ports = Ports::one(n),
                        1 => one.source_ports = Ports::one(n),
                        2 => one.destination_ports = Ports::new(n, 2 * n).unwrap_or(Ports::ALL),
                        3 => one.zone = Zone::new(n.into()),
                        _ => {}
                    }
                    world.insert(one, u64::from(n % 7))?;
                }
            }
            8 | 9 => world.remove(choices.byte().into())?,
            10 => {
                for _ in 0..choices.byte() {
                    world.remove(usize::from(choices.byte()) * 7)?;
                }
            }
            11 if choices.below(8) == 0 => {
                world.index.clear();
                world.twin = LinearInterests::new();
                world.ids.clear();
            }
            12 | 13 => world.ask_region(&pattern(&mut choices))?,
            _ => {}
        }
        world.index.check()?;
        world.ask(&flow(&mut choices))?;
        if let Some((_, held, ..)) = world.twin.iter().next() {
            let held = *held;
            world.ask_region(&held)?;
        }
    }
    Ok(())
}
