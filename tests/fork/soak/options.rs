//! The command line of a soak.

use clap::Parser;
use std::time::Duration;

/// Kills processes at random instants, in all tests of kills by turns, for as long as you like.
///
/// The tests are those of `cargo test --test fork`. Each run of a test makes some hundred kills,
/// from a seed of its own, and checks what the deaths left. The tests get equal numbers of kills.
///
/// A line on standard error shows the progress. The end shows a table. If a run fails, the soak
/// ends all processes, prints the report, the seed, and the command that repeats the run, and exits
/// with code 1. Ctrl-C ends all processes and prints the table; the code is then 130.
///
/// The load is bounded: `--jobs` tests run at a time, and each has less than ten processes.
#[derive(Parser)]
#[command(
    name = "cargo soak",
    override_usage = "cargo soak [--kills NUMBER | --time TIME] [OPTIONS] [FILTER]...",
    after_help = "Examples:\n  \
        cargo soak                        all tests, for a minute\n  \
        cargo soak --kills 1000000        all tests, a million kills in total\n  \
        cargo soak --time 8h --jobs 4     a night\n  \
        cargo soak --time 5m barrier      one primitive\n  \
        cargo soak --list                 what there is",
    disable_version_flag = true
)]
pub struct Options {
    /// Stop after this many kills in total
    #[arg(long, value_name = "NUMBER")]
    pub kills: Option<u64>,

    /// Stop after this time, such as 90s, 25m or 8h [default: 1m, unless --kills is given]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub time: Option<Duration>,

    /// Run this many tests at a time [default: the number of CPUs]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub jobs: Option<u32>,

    /// Derive the seeds of the runs from this number [default: random]
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,

    /// Take a run that makes no kill for this time for hung
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "120s")]
    pub stall: Duration,

    /// List the tests and their primitives
    #[arg(long)]
    pub list: bool,

    /// Run the tests whose name or primitive contains one of these texts
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
}

/// Reads a time: a whole number, and its unit.
fn time(text: &str) -> Result<Duration, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600)];
    let seconds = units.into_iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(seconds)
    });
    match seconds {
        Some(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err("write a whole number and its unit, such as 90s, 25m or 8h".into()),
    }
}
