//! The guides name tests and files. These tests check that they exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const TEXTS: [&str; 11] = [
    "README.md",
    "CONTRIBUTING.md",
    "src/guide.rs",
    "src/guide/choosing.md",
    "src/guide/tour.md",
    "src/guide/crash.md",
    "src/guide/checking.md",
    "src/guide/forking.md",
    "src/guide/beyond.md",
    "src/guide/figures.md",
    "src/guide/glossary.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the text between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Collects the names of all functions in the sources below a directory.
fn functions(directory: PathBuf, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(path).unwrap();
            let names = text
                .split("fn ")
                .skip(1)
                .filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(String::from));
        }
    }
}

#[test]
fn every_test_that_a_text_names_exists() {
    let mut found = BTreeSet::new();
    functions(root().join("tests"), &mut found);
    functions(root().join("src"), &mut found);
    let mut named = 0;
    for file in TEXTS {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for name in quoted(&text) {
            let is_a_sentence = name.matches('_').count() >= 3
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            if is_a_sentence {
                assert!(
                    found.contains(name),
                    "{file} names the test {name}, which does not exist"
                );
                named += 1;
            }
        }
    }
    assert!(named > 20, "only {named} names were found");
}

#[test]
fn every_file_that_a_text_names_exists() {
    for file in TEXTS {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for path in quoted(&text).chain(links) {
            let is_ours = ["src/", "tests/", "examples/", "benches/", "derive/"]
                .iter()
                .any(|prefix| path.starts_with(prefix));
            let is_a_pattern = path.contains("NAME") || path.contains('*');
            if is_ours && !is_a_pattern {
                assert!(
                    root().join(path).exists(),
                    "{file} names {path}, which does not exist"
                );
            }
        }
    }
}
