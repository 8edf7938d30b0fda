//! Runs each test in a child process, under a watchdog.
//!
//! The test runner has one thread and stays as it was started. A test's process adopts whatever its own children leave
//! behind, and the runner what a crashed test leaves, so that at its end, however it comes, all of its descendants are known
//! by their ids, killed and reaped. A test that does not end in time fails with a report of who waits for what.

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Seek, Write as _};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How long a test may take before it counts as hung. Far beyond what the slowest needs on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// The exit code of a test that could not be made here.
const SKIPPED: i32 = 77;

/// A test: its name and what it does.
pub type Test = (&'static str, fn());

/// Lists the functions of a module as tests, under the module's name.
#[macro_export]
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        pub fn tests() -> Vec<$crate::harness::Test> {
            vec![$((concat!(module_path!(), "::", stringify!($name)), $name as fn())),*]
        }
    };
}

/// Runs the tests as the command line asks.
pub fn run(tests: Vec<Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // In the main thread, so that the process that forks has no other.
    arguments.test_threads = Some(1);
    // What the tests kill leaves no core files.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = prctl::set_child_subreaper(true);
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            let name = name.split_once("::").map_or(name, |(_, name)| name);
            Trial::test(name, move || in_a_child(name, test))
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Ends the test, which this machine or user does not allow, and says why. Only in the test's own process.
pub fn skip(why: &str) -> ! {
    println!("{why}");
    end_descendants(Pid::this());
    std::process::exit(SKIPPED)
}

fn in_a_child(name: &str, test: fn()) -> Result<(), Failed> {
    let mut output = tempfile::tempfile()?;
    // Nothing that is buffered here may be written twice.
    let _ = std::io::stdout().flush();
    // SAFETY: the process has one thread.
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            let _ = nix::unistd::dup2_stdout(output.as_fd());
            let _ = nix::unistd::dup2_stderr(output.as_fd());
            let _ = prctl::set_child_subreaper(true);
            // If the runner dies, the test does too, instead of running on unseen.
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
            let passed = std::panic::catch_unwind(test).is_ok();
            end_descendants(Pid::this());
            std::process::exit(if passed { 0 } else { 101 });
        }
        ForkResult::Parent { child } => child,
    };
    let since = Instant::now();
    let mut hung = None;
    let status = loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::StillAlive if hung.is_none() && since.elapsed() > LIMIT => {
                hung = Some(who_waits_for_what(child));
                end_tree(child);
            }
            WaitStatus::StillAlive => pause(),
            status => break status,
        }
    };
    // There are none, but for a test that was killed or crashed.
    end_descendants(Pid::this());
    output.rewind()?;
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    match (hung, status) {
        (Some(report), _) => Err(format!("hung for {LIMIT:?}:\n{report}\n{text}").into()),
        (None, WaitStatus::Exited(_, 0)) => Ok(()),
        (None, WaitStatus::Exited(_, SKIPPED)) => {
            eprintln!("SKIPPED {name}: {}", text.trim());
            Ok(())
        }
        (None, status) => Err(format!("{status:?}\n{text}").into()),
    }
}

/// The wait between two looks at processes that cannot be slept on; no test's order rests on it.
pub fn pause() {
    let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(2u8));
}

/// All processes below `root`, by their ids.
fn descendants(root: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(process) = open.pop() {
        for task in tasks(process) {
            let children = fs::read_to_string(task.join("children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|id| id.parse().ok()) {
                found.push(Pid::from_raw(child));
                open.push(Pid::from_raw(child));
            }
        }
    }
    found
}

fn tasks(process: Pid) -> impl Iterator<Item = std::path::PathBuf> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .map(|task| task.path())
}

/// Kills and reaps what a test left running.
fn end_descendants(root: Pid) {
    loop {
        let left = descendants(root);
        if left.is_empty() {
            return;
        }
        for process in left {
            let _ = kill(process, Signal::SIGKILL);
            let _ = waitpid(process, Some(WaitPidFlag::WNOHANG));
        }
        pause();
    }
}

/// Kills a test's process after everything below it.
fn end_tree(root: Pid) {
    let _ = kill(root, Signal::SIGSTOP);
    for process in descendants(root) {
        let _ = kill(process, Signal::SIGKILL);
    }
    let _ = kill(root, Signal::SIGKILL);
}

/// The threads of a process and of all below it, and what each does.
pub fn who_waits_for_what(root: Pid) -> String {
    let mut report = String::new();
    for process in std::iter::once(root).chain(descendants(root)) {
        for task in tasks(process) {
            let read = |file: &str| {
                let text = fs::read_to_string(task.join(file)).unwrap_or_default();
                text.trim().to_string()
            };
            let state = read("status");
            let state = state.lines().find(|line| line.starts_with("State:"));
            let thread = task.file_name().unwrap_or_default();
            let _ = writeln!(
                report,
                "  process {process} thread {}: {}, in {}, system call {}",
                thread.to_string_lossy(),
                state.unwrap_or("State: ?"),
                read("wchan"),
                read("syscall"),
            );
        }
    }
    report
}
