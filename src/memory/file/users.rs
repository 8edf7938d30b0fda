//! Users of a file: each user holds a shared `flock`, and a process with the exclusive lock resets
//! the value.
//!
//! Each user holds a shared lock on its own open file description for as long as its map lives.
//! Children share the description, so a user leaves by closing it and never by `LOCK_UN`. A process
//! that gets the exclusive lock has no other users beside it: any lock in the file that appears
//! held belongs to a process that is gone, and is reset.
//!
//! A reset sets `dirty` first and clears it last. No process accesses the value before it holds the
//! shared lock and has read `dirty` as clear. Thus the next opener finishes a reset if its process
//! was killed: an opener that finds `dirty` set releases its lock and tries to get the exclusive
//! one. It gets it eventually, because no process stays a user of such a file.

use crate::Error;
use crate::memory::file::boot::{Boot, BootRecord};
use crate::memory::file::checks::named_by;
use crate::memory::file::header::Header;
use crate::sys::Deadline;
use crate::sys::boot::{is_marked, mark};
use crate::sys::files::{self, FileLock, Named};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;
use std::time::{Duration, Instant};

/// How long an opener waits for another process's reset. A reset takes microseconds, unless its
/// process is stopped in it.
pub(in crate::memory) const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an opener waits before it takes a file for one that is in use in another PID namespace.
///
/// A child that a thread of any program is about to turn into another program, such as by
/// `std::process::Command`, has copies of all descriptors between its fork and its exec. So a file
/// whose last user has just left may seem to be in use for a moment.
const FORK_TO_EXEC: Duration = Duration::from_millis(500);

/// Makes the caller a user of the file. The open file description must not hold a lock yet.
///
/// If the file has no other user, this calls `reset` first, while no other process can access the
/// value.
///
/// Returns false if the path names another file or none: the file was removed or replaced before
/// the caller's shared lock showed that it is in use.
///
/// # Errors
///
/// Returns [`Error::Busy`] if the locks of other processes prevent this for longer than `patience`,
/// and [`Error::PidNamespaceMismatch`] if the file has users in another PID namespace.
pub(in crate::memory) fn attach(
    file: &File,
    header: &Header,
    path: &Path,
    patience: Duration,
    mut reset: impl FnMut(Boot),
) -> Result<bool, Error> {
    let mut pauses = Backoff::new(patience);
    loop {
        if lock(file, FileLock::Exclusive, path)? {
            reset_exclusively(file, header, &mut reset);
        }
        // A change from the exclusive to the shared lock may fail too: another process may get the
        // exclusive lock in between and reset the value again. No process has used the value since.
        let attached = attach_shared(file, header, path)?;
        if named_by(path, file)? != Named::ThisFile {
            return Ok(false);
        }
        if attached {
            match check_namespace(header, path) {
                Ok(()) => return Ok(true),
                Err(error) if pauses.have_lasted(FORK_TO_EXEC) => return Err(error),
                Err(_) => leave(file, path)?,
            }
        }
        pauses.pause(path)?;
    }
}

/// Acquires the shared lock, and keeps it unless the value needs a reset, which needs the exclusive
/// lock: a reset is unfinished, or no process has reset the value in this boot.
fn attach_shared(file: &File, header: &Header, path: &Path) -> Result<bool, Error> {
    if !lock(file, FileLock::Shared, path)? {
        return Ok(false);
    }
    // Pairs with the release in `reset_exclusively`.
    if header.dirty.load(Acquire) == 0 && has_users_of_this_boot(file, header) {
        return Ok(true);
    }
    leave(file, path)?;
    Ok(false)
}

/// Releases the caller's lock. No child uses the file through this description yet, so the lock may
/// be released at once.
fn leave(file: &File, path: &Path) -> Result<(), Error> {
    files::unlock(file).map_err(|source| lock_failed(path, source))
}

fn lock(file: &File, lock: FileLock, path: &Path) -> Result<bool, Error> {
    files::try_flock(file, lock).map_err(|source| lock_failed(path, source))
}

/// Returns whether a process has created or reset the value in this boot. The caller holds the
/// shared lock, and did not get the exclusive one.
///
/// The process that prevented the exclusive lock need not be a user. It may be another program that
/// locked the file, or an opener that was killed before its reset. The first user of a boot marks
/// the file, and the mark remains as long as any user has the file open.
fn has_users_of_this_boot(file: &File, header: &Header) -> bool {
    match is_marked(file) {
        Some(marked) => header.boot().compared_with(&BootRecord::current(), marked) == Boot::Same,
        // Without marks, the failed exclusive lock must do.
        None => true,
    }
}

/// Resets the value. The caller holds the exclusive lock.
fn reset_exclusively(file: &File, header: &Header, reset: &mut impl FnMut(Boot)) {
    let now = BootRecord::current();
    let boot = header
        .boot()
        .compared_with(&now, is_marked(file) == Some(true));
    header.dirty.store(1, Relaxed);
    // A process that sees any part of the reset also sees `dirty`. A killed process has executed
    // its instructions in order, so the compiler's order matters most here.
    fence(SeqCst);
    reset(boot);
    // The header is stamped, and the file marked, after the reset. A reset that is not finished
    // leaves the old stamp, so the process that finishes it still finds out about a reboot.
    header.stamp(&match boot {
        Boot::Same => now.or(header.boot()),
        Boot::Changed => now,
    });
    mark(file);
    header.dirty.store(0, Release);
}

/// Refuses a value with users in another PID namespace: the thread ids in its lock words refer to
/// other threads there.
pub(in crate::memory) fn check_namespace(header: &Header, path: &Path) -> Result<(), Error> {
    match header.other_namespace() {
        None => Ok(()),
        Some(found) => Err(Error::PidNamespaceMismatch {
            path: path.into(),
            found,
            own: crate::sys::own_namespace().into(),
        }),
    }
}

fn lock_failed(path: &Path, source: std::io::Error) -> Error {
    Error::os(format!("flock of {}", path.display()), source)
}

/// A delay between two attempts that doubles each time, up to a limit. It fails once the timeout
/// has passed.
struct Backoff {
    since: Instant,
    patience: Duration,
    next: Duration,
}

impl Backoff {
    fn new(patience: Duration) -> Self {
        Backoff {
            since: Instant::now(),
            patience,
            next: Duration::from_micros(50),
        }
    }

    /// Returns whether the attempts have lasted for `time`, or for as long as they may.
    fn have_lasted(&self, time: Duration) -> bool {
        self.since.elapsed() >= time.min(self.patience)
    }

    fn pause(&mut self, path: &Path) -> Result<(), Error> {
        if self.since.elapsed() > self.patience {
            return Err(Error::Busy {
                path: path.into(),
                seconds: self.patience.as_secs(),
            });
        }
        Deadline::after(self.next).sleep();
        self.next = (self.next * 2).min(Duration::from_millis(20));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Map;
    use crate::memory::file::header::FileLayout;
    use std::cell::Cell;
    use tempfile::NamedTempFile;

    /// Makes a file with a header, and a map of it.
    fn made() -> (NamedTempFile, Map) {
        let named = NamedTempFile::new().unwrap();
        let plan = FileLayout::of::<u64>(1).unwrap();
        named
            .as_file()
            .set_len(plan.length().unwrap() as u64)
            .unwrap();
        let file = named.reopen().unwrap();
        // SAFETY: no process shortens this temporary file.
        let map = unsafe { Map::file_shared(file.into(), plan.length().unwrap()) }.unwrap();
        plan.write(&map).unwrap();
        (named, map)
    }

    fn header(map: &Map) -> &Header {
        // SAFETY: `made` has written a header.
        unsafe { Header::of(map) }
    }

    #[test]
    fn the_only_user_resets_the_file_and_others_can_attach_afterwards() {
        let (named, map) = made();
        let resets = Cell::new(0);
        let attach_file = |file: &File| {
            attach(file, header(&map), named.path(), OPEN_TIMEOUT, |_| {
                assert_eq!(header(&map).dirty.load(Relaxed), 1);
                resets.set(resets.get() + 1);
            })
        };
        let (first, second) = (named.reopen().unwrap(), named.reopen().unwrap());
        assert!(attach_file(&first).unwrap());
        assert!(attach_file(&second).unwrap());
        assert_eq!(resets.get(), 1);
        assert_eq!(header(&map).dirty.load(Relaxed), 0);
        drop((first, second));
        attach_file(&named.reopen().unwrap()).unwrap();
        assert_eq!(resets.get(), 2);
    }

    #[test]
    fn no_process_uses_a_file_that_has_not_been_reset_since_a_reboot() {
        let (named, map) = made();
        header(&map).stamp(&BootRecord {
            id: Some(7),
            time: None,
        });
        // The attempt to get the exclusive lock failed, because another program held the file's
        // lock for a moment.
        let file = named.reopen().unwrap();
        if is_marked(&file).is_none() {
            return;
        }
        assert!(!attach_shared(&file, header(&map), named.path()).unwrap());
        // A mark does not outweigh the id of another boot.
        mark(&file);
        assert!(!attach_shared(&file, header(&map), named.path()).unwrap());
        let boots = Cell::new(None);
        attach(&file, header(&map), named.path(), OPEN_TIMEOUT, |boot| {
            boots.set(Some(boot))
        })
        .unwrap();
        assert_eq!(boots.get(), Some(Boot::Changed));
        let second = named.reopen().unwrap();
        assert!(attach_shared(&second, header(&map), named.path()).unwrap());
    }

    #[test]
    fn a_file_of_another_namespace_is_refused_only_if_its_user_stays() {
        let (named, map) = made();
        let other = header(&map).other_namespace().unwrap_or(0) + 1;
        header(&map).set_namespace(other);
        let user = named.reopen().unwrap();
        assert!(files::try_flock(&user, FileLock::Shared).unwrap());
        let resets = Cell::new(0);
        let attach_file = |file: &File| {
            attach(file, header(&map), named.path(), OPEN_TIMEOUT, |_| {
                resets.set(resets.get() + 1)
            })
        };
        let refusal = attach_file(&named.reopen().unwrap());
        assert!(
            matches!(refusal, Err(Error::PidNamespaceMismatch { found, .. }) if found == other),
            "{refusal:?}"
        );
        // The lock is that of a child between its fork and its exec.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                Deadline::after(FORK_TO_EXEC / 10).sleep();
                drop(user);
            });
            assert!(attach_file(&named.reopen().unwrap()).unwrap());
        });
        assert_eq!((resets.get(), header(&map).other_namespace()), (1, None));
    }

    #[test]
    fn an_opener_of_a_removed_file_does_not_wait_for_its_lock() {
        let (named, map) = made();
        let path = named.path().to_path_buf();
        let other = named.reopen().unwrap();
        assert!(files::try_flock(&other, FileLock::Exclusive).unwrap());
        let file = named.reopen().unwrap();
        drop(named);
        let attach_file = || {
            let unused = |_| unreachable!();
            attach(&file, header(&map), &path, Duration::MAX, unused).unwrap()
        };
        assert!(!attach_file());
        // The path names another file.
        File::create(&path).unwrap();
        assert!(!attach_file());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_another_opener_locks_exclusively_is_busy() {
        let (named, map) = made();
        let other = named.reopen().unwrap();
        assert!(files::try_flock(&other, FileLock::Exclusive).unwrap());
        let on_timeout = attach(
            &named.reopen().unwrap(),
            header(&map),
            named.path(),
            Duration::ZERO,
            |_| unreachable!(),
        );
        assert!(
            matches!(on_timeout, Err(Error::Busy { seconds: 0, .. })),
            "{on_timeout:?}"
        );
    }

    #[test]
    fn no_process_uses_a_file_before_its_unfinished_reset_is_finished() {
        let (named, map) = made();
        header(&map).dirty.store(1, Relaxed);
        // Another opener is just checking the header.
        let other = named.reopen().unwrap();
        assert!(files::try_flock(&other, FileLock::Shared).unwrap());
        let on_timeout = attach(
            &named.reopen().unwrap(),
            header(&map),
            named.path(),
            Duration::ZERO,
            |_| unreachable!(),
        );
        assert!(
            matches!(on_timeout, Err(Error::Busy { .. })),
            "{on_timeout:?}"
        );
        // The opener that gave up blocks neither the other opener nor a third one.
        assert!(files::try_flock(&other, FileLock::Exclusive).unwrap());
        files::unlock(&other).unwrap();
        assert!(!attach_shared(&other, header(&map), named.path()).unwrap());
        let third = named.reopen().unwrap();
        assert!(files::try_flock(&third, FileLock::Exclusive).unwrap());
        drop(third);
        drop(other);
        let resets = Cell::new(0);
        let opener = named.reopen().unwrap();
        attach(&opener, header(&map), named.path(), OPEN_TIMEOUT, |_| {
            resets.set(1)
        })
        .unwrap();
        assert_eq!((resets.get(), header(&map).dirty.load(Relaxed)), (1, 0));
    }

    #[test]
    fn any_number_of_openers_can_open_a_file_with_an_unfinished_reset() {
        for _ in 0..20 {
            let (named, map) = made();
            header(&map).dirty.store(1, Relaxed);
            let (named, header) = (&named, header(&map));
            std::thread::scope(|scope| {
                for _ in 0..50 {
                    scope.spawn(move || {
                        let file = named.reopen().unwrap();
                        attach(
                            &file,
                            header,
                            named.path(),
                            Duration::from_secs(100),
                            |_| {
                                assert_eq!(header.dirty.load(Relaxed), 1);
                            },
                        )
                        .unwrap();
                    });
                }
            });
            assert_eq!(header.dirty.load(Relaxed), 0);
        }
    }
}
