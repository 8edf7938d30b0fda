//! The count, the lock around it, and the books by which both are checked.

use super::options::{Lock, MapKind, Options};
use pshared::{
    Error, LockError, Shared, SharedCounter, SharedMutex, SharedMutexGuard, SharedSemaphore,
    ShmSafe,
};
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicU16, AtomicU64};

const NOBODY: u16 = 0;

/// What all workers share.
#[derive(ShmSafe)]
#[repr(C)]
struct Board {
    /// The next number, for `--lock mutex`.
    count: SharedMutex<u64>,
    /// One permit, for `--lock semaphore`.
    gate: SharedSemaphore,
    /// The next number for the other two, where the compiler knows of no lock. It is only ever loaded and stored, each
    /// by itself, so that without the semaphore an update is lost as that of a plain integer would be.
    bare_count: AtomicU64,
    /// The worker inside the section.
    inside: AtomicU16,
    /// How often a worker found another one there.
    meetings: SharedCounter,
    /// How often a number was taken that had been taken already.
    repeats: SharedCounter,
    /// How many lockers were told of a death, and how many of the counts had to be mended.
    told: SharedCounter,
    mended: SharedCounter,
}

/// One run.
pub struct Counting {
    board: Shared<Board>,
    /// Which worker took each number. Apart from the board: this is what the lock is checked by.
    taken: Shared<[AtomicU16]>,
    lock: Lock,
    /// How many workers there are, where each number is printed with the worker's name.
    printed_for: Option<u16>,
}

impl Counting {
    /// A count of 0, with nothing taken.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let board = Board {
            count: SharedMutex::new(0),
            gate: SharedSemaphore::new(1),
            bare_count: AtomicU64::new(0),
            inside: AtomicU16::new(NOBODY),
            meetings: SharedCounter::new(0),
            repeats: SharedCounter::new(0),
            told: SharedCounter::new(0),
            mended: SharedCounter::new(0),
        };
        Ok(Counting {
            board: match options.map {
                MapKind::Anonymous => Shared::anonymous(board)?,
                MapKind::DevZero => Shared::dev_zero(board)?,
                MapKind::Memfd => Shared::memfd("counter", board)?,
                MapKind::File => in_a_file(board)?,
            },
            taken: Shared::<[AtomicU16]>::anonymous_from_fn(options.total() as usize, |_| {
                AtomicU16::new(NOBODY)
            })?,
            lock: options.lock,
            printed_for: options.prints_numbers().then_some(options.workers),
        })
    }

    /// Takes the next number for `worker`; false where all are taken.
    pub fn turn(&self, worker: u16) -> Result<bool, Error> {
        match self.lock {
            Lock::Mutex => {
                let mut count = self.locked_count()?;
                if *count == self.taken.len() as u64 {
                    return Ok(false);
                }
                self.take(*count, worker);
                // A worker that is killed here has taken the number and not counted it: see `locked_count`.
                *count += 1;
            }
            Lock::Semaphore => {
                let _permit = self.board.gate.acquire()?;
                self.take_bare(worker);
            }
            Lock::None => self.take_bare(worker),
        }
        Ok(true)
    }

    /// The count, under its lock. Where a holder was killed, the count is made right before anybody uses it.
    ///
    /// A number is taken by one store, its entry in `taken`; the count follows. So the entries are the truth, at whichever
    /// instruction the holder died, and the count is how many of them there are. A worker that is killed in here leaves
    /// the same task to the next.
    fn locked_count(&self) -> Result<SharedMutexGuard<'_, u64>, Error> {
        let poisoned = match self.board.count.lock() {
            Err(LockError::Poisoned(poisoned)) => poisoned,
            other => return Ok(other?),
        };
        if poisoned.is_first_report() {
            self.board.told.add(1);
        }
        let mut count = poisoned.into_guard();
        if *count != self.so_far() {
            *count = self.so_far();
            self.board.mended.add(1);
        }
        self.board.inside.store(NOBODY, Relaxed);
        SharedMutexGuard::clear_poison(&count);
        Ok(count)
    }

    fn take_bare(&self, worker: u16) {
        let number = self.board.bare_count.load(Relaxed);
        self.take(number, worker);
        self.board.bare_count.store(number + 1, Relaxed);
    }

    /// The section: nobody else is in it, if the lock does its work.
    fn take(&self, number: u64, worker: u16) {
        let board = &self.board;
        if board.inside.swap(worker, Relaxed) != NOBODY {
            board.meetings.add(1);
        }
        self.print(number, worker);
        work();
        // An acquire, so that the compiler moves no later store, and with it the new count, before this one.
        if self.taken[number as usize].swap(worker, AcqRel) != NOBODY {
            board.repeats.add(1);
        }
        if board.inside.swap(NOBODY, Relaxed) != worker {
            board.meetings.add(1);
        }
    }

    fn print(&self, number: u64, worker: u16) {
        match self.printed_for {
            None => {}
            Some(_) if worker == 1 => println!("parent: {number}"),
            Some(2) => println!("child: {number}"),
            Some(_) => println!("child {}: {number}", worker - 1),
        }
    }

    /// The worker that is in the section, by its own word; 0 where nobody is.
    pub fn who_is_inside(&self) -> u16 {
        self.board.inside.load(Relaxed)
    }

    /// How many numbers have been taken. They are taken in order.
    pub fn so_far(&self) -> u64 {
        self.taken.partition_point(|by| by.load(Relaxed) != NOBODY) as u64
    }

    /// Prints what was checked, once all workers have ended; true where all of it holds.
    pub fn report(&self, kills: Option<u64>) -> Result<bool, Error> {
        let total = self.taken.len() as u64;
        let board = &self.board;
        let count = match self.lock {
            Lock::Mutex => *self.locked_count()?,
            Lock::Semaphore | Lock::None => board.bare_count.load(Relaxed),
        };
        if let Some(kills) = kills {
            println!("killed  {kills} workers by SIGKILL, and started others in their place");
            println!(
                "told    {} lockers that the holder had died in its section",
                board.told.get()
            );
            println!(
                "mended  {} counts: their number had been taken already",
                board.mended.get()
            );
        }
        let missing = self
            .taken
            .iter()
            .filter(|by| by.load(Relaxed) == NOBODY)
            .count();
        let (repeats, meetings) = (board.repeats.get(), board.meetings.get());
        let checks = [
            match total.saturating_sub(count) {
                0 => Ok(format!("the count is {count}, exact")),
                lost => Err(format!(
                    "the count is {count} instead of {total}: {lost} updates were lost"
                )),
            },
            match (missing, repeats) {
                (0, 0) => Ok(format!(
                    "every number from 0 to {} was taken exactly once",
                    total - 1
                )),
                _ => Err(format!(
                    "{missing} numbers were never taken, and {repeats} times one was taken again"
                )),
            },
            match meetings {
                0 => Ok("never were two workers in the section at once".into()),
                _ => Err(format!(
                    "{meetings} times a worker met another in the section"
                )),
            },
        ];
        for check in &checks {
            match check {
                Ok(what) => println!("ok      {what}"),
                Err(what) => println!("FAILED  {what}"),
            }
        }
        Ok(checks.iter().all(Result::is_ok))
    }
}

/// Time between the load and the store of a count, in which another worker can come between.
fn work() {
    for _ in 0..20 {
        std::hint::spin_loop();
    }
}

/// Places the board in a new file, which loses its name at once: the children have the map.
fn in_a_file(board: Board) -> Result<Shared<Board>, Error> {
    let path = std::env::temp_dir().join(format!("pshared-counter-{}", std::process::id()));
    #[expect(
        unsafe_code,
        reason = "whoever places a value in a file answers for what else is done to the file"
    )]
    // SAFETY: nobody else knows the file, and in a moment it has no name.
    let board = unsafe { Shared::create(&path, board) }?;
    // A file that cannot be removed does no harm.
    let _ = std::fs::remove_file(path);
    Ok(board)
}
