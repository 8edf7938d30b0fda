//! The count, its lock, and the records that check both.

use super::options::{Lock, MapKind, Options};
use pshared::{
    Error, LockError, Shared, SharedCounter, SharedMutex, SharedMutexGuard, SharedSemaphore,
    ShmSafe,
};
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::sync::atomic::{AtomicU16, AtomicU64};

const NO_WORKER: u16 = 0;

/// The data that all workers share.
#[derive(ShmSafe)]
#[repr(C)]
struct State {
    /// The next number, for `--lock mutex`.
    count: SharedMutex<u64>,
    /// One permit, for `--lock semaphore`.
    semaphore: SharedSemaphore,
    /// The next number for `--lock semaphore` and `--lock none`, for which the compiler knows of no
    /// lock. It is only loaded and stored, never updated by one atomic operation. So without the
    /// semaphore an update is lost as with a plain integer.
    bare_count: AtomicU64,
    /// The worker in the critical section.
    inside: AtomicU16,
    /// How often a worker found another worker in the critical section.
    meetings: SharedCounter,
    /// How often a worker took a number that was already taken.
    repeats: SharedCounter,
    /// How many lockers were notified of a death, and how many counts they had to repair.
    notified: SharedCounter,
    repaired: SharedCounter,
}

/// One run.
pub struct Counting {
    state: Shared<State>,
    /// The worker that took each number. It is separate from the state because it checks the lock.
    taken: Shared<[AtomicU16]>,
    lock: Lock,
    /// The number of workers, if each number is printed with the worker's name.
    printed_for: Option<u16>,
}

impl Counting {
    /// Creates a count of 0 with no number taken.
    pub fn new(options: &Options) -> Result<Self, Error> {
        let state = State {
            count: SharedMutex::new(0),
            semaphore: SharedSemaphore::new(1),
            bare_count: AtomicU64::new(0),
            inside: AtomicU16::new(NO_WORKER),
            meetings: SharedCounter::new(0),
            repeats: SharedCounter::new(0),
            notified: SharedCounter::new(0),
            repaired: SharedCounter::new(0),
        };
        Ok(Counting {
            state: match options.map {
                MapKind::Anonymous => Shared::anonymous(state)?,
                MapKind::DevZero => Shared::dev_zero(state)?,
                MapKind::Memfd => Shared::memfd("counter", state)?,
                MapKind::File => in_a_file(state)?,
            },
            taken: Shared::<[AtomicU16]>::anonymous_from_fn(options.total() as usize, |_| {
                AtomicU16::new(NO_WORKER)
            })?,
            lock: options.lock,
            printed_for: options.prints_numbers().then_some(options.workers),
        })
    }

    /// Takes the next number for `worker`. Returns false if all numbers are taken.
    pub fn turn(&self, worker: u16) -> Result<bool, Error> {
        match self.lock {
            Lock::Mutex => {
                let mut count = self.locked_count()?;
                if *count == self.taken.len() as u64 {
                    return Ok(false);
                }
                self.take(*count, worker);
                // A worker that is killed here has taken the number but not counted it: see
                // `locked_count`.
                *count += 1;
            }
            Lock::Semaphore => {
                let _permit = self.state.semaphore.acquire()?;
                self.take_bare(worker);
            }
            Lock::None => self.take_bare(worker),
        }
        Ok(true)
    }

    /// Locks the count. If the previous owner was killed, repairs the count before it is used.
    ///
    /// A worker takes a number by one store to its entry in `taken` and then increments the count.
    /// So the entries are correct at whichever instruction the owner died, and the correct count is
    /// the number of taken entries. If a worker is killed during the repair, the next locker
    /// repairs the count.
    fn locked_count(&self) -> Result<SharedMutexGuard<'_, u64>, Error> {
        let poisoned = match self.state.count.lock() {
            Err(LockError::Poisoned(poisoned)) => poisoned,
            other => return Ok(other?),
        };
        if poisoned.is_first_report() {
            self.state.notified.add(1);
        }
        let mut count = poisoned.into_guard();
        if *count != self.so_far() {
            *count = self.so_far();
            self.state.repaired.add(1);
        }
        self.state.inside.store(NO_WORKER, Relaxed);
        SharedMutexGuard::clear_poison(&count);
        Ok(count)
    }

    fn take_bare(&self, worker: u16) {
        let number = self.state.bare_count.load(Relaxed);
        self.take(number, worker);
        self.state.bare_count.store(number + 1, Relaxed);
    }

    /// The critical section. If the lock works, no other worker is in it.
    fn take(&self, number: u64, worker: u16) {
        let state = &self.state;
        if state.inside.swap(worker, Relaxed) != NO_WORKER {
            state.meetings.add(1);
        }
        self.print(number, worker);
        work();
        // The acquire ordering prevents the compiler from moving a later store, such as the store
        // of the new count, before this one.
        if self.taken[number as usize].swap(worker, AcqRel) != NO_WORKER {
            state.repeats.add(1);
        }
        if state.inside.swap(NO_WORKER, Relaxed) != worker {
            state.meetings.add(1);
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

    /// Returns the worker that has recorded itself as in the critical section, or 0 if there is
    /// none.
    pub fn worker_inside(&self) -> u16 {
        self.state.inside.load(Relaxed)
    }

    /// Returns how many numbers are taken. Workers take them in order.
    pub fn so_far(&self) -> u64 {
        self.taken
            .partition_point(|by| by.load(Relaxed) != NO_WORKER) as u64
    }

    /// Prints the checks after all workers have ended. Returns true if all of them pass.
    pub fn report(&self, kills: Option<u64>) -> Result<bool, Error> {
        let total = self.taken.len() as u64;
        let state = &self.state;
        let count = match self.lock {
            Lock::Mutex => *self.locked_count()?,
            Lock::Semaphore | Lock::None => state.bare_count.load(Relaxed),
        };
        if let Some(kills) = kills {
            println!("killed    {kills} workers with SIGKILL and started replacements");
            println!(
                "notified  {} lockers that the previous owner died in its critical section",
                state.notified.get()
            );
            println!(
                "repaired  {} counts: their number had already been taken",
                state.repaired.get()
            );
        }
        let missing = self
            .taken
            .iter()
            .filter(|by| by.load(Relaxed) == NO_WORKER)
            .count();
        let (repeats, meetings) = (state.repeats.get(), state.meetings.get());
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
                    "{missing} numbers were never taken; {repeats} times a taken number was taken again"
                )),
            },
            match meetings {
                0 => Ok("no two workers were in the critical section at once".into()),
                _ => Err(format!(
                    "{meetings} times a worker found another one in the critical section"
                )),
            },
        ];
        for check in &checks {
            match check {
                Ok(what) => println!("ok        {what}"),
                Err(what) => println!("FAILED    {what}"),
            }
        }
        Ok(checks.iter().all(Result::is_ok))
    }
}

/// Spends time between the load and the store of a count, so that another worker can run in
/// between.
fn work() {
    for _ in 0..20 {
        std::hint::spin_loop();
    }
}

/// Places the state in a new file and removes the file's name at once. The children inherit the
/// map.
fn in_a_file(state: State) -> Result<Shared<State>, Error> {
    let path = std::env::temp_dir().join(format!("pshared-counter-{}", std::process::id()));
    #[expect(
        unsafe_code,
        reason = "the caller must ensure that the file is not changed by other means"
    )]
    // SAFETY: no other program knows the file, and its name is removed below.
    let state = unsafe { Shared::create(&path, state) }?;
    // A file that cannot be removed is harmless.
    let _ = std::fs::remove_file(path);
    Ok(state)
}
