//! Files with any bytes. The inputs are those that the fuzzer in `tests/fuzz` found, and that it
//! starts from.

mod check;

use std::fs;
use std::path::Path;

#[test]
fn every_unchanged_file_can_be_opened() {
    let directory = tempfile::tempdir().unwrap();
    for input in check::first_inputs(directory.path()) {
        check::check(&input, directory.path());
    }
}

/// The published package has no corpus.
#[test]
fn every_file_of_the_fuzzers_corpus_is_refused_and_unchanged_or_usable() {
    let fuzzer = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    if !fuzzer.exists() {
        println!("skipped: there is no {}", fuzzer.display());
        return;
    }
    let corpus = fuzzer.join("corpus/open");
    let directory = tempfile::tempdir().unwrap();
    let mut count = 0;
    for entry in fs::read_dir(corpus).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check::check(&fs::read(path).unwrap(), directory.path());
        count += 1;
    }
    assert!(count > 50, "only {count} inputs");
}
