//! Runs each test in a child process, under a watchdog, and some of them at a time.
//!
//! The test runner has one thread, and no test changes the runner's state. A test's process adopts
//! the orphans of its children. The runner adopts the orphans of a test that crashed. However a
//! test ends, all of its descendants are therefore known by their ids, killed and reaped. A test
//! that does not end in time fails with a report of what each thread waits for.

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write as _};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
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

/// Runs the tests that the command line selects, some at a time: twice as many as there are CPUs,
/// because most tests sleep half of the time, or as many as `--test-threads` says.
pub fn run(tests: Vec<Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let at_once = arguments.test_threads.unwrap_or_else(|| {
        2 * std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
    });
    // The main thread starts all tests, so the process that forks has no other thread.
    arguments.test_threads = Some(1);
    // Killed processes of the tests leave no core files.
    // The hard limit stays, for a test that needs a dump.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CORE) {
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, hard);
    }
    let _ = prctl::set_child_subreaper(true);
    let tests: Vec<Test> = tests
        .into_iter()
        .map(|(name, test)| (name.split_once("::").map_or(name, |(_, name)| name), test))
        .collect();
    let pool = Arc::new(Mutex::new(Pool {
        at_once: at_once.max(1),
        waiting: (tests.iter().copied())
            .filter(|(name, _)| is_selected(&arguments, name))
            .collect(),
        running: Vec::new(),
        ended: HashMap::new(),
    }));
    let trials = tests
        .into_iter()
        .map(|test| {
            let pool = Arc::clone(&pool);
            let outcome = move || pool.lock().expect("one thread").outcome(test);
            Trial::test(test.0, outcome)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Whether the command line selects a test of this name, as libtest defines it.
fn is_selected(arguments: &Arguments, name: &str) -> bool {
    let matches = |pattern: &String| match arguments.exact {
        true => name == pattern,
        false => name.contains(pattern.as_str()),
    };
    !arguments.list
        && arguments.filter.as_ref().is_none_or(matches)
        && !arguments.skip.iter().any(matches)
}

/// The tests, of which some run at a time. The results are asked for in the order of the list.
struct Pool {
    at_once: usize,
    waiting: VecDeque<Test>,
    running: Vec<Run>,
    ended: HashMap<&'static str, Result<(), Failed>>,
}

/// A test that runs in its child process.
struct Run {
    name: &'static str,
    child: Pid,
    output: File,
    since: Instant,
    /// The report of a test that did not end in time, and was killed.
    hung: Option<String>,
}

impl Pool {
    /// Waits for the outcome of a test, and runs others meanwhile.
    fn outcome(&mut self, test: Test) -> Result<(), Failed> {
        loop {
            if let Some(outcome) = self.ended.remove(test.0) {
                return outcome;
            }
            // A test that the pool does not know starts now.
            let is_known = self.running.iter().any(|run| run.name == test.0)
                || self.waiting.iter().any(|(name, _)| *name == test.0);
            if !is_known {
                self.waiting.push_front(test);
            }
            while self.running.len() < self.at_once
                && let Some(next) = self.waiting.pop_front()
            {
                match start(next) {
                    Ok(run) => self.running.push(run),
                    Err(error) => _ = self.ended.insert(next.0, Err(error.into())),
                }
            }
            self.reap();
            pause();
        }
    }

    /// Takes the tests that have ended out of the running ones.
    fn reap(&mut self) {
        let mut at = 0;
        while at < self.running.len() {
            let run = &mut self.running[at];
            match waitpid(run.child, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => {
                    if run.hung.is_none() && run.since.elapsed() > LIMIT {
                        run.hung = Some(describe_threads(run.child));
                        end_tree(run.child);
                    }
                    at += 1;
                }
                status => {
                    let run = self.running.swap_remove(at);
                    let name = run.name;
                    // Descendants are left only if the test was killed or crashed.
                    self.end_strays();
                    let outcome = status
                        .map_err(Failed::from)
                        .and_then(|status| run.judge(status));
                    self.ended.insert(name, outcome);
                }
            }
        }
    }

    /// Kills and reaps the processes below the runner that belong to no running test.
    fn end_strays(&self) {
        loop {
            let strays: Vec<Pid> = children(Pid::this())
                .filter(|child| self.running.iter().all(|run| run.child != *child))
                .collect();
            if strays.is_empty() {
                return;
            }
            for stray in strays {
                end_tree(stray);
                let _ = waitpid(stray, Some(WaitPidFlag::WNOHANG));
            }
            pause();
        }
    }
}

impl Run {
    /// The outcome of a test whose process has ended.
    fn judge(mut self, status: WaitStatus) -> Result<(), Failed> {
        self.output.rewind()?;
        let mut bytes = Vec::new();
        self.output.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        match (self.hung, status) {
            (Some(report), _) => Err(format!("hung for {LIMIT:?}:\n{report}\n{text}").into()),
            (None, WaitStatus::Exited(_, 0)) => Ok(()),
            (None, WaitStatus::Exited(_, SKIPPED)) => {
                eprintln!("SKIPPED {}: {}", self.name, text.trim());
                Ok(())
            }
            (None, status) => Err(format!("{status:?}\n{text}").into()),
        }
    }
}

/// Prints `reason` and ends the test as skipped, because this machine or user does not permit it.
/// Call it only in the test's own process.
pub fn skip(reason: &str) -> ! {
    println!("{reason}");
    end_descendants(Pid::this());
    std::process::exit(SKIPPED)
}

/// Starts a test in a child process of its own.
fn start((name, test): Test) -> io::Result<Run> {
    let output = tempfile::tempfile()?;
    // Flushes stdout, so that the child does not write buffered output a second time.
    let _ = io::stdout().flush();
    // SAFETY: the process has one thread.
    match unsafe { fork() }? {
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
        ForkResult::Parent { child } => Ok(Run {
            name,
            child,
            output,
            since: Instant::now(),
            hung: None,
        }),
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
        for child in children(process) {
            found.push(child);
            open.push(child);
        }
    }
    found
}

/// Returns the ids of the children of a process.
fn children(process: Pid) -> impl Iterator<Item = Pid> {
    tasks(process).flat_map(|task| {
        let children = fs::read_to_string(task.join("children")).unwrap_or_default();
        let ids: Vec<_> = children
            .split_whitespace()
            .filter_map(|id| id.parse().ok())
            .map(Pid::from_raw)
            .collect();
        ids
    })
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
pub fn describe_threads(root: Pid) -> String {
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
