//! The floors: a module names only what lies below it, and the leaves are blind to one another.
//!
//! It reads text, not syntax, and relies on one path a line in `use` and on tests standing last in a file.

use std::fs;
use std::path::{Path, PathBuf};

/// Lowest first. A module may name any module earlier in this list.
const FLOORS: &[&[&str]] = &[
    // Ground: what things are called.
    &["cookie", "time", "key"],
    // Structures: they know bits and fields, not packets.
    &["epoch", "trie", "interest"],
    // Contract: what users implement.
    &[
        "packet", "verdict", "observe", "hook", "destiny", "pipeline",
    ],
    // Engine and leaves: blind to one another.
    &["cache", "hooks", "nic", "wire"],
    // Assembly: what puts engine and leaves together.
    &["shard"],
];

/// The floor whose modules are blind to one another.
const BLIND: usize = 3;

/// What stands outside the floors: it may name anything, and nothing on a floor names it.
const OUTSIDE: &[&str] = &["testing", "manual"];

fn place(module: &str) -> Option<(usize, usize)> {
    FLOORS.iter().enumerate().find_map(|(floor, modules)| {
        modules
            .iter()
            .position(|name| *name == module)
            .map(|at| (floor, at))
    })
}

fn may_use(module: &str, used: &str) -> bool {
    match (place(module), place(used)) {
        _ if module == used => true,
        (Some(a), Some(b)) if a.0 == b.0 && a.0 == BLIND => false,
        (Some(a), Some(b)) => b < a,
        _ => false,
    }
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Names behind `crate::` in the code of a file, without comments and tests.
fn used(text: &str) -> Vec<(usize, &str)> {
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    let lines = code
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"));
    lines
        .flat_map(|(number, line)| {
            line.split("crate::").skip(1).map(move |rest| {
                let end = rest
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                (number + 1, &rest[..end])
            })
        })
        .collect()
}

#[test]
fn modules_name_only_what_lies_below() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    let mut uses = 0;
    for file in &files {
        let relative = file.strip_prefix(&root).expect("below src");
        let first = relative
            .components()
            .next()
            .expect("a name")
            .as_os_str()
            .to_string_lossy();
        let module = first.strip_suffix(".rs").unwrap_or(&first).to_string();
        let tests = file.file_name().is_some_and(|name| name == "tests.rs");
        if tests || module == "lib" || OUTSIDE.contains(&module.as_str()) {
            continue;
        }
        assert!(
            place(&module).is_some(),
            "src/{module} stands on no floor: give it one in this list"
        );
        for (line, name) in used(&fs::read_to_string(file).expect("text")) {
            uses += 1;
            if !may_use(&module, name) {
                wrong.push(format!(
                    "src/{}:{line}: {module} names {name}",
                    relative.display()
                ));
            }
        }
    }
    assert!(uses > 50, "the test reads the imports that there are");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_rule_refuses() {
    assert!(may_use("cache", "trie") && may_use("interest", "trie") && may_use("hook", "verdict"));
    assert!(!may_use("trie", "interest"), "upward");
    assert!(may_use("shard", "cache") && may_use("shard", "nic"));
    assert!(!may_use("wire", "cache"), "sideways among the leaves");
    assert!(!may_use("nic", "cache") && !may_use("nic", "hooks"));
    assert!(!may_use("cache", "shard"), "upward");
    assert!(!may_use("cache", "testing"), "outside");
}
