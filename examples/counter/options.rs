//! The command line.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum, value_parser};

/// The largest total of numbers. The record of taken numbers needs two bytes for each.
const MAX_TOTAL: u64 = 1_000_000_000;

/// Increments a count in shared memory from several processes and checks the result.
///
/// Each worker takes numbers: under a lock it reads the count, works for a short time and writes
/// the count plus one. The parent is the first worker. At the end the program checks that the count
/// is exact, that each number was taken exactly once, and that no two workers were ever in the
/// critical section at the same time. The exit code is 0 if all three checks pass.
#[derive(Debug, Parser)]
#[command(name = "counter", version)]
pub struct Options {
    /// Number of processes that count, 1 to 1000
    ///
    /// The parent is one of them. With --kill the parent only supervises, and N is the number of
    /// its children.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u16).range(1..=1000))]
    pub workers: u16,

    /// Numbers that each worker takes [default: 3; with --lock none 200000; with --kill 500000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=1_000_000_000))]
    loops: Option<u64>,

    /// The memory that holds the count
    #[arg(long, value_enum, default_value_t = MapKind::Anonymous)]
    pub map: MapKind,

    /// The lock that prevents two workers from taking the same number
    #[arg(long, value_enum, default_value_t = Lock::Mutex)]
    pub lock: Lock,

    /// Do not print the numbers (more than 1000 are never printed)
    #[arg(long)]
    quiet: bool,

    /// Kill workers with SIGKILL at random instants, in the critical section, and start
    /// replacements
    ///
    /// The count must still be exact: the next locker is notified of the death and repairs the
    /// count.
    #[arg(long)]
    pub kill: bool,
}

/// The memory that holds the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MapKind {
    /// Anonymous memory, shared with the children
    Anonymous,
    /// The same by a map of /dev/zero, the older method
    DevZero,
    /// A file in the directory for temporary files
    File,
    /// Sealed memory with a file descriptor
    Memfd,
}

/// The lock that prevents two workers from taking the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lock {
    /// A SharedMutex: the next locker is notified if the owner dies
    Mutex,
    /// A SharedSemaphore with one permit, as in books on mmap
    Semaphore,
    /// No lock: updates are lost, and the report says how many
    None,
}

impl Options {
    /// Parses the command line. If it is invalid, prints an error message and exits.
    pub fn from_command_line() -> Self {
        let options = Options::parse();
        if options.total() > MAX_TOTAL {
            let asked = format!(
                "{} numbers are too many to record: at most {MAX_TOTAL} are supported",
                options.total()
            );
            Options::command()
                .error(ErrorKind::ValueValidation, asked)
                .exit();
        }
        let refused = match options.lock {
            _ if !options.kill => return options,
            Lock::Mutex => return options,
            Lock::Semaphore => {
                "--kill requires --lock mutex: the permit of a killed process is never returned (POSIX \
                 semaphores have no owner), so all other workers would wait forever"
            }
            Lock::None => {
                "--kill requires --lock mutex: without a lock no worker is notified of a death, and \
                 updates are lost anyway"
            }
        };
        Options::command()
            .error(ErrorKind::ArgumentConflict, refused)
            .exit()
    }

    /// Returns how many numbers each worker takes.
    pub fn loops(&self) -> u64 {
        self.loops.unwrap_or(match self.lock {
            _ if self.kill => 500_000,
            Lock::None => 200_000,
            Lock::Mutex | Lock::Semaphore => 3,
        })
    }

    /// Returns how many numbers all workers take together.
    pub fn total(&self) -> u64 {
        u64::from(self.workers) * self.loops()
    }

    /// Returns whether each number is printed as it is taken.
    ///
    /// With `--kill` none is printed: a worker that is killed after it prints a number and before
    /// it takes it would leave the number to be printed again.
    pub fn prints_numbers(&self) -> bool {
        !self.quiet && !self.kill && self.total() <= 1000
    }

    /// Returns a one-line summary of the options.
    pub fn summary(&self) -> String {
        let lock = match self.lock {
            Lock::Mutex => "under a mutex",
            Lock::Semaphore => "under a semaphore",
            Lock::None => "without a lock",
        };
        let map = match self.map {
            MapKind::Anonymous => "an anonymous map",
            MapKind::DevZero => "a map of /dev/zero",
            MapKind::File => "a map of a file",
            MapKind::Memfd => "sealed memory",
        };
        format!(
            "{} workers x {} numbers, {lock}, in {map}",
            self.workers,
            self.loops()
        )
    }
}
