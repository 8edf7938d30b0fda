//! The command line.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum, value_parser};

/// The books take two bytes a number.
const MOST: u64 = 1_000_000_000;

/// Processes count together in shared memory, and what they did is checked.
///
/// Each worker takes numbers: it reads the count, works a little, and writes the count plus one, all under a lock. The
/// parent is the first worker. At the end three things are checked: that the count is exact, that each number was taken
/// exactly once, and that no two workers were ever in the section at the same time. The exit code is 0 if all three hold.
#[derive(Debug, Parser)]
#[command(name = "counter", version)]
pub struct Options {
    /// How many processes count, 1 to 1000
    ///
    /// The parent is one of them. With --kill it only supervises, and this is the number of its children.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value_parser!(u16).range(1..=1000))]
    pub workers: u16,

    /// How many numbers each worker takes [default: 3; with --lock none 200000; with --kill 500000]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=1_000_000_000))]
    loops: Option<u64>,

    /// Where the count lies
    #[arg(long, value_enum, default_value_t = MapKind::Anonymous)]
    pub map: MapKind,

    /// What keeps two workers from taking the same number
    #[arg(long, value_enum, default_value_t = Lock::Mutex)]
    pub lock: Lock,

    /// Print no numbers (more than 1000 are not printed anyway)
    #[arg(long)]
    quiet: bool,

    /// Kill workers by SIGKILL at random instants, inside the section, and start others in their place
    ///
    /// The count must be exact all the same: whoever gets the lock next is told, and mends what the dead one left.
    #[arg(long)]
    pub kill: bool,
}

/// Where the count lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MapKind {
    /// Memory without a file, shared with children
    Anonymous,
    /// The same by a map of /dev/zero, the older way
    DevZero,
    /// A file in the directory for temporary files
    File,
    /// Sealed memory that has a descriptor
    Memfd,
}

/// What keeps two workers from taking the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Lock {
    /// A SharedMutex: whoever waits learns of a holder's death
    Mutex,
    /// A SharedSemaphore with one permit, as in the books
    Semaphore,
    /// Nothing: updates are lost, and the check says how many
    None,
}

impl Options {
    /// The options, or the end of the process with a message that says what is wrong with them.
    pub fn from_command_line() -> Self {
        let options = Options::parse();
        if options.total() > MOST {
            let asked = format!(
                "{} numbers are too many to keep books on: at most {MOST}",
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
                "--kill needs --lock mutex: the permit of a killed process never comes back (POSIX semaphores know no \
                 owner), so all others would wait for ever"
            }
            Lock::None => {
                "--kill needs --lock mutex: without a lock nobody is told of a death, and updates are lost anyway"
            }
        };
        Options::command()
            .error(ErrorKind::ArgumentConflict, refused)
            .exit()
    }

    /// How many numbers each worker takes.
    pub fn loops(&self) -> u64 {
        self.loops.unwrap_or(match self.lock {
            _ if self.kill => 500_000,
            Lock::None => 200_000,
            Lock::Mutex | Lock::Semaphore => 3,
        })
    }

    /// How many numbers all workers take.
    pub fn total(&self) -> u64 {
        u64::from(self.workers) * self.loops()
    }

    /// Whether each number is printed as it is taken. (Killed after it printed a number and before it took it, a worker
    /// would leave the number to be printed once more.)
    pub fn prints_numbers(&self) -> bool {
        !self.quiet && !self.kill && self.total() <= 1000
    }

    /// What was asked for, in a line.
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
