//! The means by which two processes wake each other.

use super::glibc::{self, Plain};
use super::{Failed, check, mapped};
use crate::futex;
use crate::mapped::{Mapped, Place};
use pshared::{Shared, SharedCondvar, SharedEvent, SharedMutex, ShmSafe};
use std::io::{self, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Release};

/// Two signals, one in each direction. A signal is taken once for each time it is given, and is not
/// given again before it is taken.
pub trait Signals: Sized {
    fn prepare() -> Result<Self, Failed>;

    /// Wakes the process that waits in `take` with the same number, 0 or 1. If no process waits,
    /// the next `take` returns at once.
    fn give(&self, to: usize) -> Result<(), Failed>;

    /// Waits for the signal.
    fn take(&self, mine: usize) -> Result<(), Failed>;
}

/// The crate's events.
pub struct Events(Shared<[SharedEvent; 2]>);

impl Signals for Events {
    fn prepare() -> Result<Self, Failed> {
        Shared::anonymous([SharedEvent::new(), SharedEvent::new()])
            .map(Events)
            .map_err(|_| Failed::last("Shared::anonymous"))
    }

    #[inline]
    fn give(&self, to: usize) -> Result<(), Failed> {
        self.0[to].set();
        Ok(())
    }

    #[inline]
    fn take(&self, mine: usize) -> Result<(), Failed> {
        self.0[mine].wait();
        self.0[mine].reset();
        Ok(())
    }
}

/// The crate's mutex and condition variable.
#[derive(ShmSafe)]
#[repr(C)]
struct Waiting {
    given: SharedMutex<u32>,
    condvar: SharedCondvar,
}

/// A mutex and a condition variable in each direction.
pub struct SharedCondvars(Shared<[Waiting; 2]>);

impl Signals for SharedCondvars {
    fn prepare() -> Result<Self, Failed> {
        let waiting = [const {
            Waiting {
                given: SharedMutex::new(0),
                condvar: SharedCondvar::new(),
            }
        }; 2];
        Shared::anonymous(waiting)
            .map(SharedCondvars)
            .map_err(|_| Failed::last("Shared::anonymous"))
    }

    #[inline]
    fn give(&self, to: usize) -> Result<(), Failed> {
        let to = &self.0[to];
        *to.given.lock().map_err(refused)? = 1;
        to.condvar.notify_one();
        Ok(())
    }

    #[inline]
    fn take(&self, mine: usize) -> Result<(), Failed> {
        let mine = &self.0[mine];
        let given = mine.given.lock().map_err(refused)?;
        let mut given = mine
            .condvar
            .wait_while(given, |given| *given == 0)
            .map_err(refused)?;
        *given = 0;
        Ok(())
    }
}

fn refused<E>(_: E) -> Failed {
    Failed::last("SharedMutex::lock")
}

/// Two futex words without spinning: the lower bound of the cost of a sleep and a wake.
pub struct Words(Mapped<Place<AtomicU32>>);

impl Words {
    fn word(&self, index: usize) -> &AtomicU32 {
        // SAFETY: zero bytes are a valid atomic, and it is mapped as long as the borrow lasts.
        unsafe { &*self.0[index].address() }
    }
}

impl Signals for Words {
    fn prepare() -> Result<Self, Failed> {
        mapped(2).map(Words)
    }

    #[inline]
    fn give(&self, to: usize) -> Result<(), Failed> {
        self.word(to).store(1, Release);
        futex::wake(self.word(to), 1);
        Ok(())
    }

    #[inline]
    fn take(&self, mine: usize) -> Result<(), Failed> {
        while self.word(mine).swap(0, Acquire) == 0 {
            futex::wait(self.word(mine), 0);
        }
        Ok(())
    }
}

/// The data that each of the two mutexes protects.
struct Waited {
    condvar: libc::pthread_cond_t,
    given: bool,
}

/// glibc's process-shared mutex and condition variable, a pair in each direction.
pub struct Condvars {
    mutexes: Mapped<Place<libc::pthread_mutex_t>>,
    waited: Mapped<Place<Waited>>,
}

impl Condvars {
    fn locked(
        &self,
        index: usize,
        body: impl FnOnce(*mut libc::pthread_mutex_t, *mut Waited) -> i32,
    ) -> Result<(), Failed> {
        let mutex = self.mutexes[index].address();
        // SAFETY: `prepare` initialized the mutex, and it is mapped as long as the borrow lasts.
        check("pthread_mutex_lock", unsafe {
            libc::pthread_mutex_lock(mutex)
        })?;
        check("pthread_cond_*", body(mutex, self.waited[index].address()))?;
        // SAFETY: this thread locked the mutex above.
        check("pthread_mutex_unlock", unsafe {
            libc::pthread_mutex_unlock(mutex)
        })
    }
}

impl Signals for Condvars {
    fn prepare() -> Result<Self, Failed> {
        let both = Condvars {
            mutexes: mapped(2)?,
            waited: mapped(2)?,
        };
        both.mutexes
            .iter()
            .try_for_each(glibc::initialize::<Plain>)?;
        let mut attributes = MaybeUninit::uninit();
        let attributes: *mut libc::pthread_condattr_t = attributes.as_mut_ptr();
        // SAFETY: the attributes are initialized first and destroyed last. Each condition variable
        // has exclusive use of its memory. The other bytes of that memory are zero, so `given` is
        // false.
        unsafe {
            check(
                "pthread_condattr_init",
                libc::pthread_condattr_init(attributes),
            )?;
            check(
                "pthread_condattr_setpshared",
                libc::pthread_condattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED),
            )?;
            for place in both.waited.iter() {
                check(
                    "pthread_cond_init",
                    libc::pthread_cond_init(&raw mut (*place.address()).condvar, attributes),
                )?;
            }
            check(
                "pthread_condattr_destroy",
                libc::pthread_condattr_destroy(attributes),
            )?;
        }
        Ok(both)
    }

    #[inline]
    fn give(&self, to: usize) -> Result<(), Failed> {
        // SAFETY: both are initialized and mapped, and `given` is accessed only under the mutex.
        self.locked(to, |_, waited| unsafe {
            (*waited).given = true;
            libc::pthread_cond_signal(&raw mut (*waited).condvar)
        })
    }

    #[inline]
    fn take(&self, mine: usize) -> Result<(), Failed> {
        // SAFETY: as above; this thread holds the mutex.
        self.locked(mine, |mutex, waited| unsafe {
            while !(*waited).given {
                match libc::pthread_cond_wait(&raw mut (*waited).condvar, mutex) {
                    0 => {}
                    errno => return errno,
                }
            }
            (*waited).given = false;
            0
        })
    }
}

/// Two POSIX semaphores.
pub struct Semaphores(Mapped<Place<libc::sem_t>>);

impl Signals for Semaphores {
    fn prepare() -> Result<Self, Failed> {
        let places = mapped(2)?;
        for place in places.iter() {
            // SAFETY: the memory is reserved for a semaphore, and no process uses it yet.
            if unsafe { libc::sem_init(Place::address(place), 1, 0) } != 0 {
                return Err(Failed::last("sem_init"));
            }
        }
        Ok(Semaphores(places))
    }

    #[inline]
    fn give(&self, to: usize) -> Result<(), Failed> {
        // SAFETY: `prepare` initialized the semaphore, and it is mapped.
        match unsafe { libc::sem_post(self.0[to].address()) } {
            0 => Ok(()),
            _ => Err(Failed::last("sem_post")),
        }
    }

    #[inline]
    fn take(&self, mine: usize) -> Result<(), Failed> {
        // SAFETY: `prepare` initialized the semaphore, and it is mapped.
        match unsafe { libc::sem_wait(self.0[mine].address()) } {
            0 => Ok(()),
            _ => Err(Failed::last("sem_wait")),
        }
    }
}

/// Two pipes. A byte is a signal.
pub struct Pipes([(io::PipeReader, io::PipeWriter); 2]);

impl Signals for Pipes {
    fn prepare() -> Result<Self, Failed> {
        let pipe = || io::pipe().map_err(|error| Failed::from_io("pipe", &error));
        Ok(Pipes([pipe()?, pipe()?]))
    }

    #[inline]
    fn give(&self, to: usize) -> Result<(), Failed> {
        (&self.0[to].1)
            .write_all(b"!")
            .map_err(|error| Failed::from_io("write", &error))
    }

    #[inline]
    fn take(&self, mine: usize) -> Result<(), Failed> {
        (&self.0[mine].0)
            .read_exact(&mut [0])
            .map_err(|error| Failed::from_io("read", &error))
    }
}
