//! Runs each test in a child process, under a watchdog.
//!
//! The test runner has one thread, and no test changes the runner's state. A test's process adopts
//! the orphans of its children. The runner adopts the orphans of a test that crashed. However a
//! test ends, all of its descendants are therefore known by their ids, killed and reaped. A test
//! that does not end in time fails with a report of what each thread waits for.

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

/// How long a test may run before it counts as hung. The slowest test needs far less on a busy
/// machine.
const LIMIT: Duration = Duration::from_secs(180);

/// The exit code of a test that cannot run here.
const SKIPPED: i32 = 77;

/// A test: its name and its function.
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

/// Runs the tests that the command line selects.
pub fn run(tests: Vec<Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Tests run in the main thread, so the process that forks has no other thread.
    arguments.test_threads = Some(1);
    // Killed processes of the tests leave no core files.
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

/// Prints `why` and ends the test as skipped, because this machine or user does not permit it. Call
/// it only in the test's own process.
pub fn skip(why: &str) -> ! {
    println!("{why}");
    end_descendants(Pid::this());
    std::process::exit(SKIPPED)
}

fn in_a_child(name: &str, test: fn()) -> Result<(), Failed> {
    let mut output = tempfile::tempfile()?;
    // Flushes stdout, so that the child does not write buffered output a second time.
    let _ = std::io::stdout().flush();
    // SAFETY: the process has one thread.
    let child = match unsafe { fork() }? {
        ForkResult::Child => {
            let _ = nix::unistd::dup2_stdout(output.as_fd());
            let _ = nix::unistd::dup2_stderr(output.as_fd());
            let _ = prctl::set_child_subreaper(true);
            // If the runner dies, the test dies too instead of running on unobserved.
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
    // Descendants are left only if the test was killed or crashed.
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

/// Waits 2 ms between two checks of processes that cannot be waited for. No test depends on this
/// time for its order.
pub fn pause() {
    let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::from(2u8));
}

/// Returns the ids of all processes below `root`.
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

/// Kills and reaps the processes that a test left running.
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

/// Kills a test's process after all of its descendants.
fn end_tree(root: Pid) {
    let _ = kill(root, Signal::SIGSTOP);
    for process in descendants(root) {
        let _ = kill(process, Signal::SIGKILL);
    }
    let _ = kill(root, Signal::SIGKILL);
}

/// Describes what each thread of the process, and of its descendants, is doing.
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
