//! Opens files with the bytes that libFuzzer makes: see `tests/it/damaged/check.rs`.

#![no_main]

#[path = "../it/damaged/check.rs"]
#[allow(dead_code, reason = "the program `seeds` uses the rest")]
mod check;

use std::path::PathBuf;
use std::sync::OnceLock;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    // In memory, so that the disk is not worn and does not limit the speed.
    let directory = DIRECTORY.get_or_init(|| {
        let directory = PathBuf::from(format!("/dev/shm/pshared-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory in memory");
        directory
    });
    check::check(input, directory);
});
