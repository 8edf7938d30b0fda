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

/// Returns a command that runs the server's program.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_prefork"))
}

/// A running server and its shared state.
pub struct Server {
    process: Child,
    state: Shared<SharedState>,
    address: String,
    log: PathBuf,
    _directory: Option<TempDir>,
}

impl Server {
    /// Starts a server with a map in a new directory.
    pub fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut server = Self::start_in(directory.path(), options);
        server._directory = Some(directory);
        server
    }

    /// Starts a server with default options, without `--faults`.
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

    /// Starts a server that writes its log to `log`, which may be a device.
    pub fn start_with_log(log: &str, options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut server = Self::run_as(program(), directory.path(), log.into(), options);
        server._directory = Some(directory);
        server
    }

    /// Starts a server that inherits an ignored SIGCHLD.
    pub fn start_without_sigchld(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut program = program();
        // SAFETY: the closure only makes a system call that is async-signal-safe, and installs no
        // handler.
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

    /// Returns the log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log")
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.id().cast_signed()), signal).expect("it is alive");
    }

    /// Returns the process ids of the live workers.
    pub fn workers(&self) -> Vec<u32> {
        self.state
            .live_workers()
            .map(|(process, _)| process)
            .collect()
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().expect("a child").is_some()
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait().expect("a child")
    }

    /// Shuts the server down and checks that it succeeds and that nothing is still held.
    #[track_caller]
    pub fn end(&mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        assert!(status.success(), "{status}\n{}", self.log());
        self.assert_nothing_is_held();
    }

    /// Checks that no lock, permit or slot is held, and that each lock can be acquired.
    #[track_caller]
    pub fn assert_nothing_is_held(&self) {
        let state = self.state();
        assert_eq!(self.workers(), []);
        assert_eq!(state.holders().collect::<Vec<_>>(), []);
        assert_eq!(state.acceptors.available(), ACCEPTORS);
        // An unreported death is allowed.
        use pshared::LockError;
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
        // Needed after a failed test. The workers leave when their supervisor dies.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn open(map: &Path) -> Shared<SharedState> {
    // SAFETY: the file is in a directory that the test created. Only the server and this test use
    // it, and both use it by the same type.
    unsafe { Shared::open(map) }.expect("the server's map")
}

/// Kills a worker. It may already be dead and reaped.
pub fn kill_worker(process: u32) {
    let _ = kill(Pid::from_raw(process.cast_signed()), Signal::SIGKILL);
}

/// Polls until `holds` returns true. The harness's time limit ends a test that waits forever.
pub fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        pause();
    }
}

/// Waits for `time`, to test that something does not happen. To wait for an event, use [`until`].
pub fn pass(time: Duration) {
    let since = Instant::now();
    until(|| since.elapsed() > time);
}
