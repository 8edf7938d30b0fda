//! Limits of the process, and namespaces: each refusal names its cause and leaves nothing behind.

use super::{create, names, open, open_or_create, place};
use crate::disk::enter_new;
use crate::files::unfinished::without_unnamed_files;
use crate::harness::skip;
use crate::support::{as_root, become_unprivileged, child, passes};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sched::CloneFlags;
use nix::sys::mman::{MlockAllFlags, mlockall, munlockall};
use nix::sys::resource::{Resource, setrlimit};
use pshared::{Error, FileLock, Map, MapOptions, Shared, SharedCounter, SharedMutex};
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

crate::tests!(
    a_limit_on_locked_memory_is_named_by_every_kind_of_map,
    with_too_few_descriptors_every_call_says_so_and_leaves_nothing_behind,
    with_too_few_descriptors_a_file_that_is_built_under_a_name_is_removed,
    the_owner_of_a_file_that_the_user_namespace_does_not_map_is_reported_as_such,
);

fn a_limit_on_locked_memory_is_named_by_every_kind_of_map() {
    const LEN: usize = 4 << 20;
    let (directory, path) = place();
    let file = tempfile::tempfile().unwrap();
    file.set_len(LEN as u64).unwrap();
    let (_, hard) = nix::sys::resource::getrlimit(Resource::RLIMIT_MEMLOCK).unwrap();
    let hard = hard.max(1 << 20);
    if setrlimit(Resource::RLIMIT_MEMLOCK, 1 << 20, hard).is_err() {
        skip("needs a limit of locked memory (RLIMIT_MEMLOCK) of 1 MiB");
    }
    if nix::unistd::geteuid().is_root() {
        // Root may lock any amount.
        nix::unistd::chown(directory.path(), Some(65534.into()), None).unwrap();
        become_unprivileged();
    }
    // What the test itself allocates is locked too, and fits the larger limit.
    for limit in [1 << 20, 0] {
        setrlimit(Resource::RLIMIT_MEMLOCK, 1 << 20, hard).unwrap();
        mlockall(MlockAllFlags::MCL_FUTURE).unwrap();
        if locks_nothing() {
            skip("mlockall(2) has no effect, as under AddressSanitizer");
        }
        setrlimit(Resource::RLIMIT_MEMLOCK, limit, hard).unwrap();
        let map_file = |options: MapOptions| {
            // SAFETY: no other process has this temporary file.
            unsafe { Map::file(&file, options) }.map(drop)
        };
        // SAFETY: only this test knows the directory.
        let created = unsafe { Shared::<[u8]>::create_zeroed_slice(&path, LEN) };
        let refusals = [
            Map::anonymous(LEN).map(drop),
            Map::dev_zero(LEN).map(drop),
            Map::memfd("locked", LEN).map(drop),
            Shared::<[u8]>::zeroed_slice(LEN).map(drop),
            map_file(MapOptions::shared()),
            map_file(MapOptions::shared().prefault()),
            map_file(MapOptions::private()),
            map_file(MapOptions::private().read_only()),
            created.map(drop),
        ];
        munlockall().unwrap();
        for (index, refusal) in refusals.into_iter().enumerate() {
            let refusal = refusal.unwrap_err();
            assert!(
                matches!(refusal, Error::LockedMemoryLimit { limit: found, .. } if found == limit),
                "{index}: {refusal:?}"
            );
            let message = refusal.to_string();
            for part in [
                "mlockall(MCL_FUTURE)",
                &format!("limit of {limit} bytes"),
                "RLIMIT_MEMLOCK",
            ] {
                assert!(message.contains(part), "no {part:?} in {message:?}");
            }
        }
    }
    assert!(names(directory.path()).is_empty());
    drop(Map::anonymous(LEN).unwrap());
}

/// The number of descriptors that the process may have in these tests.
const LIMIT: i32 = 64;

/// Returns the number of open descriptors. Needs none itself.
fn open_descriptors() -> usize {
    let is_open = |number: &i32| {
        // SAFETY: `fcntl(F_GETFD)` fails on a number that is not open, and changes nothing.
        let number = unsafe { BorrowedFd::borrow_raw(*number) };
        fcntl(number, FcntlArg::F_GETFD).is_ok()
    };
    (0..LIMIT).filter(is_open).count()
}

/// Runs `body` with each small number of descriptors left. It returns whether it succeeded. It must
/// with as many as the errors state that a call needs, and must not without any.
fn with_few_descriptors(what: &str, body: &mut dyn FnMut() -> Result<(), Error>) {
    let null = File::open("/dev/null").unwrap();
    let mut needed = None;
    for left in 0..=4 {
        let mut others: Vec<OwnedFd> =
            std::iter::from_fn(|| null.as_fd().try_clone_to_owned().ok()).collect();
        others.truncate(others.len() - left);
        let before = open_descriptors();
        assert_eq!(before + left, LIMIT as usize);
        let outcome = body();
        assert_eq!(open_descriptors(), before, "{what} with {left} descriptors");
        match outcome {
            Ok(()) => needed = needed.or(Some(left)),
            Err(Error::NoDescriptors {
                limit: Some(64),
                needed: stated,
                ref call,
            }) => {
                assert!(needed.is_none() && stated > left as u32, "{what}: {left}");
                assert!(!call.is_empty());
                let message = outcome.unwrap_err().to_string();
                assert!(
                    message.contains("no file descriptor left of the 64")
                        && message.contains("opens up to 3 at once")
                        && message.contains("ulimit -n"),
                    "{message}"
                );
            }
            Err(other) => panic!("{what} with {left} descriptors: {other:?}"),
        }
    }
    assert!(
        needed.is_some_and(|needed| (1..=3).contains(&needed)),
        "{what}: {needed:?}"
    );
}

fn limit_descriptors() {
    // The harness may have given this process descriptors with larger numbers.
    if fs::read_dir("/proc/self/fd").unwrap().count() > LIMIT as usize / 2 {
        skip("this process has many descriptors");
    }
    let limit = LIMIT as u64;
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit).unwrap();
}

/// Creates the file and checks that its locks are in order. Removes it again.
fn create_and_remove(path: &Path) -> Result<(), Error> {
    let made = create(path, SharedMutex::new(1_u64))?;
    assert_eq!(*made.lock().unwrap(), 1);
    fs::remove_file(path).unwrap();
    Ok(())
}

fn with_too_few_descriptors_every_call_says_so_and_leaves_nothing_behind() {
    let (directory, path) = place();
    let (new, lock) = (directory.path().join("new"), directory.path().join("lock"));
    drop(create(&path, SharedMutex::new(1_u64)).unwrap());
    let memfd = Shared::memfd("few", SharedMutex::new(1_u64)).unwrap();
    limit_descriptors();
    let expected = |value: &SharedMutex<u64>| assert_eq!(*value.lock().unwrap(), 1);

    with_few_descriptors("create", &mut || create_and_remove(&new));
    with_few_descriptors("open", &mut || open(&path).map(|value| expected(&value)));
    with_few_descriptors("open_or_create of an existing file", &mut || {
        open_or_create(&path, || SharedMutex::new(2)).map(|value| expected(&value))
    });
    with_few_descriptors("open_or_create of a new file", &mut || {
        let made = open_or_create(&new, || SharedMutex::new(1))?;
        expected(&made);
        fs::remove_file(&new).unwrap();
        Ok(())
    });
    with_few_descriptors("memfd", &mut || {
        Shared::memfd("one", SharedMutex::new(1)).map(|value| expected(&value))
    });
    with_few_descriptors("Map::memfd", &mut || Map::memfd("map", 10).map(drop));
    with_few_descriptors("Map::dev_zero", &mut || Map::dev_zero(10).map(drop));
    with_few_descriptors("flock of a new file", &mut || {
        FileLock::flock(&lock).map(|mut lock| drop(lock.lock().unwrap()))?;
        fs::remove_file(&lock).unwrap();
        Ok(())
    });
    fs::write(&lock, "").unwrap();
    with_few_descriptors("ofd of a file", &mut || FileLock::ofd(&lock).map(drop));
    assert_eq!(names(directory.path()), ["board", "lock"]);

    // The descriptor to receive is one of those that are left.
    let mut received = Vec::new();
    // SAFETY: this test uses the memory only through this crate.
    let descriptor = || unsafe { memfd.as_fd() }.unwrap().try_clone_to_owned();
    with_few_descriptors("from_fd", &mut || {
        let Ok(descriptor) = descriptor() else {
            return Map::memfd("none", 1).map(drop);
        };
        // SAFETY: as above.
        let value = unsafe { Shared::<SharedMutex<u64>>::from_fd(descriptor) }?;
        expected(&value);
        received.push(());
        Ok(())
    });
    assert!(!received.is_empty());
}

fn with_too_few_descriptors_a_file_that_is_built_under_a_name_is_removed() {
    without_unnamed_files();
    let (directory, path) = place();
    limit_descriptors();
    with_few_descriptors("create", &mut || create_and_remove(&path));
    assert!(names(directory.path()).is_empty());
}

/// The exit code of a child that cannot enter a user namespace.
const NO_NAMESPACE: i32 = 78;

fn the_owner_of_a_file_that_the_user_namespace_does_not_map_is_reported_as_such() {
    as_root();
    let (directory, path) = place();
    fs::set_permissions(
        directory.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o777),
    )
    .unwrap();
    drop(create(&path, SharedCounter::new(1)).unwrap());
    // A user who exists: the message names that user.
    passes(&child(|| {
        become_unprivileged();
        let message = open::<SharedCounter>(&path).unwrap_err().to_string();
        assert!(
            message.contains("belongs to user 0") && message.contains("Run as user 0"),
            "{message}"
        );
    }));
    let mapped = child(|| {
        let user = nix::unistd::Uid::from_raw(1000);
        nix::unistd::setresuid(user, user, user).unwrap();
        // Otherwise the process may not write its own maps of ids.
        nix::sys::prctl::set_dumpable(true).unwrap();
        if enter_new(CloneFlags::empty()).is_err() {
            std::process::exit(NO_NAMESPACE);
        }
        let refusal = open::<SharedCounter>(&path).unwrap_err();
        assert!(
            matches!(
                refusal,
                Error::OwnerMismatch {
                    is_mapped: false,
                    expected: 0,
                    ..
                }
            ),
            "{refusal:?}"
        );
        let message = refusal.to_string();
        assert!(
            message.contains("no id in the user namespace of this process")
                && message.contains("uid_map")
                && !message.contains("Run as user"),
            "{message}"
        );
    });
    if mapped.wait().unwrap().code() == Some(NO_NAMESPACE) {
        skip("a user namespace is not permitted here");
    }
    passes(&mapped);
}

/// Whether a new map is not locked, although the process asked for that.
fn locks_nothing() -> bool {
    let map = Map::anonymous(4096).unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    drop(map);
    let locked = status.lines().find_map(|line| line.strip_prefix("VmLck:"));
    locked.is_some_and(|locked| locked.trim() == "0 kB")
}
