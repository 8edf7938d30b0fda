//! Files that are removed or replaced while processes open them or use them, as tmp cleaners and
//! upgrades do.

use super::{Lock, create, create_and_close, open, open_lock, open_or_create, place};
use crate::steps::{Signal, sleeps_in, until_idly};
use crate::support::{child, passes, sleeps};
use pshared::{Error, Shared, SharedMutex};
use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;

crate::tests!(
    an_opener_that_waited_for_a_removed_file_opens_its_successor,
    an_opener_that_waited_for_a_removed_file_finds_none_or_creates_one,
    a_value_knows_whether_its_file_is_current,
    a_waiter_for_a_lock_in_a_replaced_file_gets_an_error_and_no_guard,
    an_error_of_a_replaced_file_says_what_to_do,
);

/// Starts `opener`, which waits because another program holds the file's lock, and calls `change`
/// before the lock is released.
fn while_it_waits(path: &Path, opener: impl FnOnce(), change: impl FnOnce()) {
    let file = fs::File::open(path).unwrap();
    // SAFETY: the call takes only integers.
    let answer = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) };
    assert_eq!(answer, 0);
    let opener = child(|| {
        // SAFETY: the descriptor is a copy of the parent's, which this process does not use.
        unsafe { libc::close(file.as_raw_fd()) };
        opener();
    });
    until_idly(|| sleeps_in(opener.id(), libc::SYS_clock_nanosleep));
    change();
    drop(file);
    passes(&opener);
}

fn an_opener_that_waited_for_a_removed_file_opens_its_successor() {
    let (directory, path) = place();
    for create_missing in [false, true] {
        create_and_close(&path, SharedMutex::new(1_u64));
        let opener = || {
            let lock = match create_missing {
                false => open_lock(&path),
                true => open_or_create(&path, || -> Lock { unreachable!() }).unwrap(),
            };
            assert_eq!(*lock.lock().unwrap(), 2);
        };
        while_it_waits(&path, opener, || {
            let next = directory.path().join("next");
            create_and_close(&next, SharedMutex::new(2_u64));
            fs::rename(&next, &path).unwrap();
        });
        fs::remove_file(&path).unwrap();
    }
}

fn an_opener_that_waited_for_a_removed_file_finds_none_or_creates_one() {
    let (_directory, path) = place();
    create_and_close(&path, SharedMutex::new(1_u64));
    let opener = || {
        let refusal = open::<Lock>(&path).unwrap_err();
        assert!(matches!(refusal, Error::NotFound { .. }), "{refusal:?}");
    };
    while_it_waits(&path, opener, || fs::remove_file(&path).unwrap());
    create_and_close(&path, SharedMutex::new(1_u64));
    let opener = || {
        let lock = open_or_create(&path, || SharedMutex::new(3_u64)).unwrap();
        assert_eq!(*lock.lock().unwrap(), 3);
    };
    while_it_waits(&path, opener, || fs::remove_file(&path).unwrap());
    assert_eq!(*open_lock(&path).lock().unwrap(), 3);
}

#[track_caller]
fn is_replaced<T>(outcome: Result<T, Error>, expected: &Path, what: &str) {
    match outcome {
        Err(Error::FileReplaced { path, found }) if path == expected && found == what => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("current"),
    }
}

fn a_value_knows_whether_its_file_is_current() {
    let (directory, path) = place();
    std::env::set_current_dir(directory.path()).unwrap();
    // A relative path still names the file after a `chdir`.
    let first = create(Path::new("board"), SharedMutex::new(1_u64)).unwrap();
    let second = open_lock(Path::new("./board"));
    std::env::set_current_dir("/").unwrap();
    assert!(first.is_current().unwrap() && second.is_current().unwrap());
    assert_eq!(*first.current().unwrap().lock().unwrap(), 1);
    let renamed = directory.path().join("renamed");
    fs::rename(&path, &renamed).unwrap();
    assert!(!first.is_current().unwrap());
    is_replaced(second.current(), &path, "was removed");
    let successor = create(&path, SharedMutex::new(2_u64)).unwrap();
    assert!(successor.is_current().unwrap() && !first.is_current().unwrap());
    is_replaced(first.current(), &path, "was replaced by another file");
    let checked = second.checked();
    is_replaced(checked.get(), &path, "was replaced by another file");
    drop(successor);
    fs::rename(&renamed, &path).unwrap();
    assert_eq!(*checked.get().unwrap().lock().unwrap(), 1);
    fs::remove_dir_all(directory.path()).unwrap();
    is_replaced(checked.with(|_| unreachable!()), &path, "was removed");

    let anonymous = Shared::anonymous(SharedMutex::new(0_u64)).unwrap();
    let memfd = Shared::memfd("board", SharedMutex::new(0_u64)).unwrap();
    assert!(anonymous.is_current().unwrap() && memfd.is_current().unwrap());
}

fn a_waiter_for_a_lock_in_a_replaced_file_gets_an_error_and_no_guard() {
    let (_directory, path) = place();
    let first = create(&path, SharedMutex::new(1_u64)).unwrap();
    let locked = Signal::new();
    let waiter = child(|| {
        locked.wait();
        let checked = open_lock(&path).checked();
        let outcome = checked.with(|lock| lock.lock());
        is_replaced(outcome, &path, "was replaced by another file");
        // The guard was dropped: this lock is free again.
        drop(checked.unchecked().try_lock().unwrap());
        let checked = open_lock(&path).checked();
        assert_eq!(*checked.with(|lock| lock.lock()).unwrap().unwrap(), 2);
    });
    let held = first.lock().unwrap();
    locked.give();
    until_idly(|| sleeps(waiter.id()));
    fs::remove_file(&path).unwrap();
    create_and_close(&path, SharedMutex::new(2_u64));
    drop(held);
    passes(&waiter);
}

fn an_error_of_a_replaced_file_says_what_to_do() {
    let (_directory, path) = place();
    let lock = create(&path, SharedMutex::new(1_u64)).unwrap();
    fs::remove_file(&path).unwrap();
    let message = lock.current().unwrap_err().to_string();
    for part in [
        path.to_str().unwrap(),
        "was removed",
        "Drop the value, and open it again",
    ] {
        assert!(message.contains(part), "{message}");
    }
}
