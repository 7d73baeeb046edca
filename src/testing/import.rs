//! Blocks of sessions, sound and otherwise, for the importer.

use alloc::vec::Vec;

use super::toy::ToyPacket;
use crate::cache::{Config, Cursor, FlowCache, Trust};
use crate::hooks::filter::{Filter, Policy};
use crate::key::Tuple;
use crate::time::Instant;

type Cache = FlowCache<Tuple, (Filter,)>;

fn cache() -> Cache {
    let config = Config {
        sessions: 8,
        ..Config::new([1, 2])
    };
    let filter = Filter::new("filter", 1, 1, Policy::Accept);
    FlowCache::new(config, (filter,)).expect("a valid configuration")
}

/// Feeds bytes to the importer, as they are or made into a block with a true header and checksum: what is refused changes nothing, and
/// what is taken leaves a sound cache whose own export it takes again, to the byte.
pub fn import_bytes(bytes: &[u8]) {
    let mut cache = cache();
    let now = Instant::from_secs(100);
    let Some((how, rest)) = bytes.split_first() else {
        return;
    };
    let block = match how % 2 {
        0 => rest.to_vec(),
        _ => sealed(*how >> 1, rest),
    };
    let trust = match how >> 7 {
        0 => Trust::Trust,
        _ => Trust::Reevaluate,
    };
    let taken = cache.import(&block, trust, now);
    cache.check().expect("a sound cache");
    let Ok(taken) = taken else {
        assert!(cache.is_empty());
        return;
    };
    assert!(taken.begun >= cache.len());
    let export = |cache: &Cache| {
        let mut block = Vec::new();
        assert_eq!(
            cache.export(Cursor::START, usize::MAX, now, &mut block),
            None
        );
        block
    };
    let (exported, mut again) = (export(&cache), self::cache());
    let second = again.import(&exported, Trust::Trust, now);
    second.expect("what was exported is taken");
    // Slots that were given up in between put sessions in another order.
    if taken.begun == cache.len() {
        assert_eq!(export(&again), exported);
    }
    let keys: Vec<Tuple> = cache
        .iter()
        .flat_map(|one| [one.original, one.reply])
        .collect();
    for key in keys {
        let _ = cache.process(&mut ToyPacket::new(key), now);
        cache.check().expect("a sound cache");
    }
}

/// A block of so many sessions whose header and checksum are right.
pub fn sealed(count: u8, body: &[u8]) -> Vec<u8> {
    let mut block = b"gufc\x01\x00".to_vec();
    block.extend_from_slice(&u32::from(count & 63).to_le_bytes());
    block.extend_from_slice(body);
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let sum = block.iter().fold(0xcbf2_9ce4_8422_2325, step);
    block.extend_from_slice(&sum.to_le_bytes());
    block
}
