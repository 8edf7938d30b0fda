//! A server under test.

use crate::harness::pause;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::Pid;
use prefork::shared_state::{ACCEPTORS, SharedState};
use pshared::Shared;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The server's program, built for this test.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_prefork"))
}

/// A server of this test, and its state.
pub struct Server {
    process: Child,
    state: Shared<SharedState>,
    address: String,
    log: PathBuf,
    _directory: Option<TempDir>,
}

impl Server {
    /// With a map in a directory of its own.
    pub fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut server = Self::start_in(directory.path(), options);
        server._directory = Some(directory);
        server
    }

    /// As anybody would start it: without leave for `/fault`.
    pub fn start_without_faults() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut server = Self::run(directory.path(), &[]);
        server._directory = Some(directory);
        server
    }

    pub fn start_in(directory: &Path, options: &[&str]) -> Self {
        Self::run(directory, &[&["--faults"], options].concat())
    }

    fn run(directory: &Path, options: &[&str]) -> Self {
        let log = directory.join("log");
        Self::run_as(program(), directory, log, options)
    }

    /// One whose log goes to this file, which may be anything.
    pub fn start_with_log(log: &str, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut server = Self::run_as(program(), directory.path(), log.into(), options);
        server._directory = Some(directory);
        server
    }

    /// One that is started by a program that ignores the ends of its children.
    pub fn start_without_sigchld(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut program = program();
        // SAFETY: a signal is ignored by a system call, and nothing else is done.
        unsafe {
            program.pre_exec(|| Ok(signal(Signal::SIGCHLD, SigHandler::SigIgn).map(|_| ())?));
        }
        let log = directory.path().join("log");
        let mut server = Self::run_as(program, directory.path(), log, options);
        server._directory = Some(directory);
        server
    }

    fn run_as(mut program: Command, directory: &Path, log: PathBuf, options: &[&str]) -> Self {
        let map = directory.join("state");
        let mut process = program
            .args(["--listen", "127.0.0.1:0", "--map"])
            .arg(&map)
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log"))
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let output = process.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("text");
        let address = line
            .split("http://")
            .nth(1)
            .and_then(|rest| rest.split('/').next());
        let Some(address) = address.map(str::to_owned) else {
            let _ = process.wait();
            panic!(
                "no address in {line:?}; {}",
                fs::read_to_string(&log).unwrap_or_default()
            );
        };
        Server {
            process,
            state: open(&map),
            address,
            log,
            _directory: None,
        }
    }

    pub fn state(&self) -> &SharedState {
        &self.state
    }

    /// `127.0.0.1:PORT`
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What the supervisor has said so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("its log")
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().cast_signed()), signal).expect("it lives");
    }

    /// The workers' processes.
    pub fn workers(&self) -> Vec<u32> {
        self.state.at_work().map(|(process, _)| process).collect()
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("a child").is_some()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait().expect("a child")
    }

    /// Ends the server in order, and checks that nothing is left behind.
    #[track_caller]
    pub fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.log());
        self.nothing_is_held();
    }

    /// Nobody holds anything, and everything can be had.
    #[track_caller]
    pub fn nothing_is_held(&self) {
        let state = self.state();
        assert_eq!(self.workers(), []);
        assert_eq!(state.holders().collect::<Vec<_>>(), []);
        assert_eq!(state.acceptors.available(), ACCEPTORS);
        // A death that nobody was told of yet is no loss.
        use pshared::{LockError};
        assert!(matches!(
            state.accept.try_lock(),
            Ok(_) | Err(LockError::Poisoned(_))
        ));
        assert!(matches!(
            state.limiter.try_lock(),
            Ok(_) | Err(LockError::Poisoned(_))
        ));
        assert!(matches!(
            state.cache.try_write(),
            Ok(_) | Err(LockError::Poisoned(_))
        ));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test that failed. The workers leave when their supervisor is gone.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn open(map: &Path) -> Shared<SharedState> {
    // SAFETY: it lies in a directory of the test's own, and only the server and this test use it, by the same type.
    unsafe { Shared::open(map) }.expect("the server's map")
}

/// Kills a worker, of which the supervisor may have heard already.
pub fn kill_worker(process: u32) {
    let _ = kill(Pid::from_raw(process.cast_signed()), Signal::SIGKILL);
}

/// Waits until something holds, by looking again and again; the harness ends what never does.
pub fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        pause();
    }
}

/// Lets time pass in which something must not happen. What must happen is waited for by [`until`].
pub fn pass(time: Duration) {
    let since = Instant::now();
    until(|| since.elapsed() > time);
}
