//! glibc's process-shared mutexes, called directly.

use super::{Contender, DeathReport, Failed, Handle, check, mapped};
use crate::mapped::{Mapped, Place};
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// A kind of mutex.
pub trait Kind {
    const ROBUST: bool = false;
    const PROTOCOL: i32 = libc::PTHREAD_PRIO_NONE;
}

/// `PTHREAD_PROCESS_SHARED`.
pub struct Plain;
/// As `Plain`, with `PTHREAD_MUTEX_ROBUST`.
pub struct Robust;
/// As `Robust`, with `PTHREAD_PRIO_INHERIT`.
pub struct RobustPi;

impl Kind for Plain {}
impl Kind for Robust {
    const ROBUST: bool = true;
}
impl Kind for RobustPi {
    const ROBUST: bool = true;
    const PROTOCOL: i32 = libc::PTHREAD_PRIO_INHERIT;
}

/// Mutexes of one kind.
pub struct Mutexes<K> {
    places: Mapped<Place<libc::pthread_mutex_t>>,
    kind: PhantomData<K>,
}

impl<K: Kind> Contender for Mutexes<K> {
    type Handle<'a>
        = Mutex<'a, K>
    where
        K: 'a;

    fn prepare(locks: usize) -> Result<Self, Failed> {
        let places = mapped(locks)?;
        places.iter().try_for_each(initialize::<K>)?;
        Ok(Mutexes {
            places,
            kind: PhantomData,
        })
    }

    fn attach(&self, lock: usize) -> Result<Mutex<'_, K>, Failed> {
        Ok(Mutex {
            place: &self.places[lock],
            kind: PhantomData,
        })
    }
}

pub struct Mutex<'a, K> {
    place: &'a Place<libc::pthread_mutex_t>,
    kind: PhantomData<K>,
}

impl<K: Kind> Handle for Mutex<'_, K> {
    #[inline]
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        let mutex = self.place.address();
        // SAFETY: `prepare` initialized the mutex, and it is mapped as long as the borrow lasts.
        // The thread that locked it unlocks it.
        unsafe {
            match libc::pthread_mutex_lock(mutex) {
                0 => body(DeathReport::None),
                libc::EOWNERDEAD if K::ROBUST => {
                    body(DeathReport::Died);
                    check(
                        "pthread_mutex_consistent",
                        libc::pthread_mutex_consistent(mutex),
                    )?;
                }
                errno => return Err(Failed::by("pthread_mutex_lock", errno)),
            }
            check("pthread_mutex_unlock", libc::pthread_mutex_unlock(mutex))
        }
    }
}

/// Initializes a process-shared mutex of a kind.
pub fn initialize<K: Kind>(place: &Place<libc::pthread_mutex_t>) -> Result<(), Failed> {
    let mut attributes = MaybeUninit::uninit();
    let attributes: *mut libc::pthread_mutexattr_t = attributes.as_mut_ptr();
    // SAFETY: the attributes are initialized first and destroyed last. The mutex has exclusive use
    // of its memory, and no process uses it yet.
    unsafe {
        check(
            "pthread_mutexattr_init",
            libc::pthread_mutexattr_init(attributes),
        )?;
        check(
            "pthread_mutexattr_setpshared",
            libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED),
        )?;
        if K::ROBUST {
            check(
                "pthread_mutexattr_setrobust",
                libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST),
            )?;
        }
        check(
            "pthread_mutexattr_setprotocol",
            libc::pthread_mutexattr_setprotocol(attributes, K::PROTOCOL),
        )?;
        check(
            "pthread_mutex_init",
            libc::pthread_mutex_init(place.address(), attributes),
        )?;
        check(
            "pthread_mutexattr_destroy",
            libc::pthread_mutexattr_destroy(attributes),
        )
    }
}
