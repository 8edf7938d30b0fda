//! A lock, its data, and what every holder checks.

use crate::raw::outcome::{AcquireError, Acquired, WaitMode};
use crate::raw::robust::Robust;
use crate::sys::{CurrentThread, Deadline, Joins, World, current_thread, step};
use loom::cell::UnsafeCell;
use std::rc::Rc;

/// The lock under test, or a twin of it. Its first field is its word.
pub trait Raw: 'static {
    fn new() -> Self;

    /// # Safety
    ///
    /// As for [`Robust::init`].
    unsafe fn init(&self);

    fn acquire(&self, current: CurrentThread, mode: WaitMode) -> Result<Acquired, AcquireError>;

    /// # Safety
    ///
    /// As for [`Robust::unlock`].
    unsafe fn unlock(&self, current: CurrentThread);
}

impl Raw for Robust {
    fn new() -> Self {
        Robust::new()
    }

    unsafe fn init(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.init() }
    }

    /// As `SharedMutex` does.
    fn acquire(&self, current: CurrentThread, mode: WaitMode) -> Result<Acquired, AcquireError> {
        if self.try_acquire_fast(current) {
            return Ok(Acquired::Released);
        }
        self.acquire_slow(current, mode)
    }

    unsafe fn unlock(&self, current: CurrentThread) {
        // SAFETY: the caller's promise.
        unsafe { self.unlock(current) }
    }
}

/// A lock and its data.
pub struct Lock<R = Robust> {
    pub raw: R,
    /// Loom panics where two threads access it without an order between them.
    data: UnsafeCell<u32>,
}

impl<R: Raw> Lock<R> {
    /// A lock that is placed.
    pub fn place(world: &Rc<World>) -> Rc<Self> {
        let lock = Self::unplaced(world);
        // SAFETY: nobody uses it yet, and the world keeps it in its place.
        unsafe { lock.raw.init() };
        lock
    }

    /// A lock that is not placed, and joins no robust list.
    pub fn unplaced(world: &Rc<World>) -> Rc<Self> {
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

    /// Locks, uses the data, unlocks.
    pub fn section(&self, world: &World) {
        self.lock(world);
        self.unlock();
    }

    /// Locks, waiting as long as it takes, and uses the data.
    pub fn lock(&self, world: &World) {
        self.wait(world)
            .expect("a lock that nobody keeps is acquired");
    }

    /// The same, where the section is so short that nobody need come meanwhile.
    pub fn lock_briefly(&self, world: &World) {
        let outcome = self.raw.acquire(current_thread(), WaitMode::Until(None));
        self.arrive(world, outcome)
            .expect("a lock that nobody keeps is acquired");
        self.use_data();
    }

    /// As [`lock`](Self::lock), where the lock may be refused.
    pub fn wait(&self, world: &World) -> Result<(), AcquireError> {
        self.enter(
            world,
            self.raw.acquire(current_thread(), WaitMode::Until(None)),
        )
    }

    /// Locks, waiting until the deadline, and uses the data.
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

    /// Locks if the lock is free and nobody died with it, and uses the data.
    pub fn lock_released(&self, world: &World) -> Result<(), AcquireError> {
        let outcome = self.raw.acquire(current_thread(), WaitMode::TryIfReleased);
        assert_ne!(
            outcome,
            Ok(Acquired::OwnerDied),
            "the news was for somebody else"
        );
        self.enter(world, outcome)
    }

    pub fn unlock(&self) {
        // SAFETY: called by who holds the lock.
        unsafe { self.raw.unlock(current_thread()) }
    }

    /// What every new holder does, with time for others to come: this switch costs no preemption.
    fn enter(
        &self,
        world: &World,
        outcome: Result<Acquired, AcquireError>,
    ) -> Result<(), AcquireError> {
        self.arrive(world, outcome)?;
        step();
        loom::thread::yield_now();
        self.use_data();
        Ok(())
    }

    /// A death is told to a new holder exactly when its predecessor died.
    fn arrive(
        &self,
        world: &World,
        outcome: Result<Acquired, AcquireError>,
    ) -> Result<(), AcquireError> {
        let acquired = outcome.inspect_err(|&refused| {
            if refused == AcquireError::HolderThreadEnded {
                world.seen.refusals.add();
            }
        })?;
        let died = world.take_tidings(&self.raw);
        match acquired {
            Acquired::Released => assert!(!died, "a holder's death was not told"),
            Acquired::OwnerDied => {
                assert!(
                    died,
                    "a death was told that did not happen, or a second time"
                );
                world.seen.deaths_told.add();
            }
        }
        Ok(())
    }

    /// Changes the data.
    pub fn use_data(&self) {
        // SAFETY: loom panics before it calls the closure where another access is not ordered with this one.
        self.data.with_mut(|data| unsafe { *data += 1 });
    }

    /// How often the data were used. The caller is the only thread left.
    pub fn uses(&self) -> u32 {
        // SAFETY: as above.
        self.data.with(|data| unsafe { *data })
    }

    /// What holds when all others have ended: the lock is free, every death has been told.
    pub fn is_at_rest(&self, world: &World) {
        self.try_lock(world).expect("nobody holds the lock");
        self.unlock();
    }
}
