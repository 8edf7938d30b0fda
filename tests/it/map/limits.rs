//! If there is not enough memory or disk space, creating a map is an error, and no later access is
//! a SIGBUS.
//!
//! Two of these tests run again in a process of their own, under a limit that also applies if the
//! request is not refused. What they request could otherwise fill the machine's memory.

use super::*;
use std::env;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

/// The environment variable that names the limited file system in the second run of a test.
const AGAIN: &str = "PSHARED_TEST_AGAIN";

/// Runs the test a second time under a limit. In the first run, starts the second one by `shell`,
/// checks that it succeeds, and returns `None`. `shell` is a script that ends with running `"$@"`.
/// In the second run, returns the directory that it received. If the script cannot set its limit,
/// it exits with a code that no test uses, and the test is skipped.
fn again(test: &str, shell: &str) -> Option<PathBuf> {
    if let Some(directory) = env::var_os(AGAIN) {
        return Some(directory.into());
    }
    let (_binary, module) = module_path!().split_once("::").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let run = Command::new("sh")
        .args(["-c", shell, "sh"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", &format!("{module}::{test}"), "--nocapture"])
        .env(AGAIN, directory.path())
        .output()
        .unwrap();
    match run.status.code() {
        Some(0) => {
            let output = String::from_utf8_lossy(&run.stdout);
            assert!(output.contains("1 passed"), "{test} is not in {output}");
        }
        Some(101) | None => panic!("{run:?}"),
        Some(_) => {}
    }
    None
}

#[test]
fn more_memory_than_there_are_addresses_is_refused_before_any_is_taken() {
    for refusal in [
        Map::anonymous(1 << 62),
        Map::dev_zero(1 << 62),
        Map::memfd("endless", 1 << 62),
    ] {
        refused!(
            refusal,
            Error::NoMemory { .. },
            "4611686018427387904 bytes",
            "RLIMIT_AS",
            "ask for less"
        );
    }
}

#[test]
fn more_memory_than_the_system_has_is_refused_before_any_is_taken() {
    let limited = again(
        "more_memory_than_the_system_has_is_refused_before_any_is_taken",
        r#"ulimit -f 1000000 || exit 77; exec "$@""#,
    );
    let policy = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
    // With policy 1 the kernel grants every request.
    if limited.is_none() || policy.trim() == "1" {
        return;
    }
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let total = |key: &str| -> usize {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key));
        let kib: usize = line
            .unwrap()
            .trim()
            .strip_suffix(" kB")
            .unwrap()
            .parse()
            .unwrap();
        kib * 1024
    };
    let len = 2 * (total("MemTotal:") + total("SwapTotal:"));
    refused!(
        Map::memfd("too much", len),
        Error::NoMemory { .. },
        format!("{len} bytes")
    );
}

#[test]
fn a_full_file_system_is_an_error_when_the_file_is_mapped_and_no_bus_error_later() {
    let Some(directory) = again(
        "a_full_file_system_is_an_error_when_the_file_is_mapped_and_no_bus_error_later",
        r#"exec unshare --user --map-root-user --mount sh -c '
            mount -t tmpfs -o size=1m none "$PSHARED_TEST_AGAIN" || exit 77
            exec "$@"' sh "$@""#,
    ) else {
        return;
    };
    let new = || tempfile::tempfile_in(&directory).unwrap();
    let reserved = |file: &File, len| map_file(file, MapOptions::shared().len(len).reserve());
    let half = reserved(&new(), 1 << 19).unwrap();
    let file = new();
    refused!(
        reserved(&file, 1 << 20),
        Error::NoSpace { len: 1048576, .. },
        "no space for 1048576 bytes",
        "No space left on device",
        "ask for less",
    );
    assert_eq!(
        file.metadata().unwrap().blocks(),
        0,
        "a refused request must take no blocks"
    );
    // All reserved memory is available.
    half.write_at(0, &vec![1; 1 << 19]).unwrap();
    drop(half);
    let whole = reserved(&file, 1 << 20).unwrap();
    whole.write_at(0, &vec![1; 1 << 20]).unwrap();
}
