//! Runs each test in a child process, under a watchdog, and some of them at a time.
//!
//! The test runner has one thread, and no test changes the runner's state. A test's process adopts
//! the orphans of its children. The runner adopts the orphans of a test that crashed. However a
//! test ends, all of its descendants are therefore known by their ids, killed and reaped. A test
//! that makes no progress fails with a report of what each thread waits for.
//!
//! `PSHARED_KILLS` sets the number of kills of each test of kills, and `PSHARED_SEED` its seed.
//! `PSHARED_WATCHDOG` sets how many seconds a test may make no progress, for emulated processors.

mod kills;
mod processes;
mod run;

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use processes::{children, end_descendants, end_tree};
use std::collections::{HashMap, VecDeque};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub use kills::{Counts, Kills, kill};
pub use processes::{descendants, describe_threads, pause};
pub use run::{Run, Verdict};

/// How many seconds a test may make no progress before it counts as hung. The slowest test needs
/// far less on a busy machine.
const LIMIT: u64 = 180;

/// The exit code of a test that cannot run here.
const SKIPPED: i32 = 77;

/// A test: its name and its function.
#[derive(Clone, Copy)]
pub struct Test {
    pub name: &'static str,
    pub body: Body,
}

/// The function of a test.
#[derive(Clone, Copy)]
pub enum Body {
    Once(fn()),
    Kills(Workload),
}

/// A test that kills processes as often as it is asked to.
#[derive(Clone, Copy)]
pub struct Workload {
    pub primitive: &'static str,
    /// The number of kills of an ordinary run.
    pub kills: u64,
    pub run: fn(&Kills<'_>),
}

/// Lists the functions of a module as tests, under the module's name. A test of kills is listed
/// with its number of kills and its primitive. An attribute `cfg` may precede a name.
#[macro_export]
macro_rules! tests {
    ($($(#[$gate:meta])* $name:ident $(: $kills:literal kills of $primitive:literal)?),* $(,)?) => {
        pub fn tests() -> Vec<$crate::harness::Test> {
            Vec::from([$($(#[$gate])* $crate::harness::Test {
                name: concat!(module_path!(), "::", stringify!($name)),
                body: $crate::body!($name $($kills $primitive)?),
            }),*])
        }
    };
}

/// The body of a test that [`tests`] lists.
#[macro_export]
macro_rules! body {
    ($name:ident) => {
        $crate::harness::Body::Once($name)
    };
    ($name:ident $kills:literal $primitive:literal) => {
        $crate::harness::Body::Kills($crate::harness::Workload {
            primitive: $primitive,
            kills: $kills,
            run: $name,
        })
    };
}

/// Runs the tests that the command line selects, some at a time: twice as many as there are CPUs,
/// because most tests sleep half of the time, or as many as `--test-threads` says.
pub fn run(tests: Vec<Test>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let at_once = arguments.test_threads.unwrap_or_else(|| 2 * cpus());
    // The main thread starts all tests, so the process that forks has no other thread.
    arguments.test_threads = Some(1);
    adopt_orphans();
    let tests = named(tests);
    let pool = Arc::new(Mutex::new(Pool {
        at_once: at_once.max(1),
        waiting: (tests.iter().copied())
            .filter(|test| is_selected(&arguments, test.name))
            .collect(),
        running: Vec::new(),
        ended: HashMap::new(),
    }));
    let trials = tests
        .into_iter()
        .map(|test| {
            let pool = Arc::clone(&pool);
            let outcome = move || pool.lock().expect("one thread").outcome(test);
            Trial::test(test.name, outcome)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// Prepares the runner for tests that crash.
pub fn adopt_orphans() {
    // Killed processes of the tests leave no core files. The hard limit stays, for a test that
    // needs a dump.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CORE) {
        let _ = setrlimit(Resource::RLIMIT_CORE, 0, hard);
    }
    let _ = prctl::set_child_subreaper(true);
}

/// Removes the crate's name from the names of the tests.
pub fn named(mut tests: Vec<Test>) -> Vec<Test> {
    for test in &mut tests {
        test.name = test
            .name
            .split_once("::")
            .map_or(test.name, |(_, name)| name);
    }
    tests
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

impl Pool {
    /// Waits for the outcome of a test, and runs others meanwhile.
    fn outcome(&mut self, test: Test) -> Result<(), Failed> {
        loop {
            if let Some(outcome) = self.ended.remove(test.name) {
                return outcome;
            }
            // A test that the pool does not know starts now.
            let is_known = self.running.iter().any(|run| run.test.name == test.name)
                || self.waiting.iter().any(|waiting| waiting.name == test.name);
            if !is_known {
                self.waiting.push_front(test);
            }
            while self.running.len() < self.at_once
                && let Some(next) = self.waiting.pop_front()
            {
                match start(next) {
                    Ok(run) => self.running.push(run),
                    Err(error) => _ = self.ended.insert(next.name, Err(error.into())),
                }
            }
            for (run, verdict) in reap(&mut self.running) {
                self.ended.insert(run.test.name, outcome_of(&run, verdict));
            }
            pause();
        }
    }
}

/// Starts a test with the number of kills and the seed that the environment sets.
fn start(test: Test) -> std::io::Result<Run> {
    let kills = match test.body {
        Body::Once(_) => 0,
        Body::Kills(workload) => number("PSHARED_KILLS").unwrap_or(workload.kills),
    };
    let seed = number("PSHARED_SEED").unwrap_or_else(|| fastrand::u64(..));
    let limit = number("PSHARED_WATCHDOG").unwrap_or(LIMIT);
    Run::start(test, kills, seed, Duration::from_secs(limit))
}

/// The number in a variable of the environment.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable}={text} is not a whole number of 64 bits")))
}

fn outcome_of(run: &Run, verdict: Verdict) -> Result<(), Failed> {
    match verdict {
        Verdict::Passed => Ok(()),
        Verdict::Skipped(reason) => {
            eprintln!("SKIPPED {}: {reason}", run.test.name);
            Ok(())
        }
        Verdict::Failed(report) => {
            // The runner lists the reports at its end, which a run that is ended never reaches.
            eprintln!("FAILED {}: {report}", run.test.name);
            Err(report.into())
        }
    }
}

/// Takes the tests that have ended out of the running ones, and judges them.
pub fn reap(running: &mut Vec<Run>) -> Vec<(Run, Verdict)> {
    let mut ended = Vec::new();
    let mut at = 0;
    while at < running.len() {
        match running[at].try_wait() {
            None => at += 1,
            Some(status) => {
                let mut run = running.swap_remove(at);
                // Descendants are left only if the test was killed or crashed.
                end_strays(running);
                let verdict = run.judge(status);
                ended.push((run, verdict));
            }
        }
    }
    ended
}

/// Kills and reaps the processes below the runner that belong to no running test.
pub fn end_strays(running: &[Run]) {
    loop {
        let strays: Vec<Pid> = children(Pid::this())
            .filter(|child| running.iter().all(|run| run.child != *child))
            .collect();
        if strays.is_empty() {
            return;
        }
        for stray in strays {
            end_tree(stray);
            let _ = nix::sys::wait::waitpid(stray, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
        }
        pause();
    }
}

/// Prints `reason` and ends the test as skipped, because this machine or user does not permit it.
/// Call it only in the test's own process.
pub fn skip(reason: &str) -> ! {
    println!("{reason}");
    end_descendants(Pid::this());
    std::process::exit(SKIPPED)
}
