//! Whether a value's file is still the one that its path names: [`Shared::is_current`], and
//! [`Checked`], which checks each use.

use crate::Error;
use crate::memory::Shared;
use crate::memory::file::checks::named_by;
use crate::memory::placeable::Placeable;
use crate::sys::files::Named;

impl<T: ?Sized + Placeable> Shared<T> {
    /// Returns whether the path by which the value was opened or created still names its file.
    ///
    /// The value remains usable after its file was removed or replaced. But a process that opens
    /// the path later gets another file, so the locks of the two do not exclude each other. Some
    /// programs remove files without asking their users: systemd-logind removes a user's files in
    /// `/dev/shm` when the user's last session ends (`RemoveIPC=`), tmp cleaners remove files that
    /// appear unused, and upgrades replace them.
    ///
    /// The path as it was given is made absolute at opening, and is resolved again by each call.
    /// Anonymous memory and memfds have no path, and are always current.
    ///
    /// The call costs two system calls (`lstat` and `fstat`).
    ///
    /// # Errors
    ///
    /// Returns [`Error::Os`] if the path cannot be resolved, for example because the process may no
    /// longer search a directory.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Shared, SharedCounter};
    ///
    /// let directory = tempfile::tempdir()?;
    /// let path = directory.path().join("hits");
    /// // SAFETY: no other process knows the file.
    /// let hits = unsafe { Shared::create(&path, SharedCounter::new(0)) }?;
    /// assert!(hits.is_current()?);
    /// std::fs::remove_file(&path)?;
    /// assert!(!hits.is_current()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_current(&self) -> Result<bool, Error> {
        Ok(self.named_by_its_path()? == Named::ThisFile)
    }

    /// Returns the value, if its path still names its file.
    ///
    /// The file may be removed or replaced immediately afterwards. After a lock was acquired, check
    /// again, or use [`Checked::with`].
    ///
    /// # Errors
    ///
    /// Returns [`Error::FileReplaced`] if the path names another file or none, and the error of
    /// [`is_current`](Self::is_current).
    pub fn current(&self) -> Result<&T, Error> {
        let found = match self.named_by_its_path()? {
            Named::ThisFile => return Ok(self),
            Named::AnotherFile => "was replaced by another file",
            Named::Nothing => "was removed",
        };
        Err(Error::FileReplaced {
            path: self.path().unwrap_or("".as_ref()).into(),
            found,
        })
    }

    /// Converts into a form that gives access to the value only through a check.
    pub fn checked(self) -> Checked<T> {
        Checked(self)
    }

    fn named_by_its_path(&self) -> Result<Named, Error> {
        match (self.path(), self.map().descriptor()) {
            (Some(path), Some(file)) => named_by(path, file),
            _ => Ok(Named::ThisFile),
        }
    }
}

/// A [`Shared<T>`] that gives access to its value only while its path names its file.
///
/// A lock word does not know the path of its file. If the file is removed and created again, the
/// processes that use the old file and those that opened the new one are two groups, each with a
/// lock of its own. With this type, a process of the old group receives an error instead.
///
/// It has no `Deref`. Each access calls [`get`](Self::get) or [`with`](Self::with).
///
/// # What the checks guarantee
///
/// A lock that [`with`](Self::with) returns was held at an instant at which the path named the
/// file. So a waiter that was asleep during the replacement does not enter. A holder that was
/// inside at that time remains inside, and learns of it from its next check. Before a change takes
/// effect outside the map, the holder should check again, while it holds the lock. A program that
/// replaces the file should hold the lock meanwhile; no process is then inside unknowingly.
///
/// # Examples
///
/// ```
/// use pshared::{Checked, Error, Shared, SharedMutex};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("state");
/// // SAFETY: no other process knows the file.
/// let open = || unsafe { Shared::open_or_create(&path, || SharedMutex::new(0_u64)) };
/// let mut state: Checked<_> = open()?.checked();
/// *state.with(|count| count.lock())?? += 1;
///
/// std::fs::remove_file(&path)?; // as a tmp cleaner does
/// let refused = state.with(|count| count.lock());
/// assert!(matches!(refused, Err(Error::FileReplaced { .. })));
/// drop(refused);
/// state = open()?.checked();
/// *state.with(|count| count.lock())?? += 1;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Checked<T: ?Sized + Placeable>(Shared<T>);

impl<T: ?Sized + Placeable> Checked<T> {
    /// Returns the value, if its path still names its file.
    ///
    /// # Errors
    ///
    /// As [`Shared::current`].
    pub fn get(&self) -> Result<&T, Error> {
        self.0.current()
    }

    /// Calls `acquire` with the value, and checks the path before and after the call.
    ///
    /// `acquire` is a call that may wait, for example `|value| value.lock()`. If the file was
    /// removed or replaced meanwhile, its result is dropped, which releases a guard. A sleeping
    /// waiter notices the replacement only when it wakes, so a call with a timeout is better if the
    /// old holder may stay.
    ///
    /// # Errors
    ///
    /// As [`Shared::current`]. An error of `acquire` itself is part of the returned value.
    pub fn with<'a, R>(&'a self, acquire: impl FnOnce(&'a T) -> R) -> Result<R, Error> {
        let acquired = acquire(self.get()?);
        self.get()?;
        Ok(acquired)
    }

    /// Converts back into the plain value, without checks.
    pub fn unchecked(self) -> Shared<T> {
        self.0
    }
}

static_assertions::assert_impl_all!(Checked<u64>: Send, Sync);
static_assertions::assert_not_impl_any!(Checked<u64>: std::ops::Deref, Clone);
