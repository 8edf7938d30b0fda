//! The crates that users would otherwise choose. Each is used between processes as its
//! documentation says, in memory mapped before the fork. If a crate has both a robust and a
//! non-robust mutex, both are measured.

use super::{Contender, DeathReport, Failed, Handle, mapped};
use crate::mapped::{Mapped, Place};
use iceoryx2_bb_posix::mutex::{
    Handle as _, Mutex as IceoryxMutex, MutexBuilder as IceoryxBuilder, MutexHandle,
    MutexLockError, MutexThreadTerminationBehavior as Termination,
};
// Linked for the logger that iceoryx2 requires in every program.
use iceoryx2_bb_loggers as _;
use posix_sync::mutex::guards::RobustGuardContainer;
use posix_sync::mutex::robustness_markers::{self, RobustnessMarker};
use posix_sync::mutex::{BorrowedMutex, MutexBuilder, MutexSharing, RawMutexAlloc};
use raw_sync::locks::{LockImpl, LockInit as _, Mutex as RawSyncMutex};
use rustix_futex_sync::shm;
use std::cell::{RefCell, RefMut};
use std::marker::PhantomData;
use std::ptr;

/// posix-sync's `BorrowedMutex`, robust or not.
pub struct PosixSync<R> {
    places: Mapped<Place<RawMutexAlloc>>,
    kind: PhantomData<R>,
}

impl<R: RobustnessMarker> Contender for PosixSync<R>
where
    for<'a> BorrowedMutex<'a, R>: Handle,
{
    type Handle<'a>
        = BorrowedMutex<'a, R>
    where
        R: 'a;

    fn prepare(locks: usize) -> Result<Self, Failed> {
        let places = mapped(locks)?;
        for place in places.iter() {
            // SAFETY: the memory is large enough and aligned, and no process uses it yet.
            unsafe {
                MutexBuilder::<R>::new()
                    .with_sharing(MutexSharing::Shared)
                    .build_borrowed(Place::address(place), place)
            };
        }
        Ok(PosixSync {
            places,
            kind: PhantomData,
        })
    }

    fn attach(&self, lock: usize) -> Result<BorrowedMutex<'_, R>, Failed> {
        let place = &self.places[lock];
        // SAFETY: `prepare` initialized the mutex with this robustness.
        Ok(unsafe { BorrowedMutex::from_raw(place.address(), place) })
    }
}

impl Handle for BorrowedMutex<'_, robustness_markers::Standard> {
    #[inline]
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        // SAFETY: the mutex is initialized and mapped, and this thread does not hold it.
        let _guard = unsafe { self.lock() }.map_err(|_| Failed::at("BorrowedMutex::lock"))?;
        body(DeathReport::None);
        Ok(())
    }
}

impl Handle for BorrowedMutex<'_, robustness_markers::Robust> {
    #[inline]
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        // SAFETY: the mutex is initialized and mapped, and this thread does not hold it.
        match unsafe { self.lock() }.map_err(|_| Failed::at("BorrowedMutex::lock"))? {
            RobustGuardContainer::Standard(_guard) => body(DeathReport::None),
            RobustGuardContainer::Indeterminate(guard) => {
                body(DeathReport::Died);
                guard
                    .make_consistent()
                    .map_err(|_| Failed::at("IndeterminateGuard::make_consistent"))?;
            }
        }
        Ok(())
    }
}

/// process-sync's `SharedMutex`. Each creates a map of its own.
pub struct ProcessSync(Vec<RefCell<process_sync::SharedMutex>>);

impl Contender for ProcessSync {
    type Handle<'a> = RefMut<'a, process_sync::SharedMutex>;

    fn prepare(locks: usize) -> Result<Self, Failed> {
        (0..locks)
            .map(|_| process_sync::SharedMutex::new().map(RefCell::new))
            .collect::<Result<_, _>>()
            .map(ProcessSync)
            .map_err(|error| Failed::from_io("SharedMutex::new", &error))
    }

    fn attach(&self, lock: usize) -> Result<Self::Handle<'_>, Failed> {
        Ok(self.0[lock].borrow_mut())
    }
}

impl Handle for RefMut<'_, process_sync::SharedMutex> {
    #[inline]
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        self.lock()
            .map_err(|error| Failed::from_io("SharedMutex::lock", &error))?;
        body(DeathReport::None);
        self.unlock()
            .map_err(|error| Failed::from_io("SharedMutex::unlock", &error))
    }
}

/// raw_sync's `Mutex`.
pub struct RawSync(Mapped<Place<[u64; 16]>>);

impl Contender for RawSync {
    type Handle<'a> = Box<dyn LockImpl>;

    fn prepare(locks: usize) -> Result<Self, Failed> {
        let places = mapped::<[u64; 16]>(locks)?;
        for place in places.iter() {
            assert!(RawSyncMutex::size_of(None) <= size_of::<[u64; 16]>());
            // SAFETY: the memory is large enough, as asserted above, and no process uses it yet.
            // The data pointer is never read.
            unsafe { RawSyncMutex::new(place.address().cast(), ptr::null_mut()) }
                .map_err(|_| Failed::at("Mutex::new"))?;
        }
        Ok(RawSync(places))
    }

    fn attach(&self, lock: usize) -> Result<Box<dyn LockImpl>, Failed> {
        // SAFETY: `prepare` initialized the mutex, and a worker ends before the map is removed.
        unsafe { RawSyncMutex::from_existing(self.0[lock].address().cast(), ptr::null_mut()) }
            .map(|(lock, _)| lock)
            .map_err(|_| Failed::at("Mutex::from_existing"))
    }
}

impl Handle for Box<dyn LockImpl> {
    #[inline]
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        let _guard = self.lock().map_err(|_| Failed::at("LockImpl::lock"))?;
        body(DeathReport::None);
        Ok(())
    }
}

/// iceoryx2-bb-posix's `Mutex`, robust or not.
pub struct Iceoryx<const ROBUST: bool>(Mapped<Place<MutexHandle<()>>>);

impl<const ROBUST: bool> Contender for Iceoryx<ROBUST> {
    type Handle<'a> = IceoryxMutex<'a, 'a, ()>;

    fn prepare(locks: usize) -> Result<Self, Failed> {
        let places = mapped::<MutexHandle<()>>(locks)?;
        for place in places.iter() {
            // SAFETY: the memory is reserved for a handle, no process uses it yet, and it is mapped
            // as long as the borrow lasts.
            let handle = unsafe {
                place.address().write(MutexHandle::new());
                &*place.address()
            };
            IceoryxBuilder::new()
                .is_interprocess_capable(true)
                .thread_termination_behavior(match ROBUST {
                    true => Termination::ReleaseWhenLocked,
                    false => Termination::StallWhenLocked,
                })
                .create((), handle)
                .map_err(|_| Failed::at("MutexBuilder::create"))?;
        }
        Ok(Iceoryx(places))
    }

    fn attach(&self, lock: usize) -> Result<Self::Handle<'_>, Failed> {
        // SAFETY: `prepare` initialized the handle, and it is mapped as long as the borrow lasts.
        Ok(unsafe { IceoryxMutex::from_handle(&*self.0[lock].address()) })
    }
}

impl Handle for IceoryxMutex<'_, '_, ()> {
    #[inline]
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        match self.lock() {
            Ok(_guard) => body(DeathReport::None),
            Err(MutexLockError::LockAcquiredButOwnerDied(_guard)) => {
                body(DeathReport::Died);
                self.make_consistent();
            }
            Err(_) => return Err(Failed::at("Mutex::lock")),
        }
        Ok(())
    }
}

/// rustix-futex-sync's `shm::Mutex`.
pub struct RustixFutexSync(Mapped<Place<shm::Mutex<()>>>);

impl Contender for RustixFutexSync {
    type Handle<'a> = &'a shm::Mutex<()>;

    fn prepare(locks: usize) -> Result<Self, Failed> {
        let places = mapped::<shm::Mutex<()>>(locks)?;
        for place in places.iter() {
            // SAFETY: the memory is reserved for a mutex, and no process uses it yet.
            unsafe { place.address().write(shm::Mutex::new(())) };
        }
        Ok(RustixFutexSync(places))
    }

    fn attach(&self, lock: usize) -> Result<&shm::Mutex<()>, Failed> {
        // SAFETY: `prepare` wrote the mutex, and it is mapped as long as the borrow lasts.
        Ok(unsafe { &*self.0[lock].address() })
    }
}

impl Handle for &shm::Mutex<()> {
    #[inline]
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        let _guard = self.lock();
        body(DeathReport::None);
        Ok(())
    }
}
