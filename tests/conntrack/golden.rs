//! A kernel's traces, packet by packet: verdict, class, direction, rule, and the whole table after each packet.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

#[path = "../../examples/golden/replay.rs"]
mod replay;
#[path = "../../examples/golden/rules.rs"]
mod rules;
#[path = "../../examples/golden/translate.rs"]
mod translate;

use replay::{Outcome, Way};

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

#[test]
fn traces_by_the_whole_procedure() {
    let (_, stepped) = traces(Way::Whole);
    assert_eq!(stepped, 0);
}

#[test]
fn traces_by_the_window_step() {
    let (packets, stepped) = traces(Way::Step);
    assert!(stepped > packets / 5, "{stepped} of {packets}");
}

fn traces(way: Way) -> (usize, usize) {
    let mut files = Vec::new();
    collect(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"),
        &mut files,
    );
    let (mut packets, mut steps, mut replayed, mut wrong) = (0, 0, 0, Vec::new());
    for file in &files {
        let mut text = String::new();
        let bytes = fs::read(file).expect("a file");
        GzDecoder::new(&bytes[..])
            .read_to_string(&mut text)
            .expect("gzip");
        match replay::replay(&text, way) {
            Outcome::Equal {
                packets: count,
                stepped,
            } => {
                packets += count;
                steps += stepped;
                replayed += 1;
            }
            Outcome::Differs { packet, text } => {
                wrong.push(format!("{}: packet {packet}: {text}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        replayed >= 390 && packets > 20_000,
        "{replayed} traces, {packets} packets"
    );
    (packets, steps)
}
