//! A lock, its data, and the checks of each new owner.

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::Robust;
use crate::sys::{CurrentThread, Deadline, Joins, World, current_thread, step};
use loom::cell::UnsafeCell;
use std::rc::Rc;

/// The lock under test, or a twin of it. The word is its first field.
pub trait Raw: 'static {
    fn new() -> Self;

    /// # Safety
    ///
    /// The same as for [`Robust::init`].
    unsafe fn init(&self);

    fn acquire(&self, current: CurrentThread, mode: WaitMode) -> Result<Acquired, AcquireError>;

    /// # Safety
    ///
    /// The same as for [`Robust::unlock`].
    unsafe fn unlock(&self, current: CurrentThread);
}

impl Raw for Robust {
    fn new() -> Self {
        Robust::new()
    }

    unsafe fn init(&self) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.init() }
    }

    /// Acquires the lock as `SharedMutex` does.
    fn acquire(&self, current: CurrentThread, mode: WaitMode) -> Result<Acquired, AcquireError> {
        if self.try_acquire_fast(current) {
            return Ok(Acquired::Released);
        }
        self.acquire_slow(current, mode)
    }

    unsafe fn unlock(&self, current: CurrentThread) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.unlock(current) }
    }
}

/// A lock and its data.
pub struct Lock<R = Robust> {
    pub raw: R,
    /// Loom panics if two threads access it without an order between them.
    data: UnsafeCell<u32>,
}

impl<R: Raw> Lock<R> {
    /// Returns a placed lock.
    pub fn place(world: &Rc<World>) -> Rc<Self> {
        let lock = Self::in_process(world);
        // SAFETY: no thread uses it yet, and `World` keeps it at its address until the run ends.
        unsafe { lock.raw.init() };
        lock
    }

    /// Returns an in-process lock, which joins no robust list.
    pub fn in_process(world: &Rc<World>) -> Rc<Self> {
        let lock = Rc::new(Lock {
            raw: R::new(),
            data: UnsafeCell::new(0),
        });
        world.map(&lock, &lock.raw);
        lock
    }

    /// Starts a thread, the only one of its process, that uses the lock.
    pub fn in_thread<T: 'static>(
        self: &Rc<Self>,
        world: &Rc<World>,
        tid: u32,
        body: impl FnOnce(&World, &Lock<R>) -> T + 'static,
    ) -> Joins<T> {
        let (here, lock) = (world.clone(), self.clone());
        world.spawn(tid, move || body(&here, &lock))
    }

    /// Locks, uses the data, and unlocks.
    pub fn section(&self, world: &World) {
        self.lock(world);
        self.unlock();
    }

    /// Locks, blocking as long as necessary, and uses the data.
    pub fn lock(&self, world: &World) {
        self.wait(world)
            .expect("the lock is released at some point");
    }

    /// The same, without a switch to other threads in the critical section.
    pub fn lock_briefly(&self, world: &World) {
        let outcome = self.raw.acquire(current_thread(), WaitMode::Until(None));
        self.check_report(world, outcome)
            .expect("the lock is released at some point");
        self.use_data();
    }

    /// The same as [`lock`](Self::lock), but returns an error if the lock is refused.
    pub fn wait(&self, world: &World) -> Result<(), AcquireError> {
        self.enter(
            world,
            self.raw.acquire(current_thread(), WaitMode::Until(None)),
        )
    }

    /// Locks, blocking until the deadline, and uses the data.
    pub fn lock_until(&self, world: &World) -> Result<(), AcquireError> {
        let outcome = self.enter(
            world,
            self.raw
                .acquire(current_thread(), WaitMode::Until(Some(Deadline::Ahead))),
        );
        if outcome == Err(AcquireError::TimedOut) {
            world.seen.timeouts.add();
        }
        outcome
    }

    /// Locks if the lock is free, and uses the data.
    pub fn try_lock(&self, world: &World) -> Result<(), AcquireError> {
        self.enter(world, self.raw.acquire(current_thread(), WaitMode::Try))
    }

    /// Locks if the lock is free and its last owner did not die, and uses the data.
    pub fn lock_released(&self, world: &World) -> Result<(), AcquireError> {
        let outcome = self.raw.acquire(current_thread(), WaitMode::TryIfReleased);
        assert!(
            !outcome.is_ok_and(Acquired::owner_died),
            "the death belongs to another locker"
        );
        self.enter(world, outcome)
    }

    pub fn unlock(&self) {
        // SAFETY: the caller holds the lock.
        unsafe { self.raw.unlock(current_thread()) }
    }

    /// Does what each new owner does, and lets other threads arrive. This switch costs no
    /// preemption.
    fn enter(
        &self,
        world: &World,
        outcome: Result<Acquired, AcquireError>,
    ) -> Result<(), AcquireError> {
        self.check_report(world, outcome)?;
        step();
        loom::thread::yield_now();
        self.use_data();
        Ok(())
    }

    /// Checks that a death is reported to a new owner if and only if its predecessor died.
    fn check_report(
        &self,
        world: &World,
        outcome: Result<Acquired, AcquireError>,
    ) -> Result<(), AcquireError> {
        let acquired = outcome.inspect_err(|&refused| {
            if refused == AcquireError::HolderThreadEnded {
                world.seen.refusals.add();
            }
        })?;
        let died = world.take_unreported_death(&self.raw);
        match acquired {
            Acquired::Released => assert!(!died, "the death of an owner was not reported"),
            Acquired::OwnerDied(_) => {
                assert!(
                    died,
                    "a death was reported that did not happen, or a second time"
                );
                world.seen.reported_deaths.add();
            }
        }
        Ok(())
    }

    /// Changes the data.
    pub fn use_data(&self) {
        // SAFETY: loom panics before it calls the closure if another access is not ordered with
        // this one.
        self.data.with_mut(|data| unsafe { *data += 1 });
    }

    /// Returns how often the data was used. The caller is the only thread left.
    pub fn uses(&self) -> u32 {
        // SAFETY: as above.
        self.data.with(|data| unsafe { *data })
    }

    /// Checks what must hold after all other threads have ended: the lock is free, and every death
    /// has been reported.
    pub fn is_at_rest(&self, world: &World) {
        self.try_lock(world).expect("no thread holds the lock");
        self.unlock();
    }
}
