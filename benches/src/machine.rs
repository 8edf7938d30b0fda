//! Describes the machine of a run. Records are published, so they hold no names of hosts, users or
//! directories.

use std::ffi::CStr;
use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns the contents of `Record::about`, in order.
pub fn about() -> Vec<(String, String)> {
    [
        ("machine", model()),
        ("CPUs", cpus()),
        ("kernel", kernel()),
        ("libc", libc_version()),
        ("rustc", output("rustc", &["--version"])),
        ("commit", commit()),
        ("date", date(SystemTime::now())),
        ("command", command()),
    ]
    .map(|(key, value)| {
        let value = value.unwrap_or_else(|| String::from("unknown"));
        (key.to_owned(), value)
    })
    .to_vec()
}

/// Returns how many CPUs other programs, or other guests of the host, keep busy. Samples for a
/// quarter of a second.
pub fn busy_cpus() -> Option<f64> {
    let before = Ticks::now()?;
    std::thread::sleep(Duration::from_millis(250));
    let after = Ticks::now()?;
    let all = after.all.checked_sub(before.all)?;
    let idle = after.idle.checked_sub(before.idle)?;
    let cpus = std::thread::available_parallelism().ok()?.get();
    Some((1.0 - idle as f64 / all.max(1) as f64) * cpus as f64)
}

/// What the CPUs have spent their time on: proc_stat(5).
struct Ticks {
    all: u64,
    idle: u64,
}

impl Ticks {
    fn now() -> Option<Self> {
        let text = fs::read_to_string("/proc/stat").ok()?;
        let ticks: Vec<u64> = text
            .lines()
            .next()?
            .split_whitespace()
            .skip(1)
            .take(8)
            .filter_map(|ticks| ticks.parse().ok())
            .collect();
        Some(Ticks {
            all: ticks.iter().sum(),
            // Idle, and idle while waiting for I/O.
            idle: ticks.get(3)? + ticks.get(4)?,
        })
    }
}

fn model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(": ")?.1.trim().to_owned())
}

fn cpus() -> Option<String> {
    Some(std::thread::available_parallelism().ok()?.to_string())
}

fn kernel() -> Option<String> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(format!("Linux {}", release.trim()))
}

fn libc_version() -> Option<String> {
    // SAFETY: the function returns a pointer to a constant string.
    let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
    Some(format!("glibc {}", version.to_str().ok()?))
}

fn commit() -> Option<String> {
    let commit = output("git", &["rev-parse", "--short", "HEAD"])?;
    let changed = !output("git", &["status", "--porcelain", "-uno"])?.is_empty();
    Some(format!("{commit}{}", if changed { "+changes" } else { "" }))
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Returns the command line without the output paths.
fn command() -> Option<String> {
    let mut words = vec![String::from("pshared-bench")];
    let mut arguments = std::env::args().skip(1);
    while let Some(word) = arguments.next() {
        let names_a_file = ["--csv", "--html"]
            .iter()
            .find(|option| word.split('=').next() == Some(**option));
        if names_a_file.is_some() {
            if !word.contains('=') {
                arguments.next();
            }
            continue;
        }
        words.push(match word.contains(' ') {
            true => format!("'{word}'"),
            false => word,
        });
    }
    Some(words.join(" "))
}

/// Formats a time as ISO 8601, UTC.
fn date(time: SystemTime) -> Option<String> {
    let seconds = time.duration_since(UNIX_EPOCH).ok()?.as_secs() as libc::time_t;
    // SAFETY: zero bytes are a valid `tm`.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call.
    unsafe { libc::gmtime_r(&seconds, &mut parts) };
    Some(format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        parts.tm_year + 1900,
        parts.tm_mon + 1,
        parts.tm_mday,
        parts.tm_hour,
        parts.tm_min,
        parts.tm_sec
    ))
}
