//! What the processes share: the same numbers under each lock, and the records that check them.

use pshared::raw::{Futex, PosixSem, PthreadPi, PthreadRobust, RawLock};
use pshared::{
    Error, LockError, Shared, SharedBarrier, SharedCondvar, SharedCounter, SharedMutex,
    SharedMutexGuard, SharedPermits, SharedRwLock, SharedRwLockWriteGuard, SharedSemaphore,
    ShmData, ShmSafe,
};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use zerocopy::FromBytes;

/// How many supervisors share the file: one of each C library.
pub const PARTIES: usize = 3;
/// How many numbers the processes take under each lock.
const NUMBERS: usize = 100_000;
const NOBODY: u8 = 0;

/// Numbers that are each to be taken once, and who took them. Every field is atomic, so that the
/// compiler keeps the order of the stores: a process may be killed between two of them.
#[derive(ShmSafe, ShmData, FromBytes)]
#[repr(C)]
pub struct Numbers {
    next: AtomicU64,
    /// The party in the critical section.
    inside: AtomicU8,
    taken: [AtomicU8; NUMBERS],
    /// How often two processes were in the critical section, or took the same number.
    faults: AtomicU64,
}

impl Numbers {
    fn new() -> Self {
        Numbers {
            next: AtomicU64::new(0),
            inside: AtomicU8::new(NOBODY),
            taken: [const { AtomicU8::new(NOBODY) }; NUMBERS],
            faults: AtomicU64::new(0),
        }
    }

    /// Takes the next number, under the lock. Returns false if all are taken.
    fn take(&self, party: u8) -> bool {
        let number = self.next.load(SeqCst) as usize;
        if number == NUMBERS {
            return false;
        }
        self.expect(self.inside.swap(party, SeqCst) == NOBODY);
        self.expect(self.taken[number].swap(party, SeqCst) == NOBODY);
        self.next.store(number as u64 + 1, SeqCst);
        self.expect(self.inside.swap(NOBODY, SeqCst) == party);
        true
    }

    /// Completes what a killed owner has begun. The owner takes a number by one store.
    fn repair(&self) {
        let taken = (self.taken).partition_point(|party| party.load(SeqCst) != NOBODY);
        self.next.store(taken as u64, SeqCst);
        self.inside.store(NOBODY, SeqCst);
    }

    /// Checks what holds while no other process is in the critical section.
    fn rest(&self) {
        self.expect(self.inside.load(SeqCst) == NOBODY);
    }

    fn expect(&self, holds: bool) {
        if !holds {
            self.faults.fetch_add(1, SeqCst);
        }
    }

    /// Prints the result for the lock `name`. Returns whether it is exact.
    fn report(&self, name: &str) -> bool {
        let by = |party: usize| {
            let taken = self.taken.iter().map(|taken| taken.load(SeqCst));
            taken.filter(|by| usize::from(*by) == party).count()
        };
        let parties: Vec<usize> = (1..=PARTIES).map(by).collect();
        let (next, faults) = (self.next.load(SeqCst), self.faults.load(SeqCst));
        let is_exact = next == NUMBERS as u64
            && parties.iter().sum::<usize>() == NUMBERS
            && parties.iter().all(|taken| *taken > 0)
            && faults == 0;
        let verdict = if is_exact { "exact" } else { "WRONG" };
        println!(
            "{name:<14} {verdict}: {next} of {NUMBERS}, by party {parties:?}, {faults} faults"
        );
        is_exact
    }
}

/// The value in the file.
#[derive(ShmSafe)]
#[repr(C)]
pub struct Board {
    start: SharedBarrier<PARTIES>,
    mutex: SharedMutex<Numbers>,
    robust: SharedMutex<Numbers, PthreadRobust>,
    pi: SharedMutex<Numbers, PthreadPi>,
    rwlock: SharedRwLock<Numbers>,
    permits: SharedPermits<2>,
    /// The party that has each permit.
    holders: [AtomicU8; 2],
    permit_faults: SharedCounter,
    turn: SharedMutex<u64>,
    turned: SharedCondvar,
    /// These have no owner that a death frees.
    futex: SharedMutex<Numbers, Futex>,
    semaphore_lock: SharedMutex<Numbers, PosixSem>,
    semaphore: SharedSemaphore,
    bare: Numbers,
    kills: [SharedCounter; PARTIES],
    reports: SharedCounter,
}

impl Board {
    /// Opens the file, or creates it.
    pub fn open(path: &str) -> Result<Shared<Board>, Error> {
        // SAFETY: only this program changes the file.
        unsafe { Shared::open_or_create(path, Board::new) }
    }

    fn new() -> Self {
        Board {
            start: SharedBarrier::new(),
            mutex: SharedMutex::new(Numbers::new()),
            robust: SharedMutex::with_strategy(Numbers::new()),
            pi: SharedMutex::with_strategy(Numbers::new()),
            rwlock: SharedRwLock::new(Numbers::new()),
            permits: SharedPermits::new(),
            holders: [const { AtomicU8::new(NOBODY) }; 2],
            permit_faults: SharedCounter::new(0),
            turn: SharedMutex::new(0),
            turned: SharedCondvar::new(),
            futex: SharedMutex::with_strategy(Numbers::new()),
            semaphore_lock: SharedMutex::with_strategy(Numbers::new()),
            semaphore: SharedSemaphore::new(1),
            bare: Numbers::new(),
            kills: [const { SharedCounter::new(0) }; PARTIES],
            reports: SharedCounter::new(0),
        }
    }

    /// Waits until all supervisors are here.
    pub fn start_together(&self) -> Result<(), Error> {
        self.start.join()?.wait()?;
        Ok(())
    }

    pub fn count_kill(&self, party: u8) {
        self.kills[usize::from(party) - 1].add(1);
    }

    /// Takes a number under each lock. Returns false if all numbers are taken.
    pub fn round(&self, party: u8, peace: bool) -> Result<bool, Error> {
        let mut some = self.locked(&self.mutex)?.take(party);
        some |= self.locked(&self.robust)?.take(party);
        some |= self.locked(&self.pi)?.take(party);
        some |= self.write(party)?;
        self.read()?;
        self.hold_permit(party)?;
        self.take_turn()?;
        if peace {
            some |= self.locked(&self.futex)?.take(party);
            some |= self.locked(&self.semaphore_lock)?.take(party);
            let _permit = self.semaphore.acquire()?;
            some |= self.bare.take(party);
        }
        Ok(some)
    }

    /// Locks the numbers. Repairs them if the previous owner was killed.
    fn locked<'a, R: RawLock>(
        &'a self,
        lock: &'a SharedMutex<Numbers, R>,
    ) -> Result<SharedMutexGuard<'a, Numbers, R>, Error> {
        let poisoned = match lock.lock() {
            Err(LockError::Poisoned(poisoned)) => poisoned,
            other => return Ok(other?),
        };
        self.reports.add(u64::from(poisoned.is_first_report()));
        let numbers = poisoned.into_guard();
        numbers.repair();
        SharedMutexGuard::clear_poison(&numbers);
        Ok(numbers)
    }

    fn write(&self, party: u8) -> Result<bool, Error> {
        let numbers = match self.rwlock.write() {
            Err(LockError::Poisoned(poisoned)) => {
                self.reports.add(u64::from(poisoned.is_first_report()));
                let numbers = poisoned.into_guard();
                numbers.repair();
                SharedRwLockWriteGuard::clear_poison(&numbers);
                numbers
            }
            other => other?,
        };
        Ok(numbers.take(party))
    }

    /// Checks that no writer is in the critical section. A writer repairs what a death left.
    fn read(&self) -> Result<(), Error> {
        match self.rwlock.read() {
            Err(LockError::Poisoned(_)) => {}
            other => other?.rest(),
        }
        Ok(())
    }

    fn hold_permit(&self, party: u8) -> Result<(), Error> {
        let permit = self.permits.acquire()?;
        let holder = &self.holders[permit.number()];
        if holder.swap(party, SeqCst) != NOBODY && !permit.previous_holder_died() {
            self.permit_faults.add(1);
        }
        holder.store(NOBODY, SeqCst);
        Ok(())
    }

    /// Wakes the waiters of the condition variable. Waits at every 64th turn.
    fn take_turn(&self) -> Result<(), Error> {
        let mut turn = match self.turn.lock() {
            Err(LockError::Poisoned(poisoned)) => {
                let turn = poisoned.into_guard();
                SharedMutexGuard::clear_poison(&turn);
                turn
            }
            other => other?,
        };
        *turn += 1;
        self.turned.notify_all();
        if turn.is_multiple_of(64) {
            let _ = self.turned.wait_timeout(turn, Duration::from_millis(10));
        }
        Ok(())
    }

    /// Prints the results after all processes have ended. Returns whether they are exact.
    pub fn report(&self, peace: bool) -> Result<bool, Error> {
        let mut is_exact = self.locked(&self.mutex)?.report("SharedMutex");
        is_exact &= self.locked(&self.robust)?.report("PthreadRobust");
        is_exact &= self.locked(&self.pi)?.report("PthreadPi");
        is_exact &= match self.rwlock.read() {
            Err(LockError::Poisoned(poisoned)) => poisoned.into_guard().report("SharedRwLock"),
            other => other?.report("SharedRwLock"),
        };
        if peace {
            is_exact &= self.locked(&self.futex)?.report("Futex");
            is_exact &= self.locked(&self.semaphore_lock)?.report("PosixSem");
            is_exact &= self.bare.report("sem_t");
        }
        let kills: Vec<u64> = self.kills.iter().map(SharedCounter::get).collect();
        let (reports, faults) = (self.reports.get(), self.permit_faults.get());
        println!("permits        {faults} faults");
        let total: u64 = kills.iter().sum();
        println!("total: {total} kills, by party {kills:?}, {reports} reports");
        let were_killed = kills.iter().all(|kills| (*kills > 0) != peace);
        Ok(is_exact && faults == 0 && were_killed)
    }
}
