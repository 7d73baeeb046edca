//! What fuzzing found worth keeping is replayed by every test run: each file of each target's corpus.

use std::fs;
use std::path::Path;

/// Feeds a corpus to its target; gives how many files there were.
fn replay(target: &str, run: impl Fn(&[u8])) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let files = fs::read_dir(&folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    files
        .map(|file| {
            let path = file.expect("an entry").path();
            run(&fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display())));
        })
        .count()
}

#[test]
fn stories() {
    let files = replay("script", |bytes| {
        if let Err(difference) = gufc::testing::script::story(bytes) {
            panic!("{difference}");
        }
    });
    assert!(files > 50, "{files} files");
}

#[test]
fn trie_operations() {
    let files = replay("trie_ops", gufc::testing::trie::trie_ops);
    assert!(files > 50, "{files} files");
}

#[test]
fn frames() {
    let files = replay("frame", gufc::testing::frame::frame);
    assert!(files > 50, "{files} files");
}

#[test]
fn translations() {
    let files = replay("translate", gufc::testing::translate::translate);
    assert!(files > 50, "{files} files");
}

#[test]
fn prefix_operations() {
    let files = replay("prefix_ops", |bytes| {
        if let Err(difference) = gufc::testing::prefix_ops(bytes) {
            panic!("{difference}");
        }
    });
    assert!(files > 50, "{files} files");
}

#[test]
fn interest_operations() {
    let files = replay("interest", |bytes| {
        if let Err(difference) = gufc::testing::interest::interest_ops(bytes) {
            panic!("{difference}");
        }
    });
    assert!(files > 50, "{files} files");
}

#[test]
fn nic_stories() {
    let files = replay("nic_story", |bytes| {
        if let Err(difference) = gufc::testing::nic_story::nic_story(bytes) {
            panic!("{difference}");
        }
    });
    assert!(files > 50, "{files} files");
}

#[test]
fn imports() {
    let files = replay("import", gufc::testing::import::import_bytes);
    assert!(files > 20, "{files} files");
}

#[test]
fn tracker_stories() {
    let files = replay("track", |bytes| {
        if let Err(difference) = gufc::testing::track::track(bytes) {
            panic!("{difference}");
        }
    });
    assert!(files > 50, "{files} files");
}

#[test]
fn translator_stories() {
    let files = replay("nat", |bytes| {
        if let Err(difference) = gufc::testing::nat_story::either(bytes) {
            panic!("{difference}");
        }
    });
    assert!(files > 50, "{files} files");
}
