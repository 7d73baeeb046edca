//! Replays golden traces, which say what the Linux kernel did packet by packet, and prints where the tracker differs.
//!
//! `cargo run --release --example golden -- DIR...`

mod replay;
mod rules;
mod translate;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use flate2::read::GzDecoder;
use replay::{Outcome, Way, replay};

/// Deviations on purpose: the name of the trace and why. At most three.
const DEVIATIONS: &[(&str, &str)] = &[];

fn main() -> ExitCode {
    let mut files = Vec::new();
    for folder in std::env::args().skip(1) {
        collect(Path::new(&folder), &mut files);
    }
    files.sort();
    let (mut packets, mut stepped, mut differ, mut deviate) = (0, 0, 0, 0);
    for file in &files {
        let name = file.display().to_string();
        // Judged each, and by steps where they fit; the first that differs is told.
        let text = read(file);
        let outcome = match replay(&text, Way::Whole) {
            Outcome::Equal { .. } => replay(&text, Way::Step),
            other => other,
        };
        match outcome {
            Outcome::Equal {
                packets: count,
                stepped: by_step,
            } => {
                packets += count;
                stepped += by_step;
            }
            Outcome::Differs { packet, text } => {
                let known = DEVIATIONS.iter().find(|(trace, _)| name.contains(trace));
                match known {
                    Some((_, why)) => {
                        deviate += 1;
                        println!("{name}: deviates on purpose: {why}");
                    }
                    None => {
                        differ += 1;
                        println!("{name}: packet {packet}: {text}");
                    }
                }
            }
        }
    }
    if deviate > 0 {
        println!("{deviate} files deviate on purpose");
    }
    println!("{stepped} packets also judged by steps alone, as on cached flows");
    println!(
        "golden: {} files, {packets} packets, {differ} differ",
        files.len()
    );
    if differ == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            collect(&entry.expect("an entry").path(), files);
        }
    } else if path.to_string_lossy().contains(".jsonl") {
        files.push(path.to_path_buf());
    }
}

fn read(path: &Path) -> String {
    let bytes = fs::read(path).expect("a file");
    if path.extension().is_some_and(|extension| extension == "gz") {
        let mut text = String::new();
        GzDecoder::new(&bytes[..])
            .read_to_string(&mut text)
            .expect("gzip");
        text
    } else {
        String::from_utf8(bytes).expect("text")
    }
}
