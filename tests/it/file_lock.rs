//! File locks of one process: handles and threads, and which files are accepted.

use pshared::{Error, FileLock, Shared, SharedCounter};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use tempfile::TempDir;

type Open = fn(&Path) -> Result<FileLock, Error>;

const KINDS: [Open; 2] = [|path| FileLock::flock(path), |path| FileLock::ofd(path)];

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    (directory, path)
}

#[test]
fn handles_on_one_file_exclude_each_other_and_a_dropped_guard_lets_the_next_in() {
    for open in KINDS {
        let (_directory, path) = place();
        let (mut one, mut other) = (open(&path).unwrap(), open(&path).unwrap());
        for _ in 0..3 {
            let guard = one.lock().unwrap();
            assert!(matches!(other.try_lock(), Err(Error::WouldBlock)));
            drop(guard);
            let guard = other.try_lock().unwrap();
            assert!(matches!(one.try_lock(), Err(Error::WouldBlock)));
            drop(guard);
        }
    }
}

#[test]
fn threads_with_a_handle_each_count_exactly() {
    for open in KINDS {
        let (_directory, path) = place();
        let count = AtomicU64::new(0);
        thread::scope(|scope| {
            for thread in 0..4 {
                let (path, count) = (&path, &count);
                scope.spawn(move || {
                    let mut lock = open(path).unwrap();
                    for turn in 0..1_000 {
                        let guard = lock.lock().unwrap();
                        let before = count.load(Relaxed);
                        if (thread + turn) % 16 == 0 {
                            thread::yield_now();
                        }
                        count.store(before + 1, Relaxed);
                        drop(guard);
                    }
                });
            }
        });
        assert_eq!(count.load(Relaxed), 4_000);
    }
}

#[test]
fn a_thread_new_to_this_crate_may_use_a_handle_and_drop_a_guard() {
    for open in KINDS {
        let (_directory, path) = place();
        let (mut one, mut other) = (open(&path).unwrap(), open(&path).unwrap());
        thread::scope(|scope| {
            let guard = one.lock().unwrap();
            scope.spawn(move || drop(guard)).join().unwrap();
            scope
                .spawn(|| drop(other.try_lock().unwrap()))
                .join()
                .unwrap();
        });
        drop(other.try_lock().unwrap());
    }
}

#[test]
fn a_leaked_guard_keeps_the_file_locked_until_its_handle_is_dropped() {
    for open in KINDS {
        let (_directory, path) = place();
        let (mut one, mut other) = (open(&path).unwrap(), open(&path).unwrap());
        std::mem::forget(one.lock().unwrap());
        assert!(matches!(other.try_lock(), Err(Error::WouldBlock)));
        // The handle has the lock, so it acquires it again.
        std::mem::forget(one.try_lock().unwrap());
        drop(one);
        drop(other.try_lock().unwrap());
    }
}

#[test]
fn a_panic_releases_the_lock() {
    for open in KINDS {
        let (_directory, path) = place();
        let (mut one, mut other) = (open(&path).unwrap(), open(&path).unwrap());
        thread::scope(|scope| {
            let panicking = scope.spawn(|| {
                let _guard = one.lock().unwrap();
                std::panic::resume_unwind(Box::new("a panic inside"));
            });
            panicking.join().unwrap_err();
        });
        drop(other.try_lock().unwrap());
    }
}

#[test]
fn locks_of_the_two_calls_do_not_exclude_each_other() {
    let (_directory, path) = place();
    let mut flock = FileLock::flock(&path).unwrap();
    let mut ofd = FileLock::ofd(&path).unwrap();
    let _flocked = flock.try_lock().unwrap();
    let _locked = ofd.try_lock().unwrap();
}

#[test]
fn a_lock_by_flock_excludes_other_programs_locks_of_that_call() {
    use nix::fcntl::{Flock, FlockArg};
    let (_directory, path) = place();
    let mut lock = FileLock::flock(&path).unwrap();
    for argument in [
        FlockArg::LockExclusiveNonblock,
        FlockArg::LockSharedNonblock,
    ] {
        let guard = lock.lock().unwrap();
        let file = fs::File::open(&path).unwrap();
        let (file, errno) = Flock::lock(file, argument).unwrap_err();
        assert_eq!(errno, nix::errno::Errno::EWOULDBLOCK);
        drop(guard);
        let _theirs = Flock::lock(file, argument).unwrap();
        assert!(matches!(lock.try_lock(), Err(Error::WouldBlock)));
    }
}

#[test]
fn an_ofd_lock_excludes_other_programs_record_locks_of_every_byte() {
    use nix::fcntl::{FcntlArg, fcntl};
    let (_directory, path) = place();
    let mut lock = FileLock::ofd(&path).unwrap();
    let _guard = lock.lock().unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    // The file is empty, so these bytes lie beyond its end.
    for byte in [0, 1_i64 << 40] {
        let range = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        for theirs in [FcntlArg::F_OFD_SETLK(&range), FcntlArg::F_SETLK(&range)] {
            assert_eq!(fcntl(&file, theirs), Err(nix::errno::Errno::EAGAIN));
        }
    }
}

#[test]
fn a_new_file_is_private_and_empty_and_an_existing_one_keeps_its_bytes_and_mode() {
    for open in KINDS {
        let (_directory, path) = place();
        let mut lock = open(&path).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.len()), (0o600, 0));
        drop(lock.lock().unwrap());

        fs::write(&path, "seven").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(&path, mode).unwrap();
        drop(open(&path).unwrap().lock().unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"seven");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
    }
}

#[test]
fn descriptors_are_closed_by_exec() {
    for open in KINDS {
        let (_directory, path) = place();
        // The first open creates the file, the second finds it.
        let _locks = [open(&path).unwrap(), open(&path).unwrap()];
        let ours = |fd: &PathBuf| fs::read_link(fd).is_ok_and(|target| target == path);
        let descriptors: Vec<_> = fs::read_dir("/proc/self/fd")
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(ours)
            .collect();
        assert_eq!(descriptors.len(), 2);
        for descriptor in descriptors {
            let number = descriptor.file_name().unwrap().to_str().unwrap();
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
            assert_ne!(flags & libc::O_CLOEXEC, 0, "{info}");
        }
    }
}

#[test]
fn anything_but_a_regular_file_is_refused_without_being_opened() {
    for open in KINDS {
        let (directory, path) = place();
        for (target, link) in [(path.as_path(), "dangling"), (directory.path(), "link")] {
            let link = directory.path().join(link);
            symlink(target, &link).unwrap();
            let refusal = open(&link).unwrap_err();
            assert!(matches!(refusal, Error::SymbolicLink { .. }), "{refusal:?}");
        }
        assert!(!path.exists(), "a link was followed");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for (path, what) in [
            (fifo.as_path(), "is a FIFO"),
            (directory.path(), "is a directory"),
            (Path::new("/dev/null"), "is a character device"),
        ] {
            let refusal = open(path).unwrap_err();
            assert!(
                matches!(refusal, Error::NotARegularFile { .. }),
                "{refusal:?}"
            );
            assert!(refusal.to_string().contains(what), "{refusal}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_created_is_an_error_that_names_it() {
    for open in KINDS {
        let (directory, _) = place();
        for path in [directory.path().join("missing/lock"), PathBuf::new()] {
            let refusal = open(&path).unwrap_err();
            assert!(
                matches!(&refusal, Error::Os { source, .. } if source.kind() == std::io::ErrorKind::NotFound),
                "{refusal:?}"
            );
            assert!(refusal.to_string().contains(path.to_str().unwrap()));
        }
    }
}

#[test]
fn a_file_with_a_placed_value_can_be_locked_only_by_the_other_call() {
    let (_directory, path) = place();
    // SAFETY: only this test knows the file.
    let _value = unsafe { Shared::create(&path, SharedCounter::new(0)) }.unwrap();
    let mut flock = FileLock::flock(&path).unwrap();
    assert!(matches!(flock.try_lock(), Err(Error::WouldBlock)));
    drop(FileLock::ofd(&path).unwrap().try_lock().unwrap());
}

#[test]
fn a_handle_whose_file_was_removed_or_replaced_locks_the_file_at_its_path() {
    for open in KINDS {
        let (directory, path) = place();
        let mut one = open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        // The path names no file: a lock creates it.
        drop(one.lock().unwrap());
        assert!(path.exists());
        fs::rename(&path, directory.path().join("renamed")).unwrap();
        let mut other = open(&path).unwrap();
        let guard = other.lock().unwrap();
        assert!(matches!(one.try_lock(), Err(Error::WouldBlock)));
        let refused = one.lock_timeout(std::time::Duration::from_millis(1));
        assert!(matches!(refused, Err(Error::TimedOut)));
        drop(refused);
        drop(guard);
        drop(one.try_lock().unwrap());
    }
}

#[test]
fn a_path_that_no_longer_names_a_regular_file_is_refused_and_the_old_file_is_unlocked() {
    for open in KINDS {
        let (directory, path) = place();
        let (mut one, renamed) = (open(&path).unwrap(), directory.path().join("renamed"));
        fs::rename(&path, &renamed).unwrap();
        symlink(&renamed, &path).unwrap();
        for _ in 0..2 {
            let refusal = one.lock().unwrap_err();
            assert!(matches!(refusal, Error::SymbolicLink { .. }), "{refusal:?}");
            drop(open(&renamed).unwrap().try_lock().unwrap());
        }
        fs::remove_file(&path).unwrap();
        drop(one.lock().unwrap());
    }
}
