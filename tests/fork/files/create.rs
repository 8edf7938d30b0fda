//! Creation by one process among others.

use super::{count, create, names, open, open_or_create, place};
use crate::harness::skip;
use crate::steps::{Random, Signal};
use crate::support::{as_root, child, kill, passes};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, chdir, geteuid, seteuid};
use pshared::{Error, FileLock, Map, MapOptions, Shared, SharedCounter, SharedMutex};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

crate::tests!(
    a_new_file_is_private_under_every_umask,
    a_file_of_another_effective_user_is_refused,
    relative_paths_start_at_the_working_directory,
    a_creator_killed_while_it_makes_the_value_leaves_no_file,
    a_half_written_file_is_never_opened,
    a_leased_file_does_not_block_the_caller,
    a_thread_with_descriptors_of_its_own_creates_and_opens_files,
    every_child_counts_in_a_file,
    a_file_size_limit_is_an_error_and_kills_no_process,
    without_proc_the_error_names_proc,
);

fn a_new_file_is_private_under_every_umask() {
    for mask in [0o000, 0o777, 0o077, 0o022] {
        let (_directory, path) = place();
        umask(Mode::from_bits_truncate(mask));
        drop(create(&path, SharedCounter::new(1)).unwrap());
        umask(Mode::from_bits_truncate(0o022));
        assert_eq!(
            fs::metadata(&path).unwrap().mode() & 0o7777,
            0o600,
            "under {mask:04o}"
        );
        assert_eq!(count(&path), 1);
    }
}

fn a_file_of_another_effective_user_is_refused() {
    if !geteuid().is_root() {
        skip("needs root, to become another user");
    }
    let (directory, path) = place();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    drop(create(&path, SharedCounter::new(1)).unwrap());
    seteuid(Uid::from_raw(65534)).unwrap();
    let before = fs::metadata(&path).unwrap();
    let refusal = open::<SharedCounter>(&path).unwrap_err();
    assert!(
        matches!(
            refusal,
            Error::OwnerMismatch {
                found: 0,
                expected: 65534,
                ..
            }
        ),
        "{refusal:?}"
    );
    let after = fs::metadata(&path).unwrap();
    assert_eq!(
        (before.mode(), before.mtime_nsec(), before.ctime_nsec()),
        (after.mode(), after.mtime_nsec(), after.ctime_nsec()),
    );
    // What the effective user creates belongs to that user.
    let own = directory.path().join("own");
    let value = create(&own, SharedMutex::new(5)).unwrap();
    assert_eq!(*open::<SharedMutex<i32>>(&own).unwrap().lock().unwrap(), 5);
    seteuid(Uid::from_raw(0)).unwrap();
    let refusal = open::<SharedMutex<i32>>(&own).unwrap_err();
    assert!(
        matches!(
            refusal,
            Error::OwnerMismatch {
                found: 65534,
                expected: 0,
                ..
            }
        ),
        "{refusal:?}"
    );
    assert_eq!(*value.lock().unwrap(), 5);
}

fn relative_paths_start_at_the_working_directory() {
    let directory = tempfile::tempdir().unwrap();
    chdir(directory.path()).unwrap();
    drop(create(Path::new("board"), SharedCounter::new(3)).unwrap());
    assert_eq!(count(Path::new("board")), 3);
    fs::create_dir("below").unwrap();
    drop(open_or_create(Path::new("below/../other"), || SharedCounter::new(4)).unwrap());
    assert_eq!(count(&directory.path().join("other")), 4);
    assert_eq!(names(directory.path()), ["below", "board", "other"]);
}

fn a_creator_killed_while_it_makes_the_value_leaves_no_file() {
    let (directory, path) = place();
    let in_it = Signal::new();
    let creator = child(|| {
        let _ = open_or_create(&path, || -> SharedCounter {
            in_it.give();
            loop {
                nix::unistd::pause();
            }
        });
    });
    in_it.wait();
    assert!(names(directory.path()).is_empty());
    kill(&creator);
    assert!(names(directory.path()).is_empty());
    drop(create(&path, SharedCounter::new(1)).unwrap());
    assert_eq!(names(directory.path()), ["board"]);
}

/// A value that is whole only if all of its words are equal and not 0.
type Whole = [SharedCounter; 2_000];

fn whole(number: u64) -> Whole {
    [(); 2_000].map(|()| SharedCounter::new(number))
}

fn a_half_written_file_is_never_opened() {
    let (directory, path) = place();
    let over = Shared::anonymous(SharedCounter::new(0)).unwrap();
    let reader = || {
        let mut seen = 0;
        // Runs until it has seen 20 values and both writers are done.
        while seen < 20 || over.get() < 2 {
            match open::<Whole>(&path) {
                Ok(value) => {
                    let number = value[0].get();
                    assert!(number > 0 && value.iter().all(|word| word.get() == number));
                    seen += 1;
                }
                Err(Error::NotFound { .. }) => {}
                Err(other) => panic!("{other}"),
            }
        }
    };
    let readers = [child(reader), child(reader)];
    let writers = [1, 2].map(|number| {
        let (path, over) = (&path, &over);
        child(move || {
            for _ in 0..400 {
                match create(path, whole(number)) {
                    Ok(value) => drop(value),
                    Err(Error::AlreadyExists { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
                match fs::remove_file(path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
                    _ => {}
                }
            }
            over.add(1);
        })
    });
    writers.iter().for_each(passes);
    // Creates the file once more for readers that started late.
    drop(open_or_create(&path, || whole(3)).unwrap());
    readers.iter().for_each(passes);
    assert_eq!(names(directory.path()), ["board"]);
}

fn a_leased_file_does_not_block_the_caller() {
    let (_directory, path) = place();
    drop(create(&path, SharedCounter::new(1)).unwrap());
    let (leased, over) = (Signal::new(), Signal::new());
    let lessee = child(|| {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        // SAFETY: `signal` changes a signal's disposition, and `fcntl` takes numbers only.
        unsafe {
            // The kernel requests the lease back by SIGIO.
            libc::signal(libc::SIGIO, libc::SIG_IGN);
            use std::os::fd::AsRawFd;
            assert_eq!(
                libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK),
                0
            );
        }
        leased.give();
        over.wait();
    });
    leased.wait();
    // A blocking open would wait up to 45 seconds for the lessee.
    let refusal = open::<SharedCounter>(&path).unwrap_err();
    assert!(matches!(refusal, Error::Os { .. }), "{refusal:?}");
    assert!(
        refusal
            .to_string()
            .contains("Resource temporarily unavailable"),
        "{refusal}"
    );
    over.give();
    passes(&lessee);
    assert_eq!(count(&path), 1);
}

fn a_thread_with_descriptors_of_its_own_creates_and_opens_files() {
    let (_directory, path) = place();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FILES).unwrap();
            drop(create(&path, SharedCounter::new(7)).unwrap());
            assert_eq!(count(&path), 7);
        });
        thread.join().unwrap();
    });
}

fn every_child_counts_in_a_file() {
    let (_directory, path) = place();
    let shared = create(&path, SharedMutex::new(0_u64)).unwrap();
    let mut random = Random::new(7);
    let children: Vec<_> = (0..6)
        .map(|_| {
            let (path, inherits, rounds) = (&path, random.below(2) == 0, 100 + random.below(100));
            let shared = &shared;
            let body = move || {
                let opened = (!inherits).then(|| open::<SharedMutex<u64>>(path).unwrap());
                let lock = opened.as_deref().unwrap_or(shared);
                (0..rounds).for_each(|_| *lock.lock().unwrap() += 1);
            };
            (child(body), rounds)
        })
        .collect();
    let rounds: u64 = children.iter().map(|(_, rounds)| rounds).sum();
    children.iter().for_each(|(child, _)| passes(child));
    assert_eq!(*shared.lock().unwrap(), rounds);
}

/// SIGXFSZ has its default action here, which kills.
fn a_file_size_limit_is_an_error_and_kills_no_process() {
    const LIMIT: u64 = 16 << 10;
    const LARGE: usize = 1 << 20;
    let (directory, path) = place();
    let existing = directory.path().join("existing");
    fs::write(&existing, vec![1; LARGE]).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, LIMIT, LIMIT).unwrap();

    let memfd = Map::memfd("large", LARGE).unwrap_err();
    assert!(
        matches!(memfd, Error::FileSizeLimit { path: None, len, limit: LIMIT } if len == LARGE as u64),
        "{memfd:?}"
    );
    let message = memfd.to_string();
    assert!(message.contains("16384 bytes (RLIMIT_FSIZE"), "{message}");

    // SAFETY: only this test knows the directory.
    let slice = unsafe { Shared::create_from_fn(&path, LARGE, |_| SharedCounter::new(1)) };
    let file = slice.unwrap_err();
    assert!(
        matches!(&file, Error::FileSizeLimit { path: Some(named), .. } if *named == path),
        "{file:?}"
    );
    assert_eq!(names(directory.path()), ["existing"]);

    // A file that is large already is not extended, so the limit does not matter.
    let large = fs::File::options()
        .read(true)
        .write(true)
        .open(&existing)
        .unwrap();
    // SAFETY: only this test uses the file.
    drop(unsafe { Map::file(&large, MapOptions::shared().len(LARGE).reserve()) }.unwrap());
    let beyond = MapOptions::shared().len(2 * LARGE).reserve();
    // SAFETY: as above.
    let refusal = unsafe { Map::file(&large, beyond) }.unwrap_err();
    assert!(
        matches!(refusal, Error::FileSizeLimit { .. }),
        "{refusal:?}"
    );

    // What fits is created.
    drop(create(&path, SharedCounter::new(1)).unwrap());
    assert_eq!(count(&path), 1);
}

fn without_proc_the_error_names_proc() {
    as_root();
    let (directory, path) = place();
    let existing = directory.path().join("existing");
    drop(create(&existing, SharedCounter::new(1)).unwrap());
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let empty = MsFlags::empty();
    mount(Some("none"), "/proc", Some("tmpfs"), empty, None::<&str>).unwrap();

    let names_proc = |error: Error, path: &Path| {
        let is_named = matches!(&error, Error::ProcMissing { path: named } if named == path);
        assert!(is_named, "{error:?}");
        let message = error.to_string();
        assert!(message.contains("mount -t proc proc /proc"), "{message}");
    };
    names_proc(create(&path, SharedCounter::new(1)).unwrap_err(), &path);
    names_proc(open::<SharedCounter>(&existing).unwrap_err(), &existing);
    let created = |path| open_or_create(path, || SharedCounter::new(1)).unwrap_err();
    names_proc(created(&path), &path);
    names_proc(created(&existing), &existing);
    names_proc(FileLock::flock(&existing).unwrap_err(), &existing);
    names_proc(FileLock::ofd(&existing).unwrap_err(), &existing);
    assert_eq!(names(directory.path()), ["existing"]);

    let refusal = pshared::fork::spawn(|| {}).unwrap_err().to_string();
    assert!(
        refusal.contains("/proc/self/task") && refusal.contains("Mount /proc"),
        "{refusal}"
    );

    // What the error proposes works, and so does all that needs no file of this crate.
    let memfd = Shared::memfd("board", SharedMutex::new(1)).unwrap();
    // SAFETY: the descriptor is only passed to another map of this crate.
    let descriptor = unsafe { memfd.as_fd() }.unwrap().try_clone_to_owned();
    // SAFETY: as above.
    let received = unsafe { Shared::<SharedMutex<i32>>::from_fd(descriptor.unwrap()) }.unwrap();
    *received.lock().unwrap() += 1;
    assert_eq!(*memfd.lock().unwrap(), 2);
    drop(Shared::anonymous(SharedMutex::new(1)).unwrap());
    drop(Map::dev_zero(1).unwrap());
    let file = tempfile::tempfile().unwrap();
    // SAFETY: no other process has this temporary file.
    drop(unsafe { Map::file(&file, MapOptions::shared().len(10).reserve()) }.unwrap());
}
