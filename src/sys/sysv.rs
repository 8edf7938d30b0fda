//! System V semaphores: sets of one semaphore, on which every operation uses `SEM_UNDO`.

use super::Deadline;
use super::error::SysError;
use super::semid_ds::semid_ds;
use super::timer_slack::ShortSlack;
use nix::errno::Errno;
use std::io;

unsafe extern "C" {
    // Not in the libc crate.
    fn semtimedop(
        set: libc::c_int,
        operations: *mut libc::sembuf,
        count: libc::size_t,
        timeout: *const libc::timespec,
    ) -> libc::c_int;
}

/// The largest value of a semaphore (`SEMVMX`), and the largest number of permits that the kernel
/// returns for one process (`SEMAEM`).
pub(crate) const SEMAPHORE_SET_MAX: u32 = 32_767;

/// `union semun`, which the callers of semctl(2) must define.
#[repr(C)]
union Argument {
    value: libc::c_int,
    status: *mut semid_ds,
}

/// The id of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SemaphoreSet(pub(crate) i32);

impl SemaphoreSet {
    /// `semget(IPC_PRIVATE)`: creates a set of one semaphore with `value` permits, at most
    /// [`SEMAPHORE_SET_MAX`]. Only its user may access it.
    pub(crate) fn create(value: u32) -> Result<Self, SysError> {
        // SAFETY: semget(2) takes integers.
        let id = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
        if id < 0 {
            let error = SysError::last("semget");
            assert!(
                !matches!(error.errno, Errno::EEXIST | Errno::ENOENT | Errno::EINVAL),
                "semget: {}",
                error.errno
            );
            return Err(error);
        }
        let set = SemaphoreSet(id);
        // No other process knows the id, so none can use the semaphore before it has its permits.
        let value = Argument {
            value: value as libc::c_int,
        };
        // SAFETY: SETVAL takes an integer.
        match unsafe { set.control(libc::SETVAL, value) } {
            Ok(_) => Ok(set),
            Err(errno) => {
                let error = set.error("semctl(SETVAL)", errno);
                let _ = set.remove();
                Err(error)
            }
        }
    }

    /// Takes a permit: `semtimedop(2)`. Returns false if no permit is free before `until`, without
    /// waiting if `until` has passed. With `None` it waits forever.
    pub(crate) fn take(self, until: Option<Deadline>) -> Result<bool, SysError> {
        loop {
            // The timeout is relative. After a signal it is the remaining time.
            let left = until.map(|until| until.left().timespec());
            // A call without a timeout pays for no slack.
            let _slack = left.is_some().then(ShortSlack::new);
            match self.operate(-1, 0, left.as_ref()) {
                Err(libc::EINTR) => {}
                Err(libc::EAGAIN) if until.is_some() => return Ok(false),
                Err(errno) => return Err(self.error("semtimedop", errno)),
                Ok(()) => return Ok(true),
            }
        }
    }

    /// Takes a permit if one is free, and returns whether it did.
    pub(crate) fn try_take(self) -> Result<bool, SysError> {
        match self.operate(-1, libc::IPC_NOWAIT, None) {
            Ok(()) => Ok(true),
            Err(libc::EAGAIN) => Ok(false),
            Err(errno) => Err(self.error("semtimedop", errno)),
        }
    }

    /// Returns a permit. Does nothing if the permit cannot be returned: the set was removed, its
    /// owner revoked the access of this user, or another process raised the value to its maximum.
    pub(crate) fn give(self) {
        match self.operate(1, 0, None) {
            Ok(()) | Err(libc::EIDRM | libc::EINVAL | libc::EACCES | libc::ERANGE) => {}
            Err(errno) => panic!("semtimedop: {}", io::Error::from_raw_os_error(errno)),
        }
    }

    /// Returns the number of free permits: `semctl(GETVAL)`.
    pub(crate) fn value(self) -> Result<u32, SysError> {
        // SAFETY: GETVAL takes no argument.
        match unsafe { self.control(libc::GETVAL, Argument { value: 0 }) } {
            Ok(value) => Ok(value as u32),
            Err(errno) => Err(self.error("semctl(GETVAL)", errno)),
        }
    }

    /// Returns the number of semaphores in the set: `semctl(IPC_STAT)`.
    pub(crate) fn size(self) -> Result<u64, SysError> {
        // SAFETY: zero bytes are a valid semid_ds.
        let mut status: semid_ds = unsafe { std::mem::zeroed() };
        let argument = Argument {
            status: &raw mut status,
        };
        // SAFETY: IPC_STAT takes a semid_ds that may be written.
        match unsafe { self.control(libc::IPC_STAT, argument) } {
            Ok(_) => Ok(status.sem_nsems),
            Err(errno) => Err(self.error("semctl(IPC_STAT)", errno)),
        }
    }

    /// Removes the set and wakes all waiters: `semctl(IPC_RMID)`.
    pub(crate) fn remove(self) -> Result<(), SysError> {
        // SAFETY: IPC_RMID takes no argument.
        match unsafe { self.control(libc::IPC_RMID, Argument { value: 0 }) } {
            Ok(_) => Ok(()),
            Err(errno) => Err(self.error("semctl(IPC_RMID)", errno)),
        }
    }

    /// Changes the semaphore's value. The kernel undoes the change when the process ends.
    fn operate(
        self,
        change: libc::c_short,
        flags: libc::c_int,
        timeout: Option<&libc::timespec>,
    ) -> Result<(), i32> {
        let mut operation = libc::sembuf {
            sem_num: 0,
            sem_op: change,
            sem_flg: (libc::SEM_UNDO | flags) as libc::c_short,
        };
        let timeout = timeout.map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the arguments are one operation, and a timespec or null. With null the call is
        // semop(2).
        if unsafe { semtimedop(self.0, &mut operation, 1, timeout) } == 0 {
            Ok(())
        } else {
            Err(errno())
        }
    }

    /// `semctl(2)` on the only semaphore of the set.
    ///
    /// # Safety
    ///
    /// The argument must be the one that semctl(2) specifies for the command.
    unsafe fn control(self, command: libc::c_int, argument: Argument) -> Result<libc::c_int, i32> {
        // SAFETY: guaranteed by the caller.
        let answer = unsafe { libc::semctl(self.0, 0, command, argument) };
        if answer < 0 { Err(errno()) } else { Ok(answer) }
    }

    fn error(self, call: &str, errno: i32) -> SysError {
        // These cannot happen. There is one operation, at a valid address, on a semaphore that
        // every set has. The operation either completes or waits.
        if let libc::E2BIG | libc::EFAULT | libc::EFBIG | libc::EAGAIN | libc::EINTR = errno {
            panic!("{call}: {}", io::Error::from_raw_os_error(errno));
        }
        SysError::new(
            format!("{call} of the semaphore set {}", self.0),
            Errno::from_raw(errno),
        )
    }
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
