//! Values in files: creating and opening them, and everything that is refused and left as it was.

use pshared::memory::Placeable;
use pshared::{Error, Shared, SharedCounter, ShmSafe};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Returns a test's own directory, and an unused path in it.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("board");
    (directory, path)
}

fn create<T: ShmSafe>(path: &Path, value: T) -> Result<Shared<T>, Error> {
    // SAFETY: the files of these tests lie in directories that belong to one test each.
    unsafe { Shared::create(path, value) }
}

fn create_slice<T: ShmSafe>(
    path: &Path,
    len: usize,
    value: impl FnMut(usize) -> T,
) -> Result<Shared<[T]>, Error> {
    // SAFETY: as above.
    unsafe { Shared::create_from_fn(path, len, value) }
}

fn open<T: ?Sized + Placeable>(path: &Path) -> Result<Shared<T>, Error> {
    // SAFETY: as above; a file that a test tampered with is not in use.
    unsafe { Shared::open(path) }
}

fn open_or_create<T: ShmSafe>(path: &Path, value: impl FnOnce() -> T) -> Result<Shared<T>, Error> {
    // SAFETY: as above.
    unsafe { Shared::open_or_create(path, value) }
}

fn assert_says(error: &Error, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "no {part:?} in {message:?}");
    }
}

/// Everything in a file that opening it might change.
#[derive(Debug, PartialEq)]
struct State {
    kind: u32,
    mode: u32,
    owner: u32,
    inode: u64,
    names: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    bytes: Option<Vec<u8>>,
}

impl State {
    fn of(path: &Path) -> Self {
        let metadata = fs::symlink_metadata(path).unwrap();
        State {
            kind: metadata.mode() & libc::S_IFMT,
            mode: metadata.mode() & 0o7777,
            owner: metadata.uid(),
            inode: metadata.ino(),
            names: metadata.nlink(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            bytes: metadata.is_file().then(|| fs::read(path).unwrap()),
        }
    }
}

/// Opens a file that must be refused, by `open` and by `open_or_create`, and checks that it is
/// unchanged. Returns the error.
fn refusal<T: ShmSafe>(path: &Path) -> Error {
    let before = State::of(path);
    let Err(error) = open::<T>(path) else {
        panic!("{} was opened", path.display());
    };
    assert_eq!(State::of(path), before);
    assert_says(&error, &[&path.display().to_string()]);
    let Err(again) = open_or_create::<T>(path, || unreachable!("the file exists")) else {
        panic!("{} was opened, or created", path.display());
    };
    assert_eq!(State::of(path), before);
    assert_eq!(error.to_string(), again.to_string());
    error
}

/// Asserts that the file is refused: `refused!(path, type, pattern, "part of the message")`.
macro_rules! refused {
    ($path:expr, $ty:ty, $pattern:pat, $($part:expr),+ $(,)?) => {
        match refusal::<$ty>(&$path) {
            error @ $pattern => assert_says(&error, &[$($part.as_ref()),+]),
            other => panic!("not {}: {other:?}", stringify!($pattern)),
        }
    };
}

mod layouts;
mod refused;

/// Creates a file with a counter at 7 that no process uses.
fn file_of_seven() -> (TempDir, PathBuf) {
    let (directory, path) = place();
    drop(create(&path, SharedCounter::new(7)).unwrap());
    (directory, path)
}

fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

fn descriptor<T: ?Sized + Placeable>(shared: &Shared<T>) -> i32 {
    // SAFETY: the descriptor is only read.
    unsafe { shared.as_fd() }.unwrap().as_raw_fd()
}

#[test]
fn a_created_value_can_be_opened_repeatedly_and_is_the_same_memory() {
    let (_directory, path) = place();
    let ours = create(&path, SharedCounter::new(5)).unwrap();
    let theirs = open::<SharedCounter>(&path).unwrap();
    ours.add(1);
    assert_eq!(theirs.get(), 6);
    drop((ours, theirs));
    let later = open::<SharedCounter>(&path).unwrap();
    assert_eq!(later.add(1), 6);
    let third = open_or_create(&path, || -> SharedCounter { unreachable!() }).unwrap();
    assert_eq!(third.get(), 7);
}

#[test]
fn a_new_file_is_private_and_has_all_its_blocks_and_one_name() {
    let (directory, path) = place();
    let value = create_slice(&path, 50_000, |_| SharedCounter::new(1)).unwrap();
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    assert_eq!(metadata.nlink(), 1);
    assert!(metadata.len() > 400_000);
    assert!(metadata.blocks() * 512 >= metadata.len(), "{metadata:?}");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    // SAFETY: the call takes numbers only.
    let flags = unsafe { libc::fcntl(descriptor(&value), libc::F_GETFD) };
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
}

#[test]
fn creating_over_an_existing_file_keeps_it() {
    let (directory, path) = file_of_seven();
    let before = State::of(&path);
    let refusal = create(&path, SharedCounter::new(8)).unwrap_err();
    assert!(
        matches!(refusal, Error::AlreadyExists { .. }),
        "{refusal:?}"
    );
    assert_says(
        &refusal,
        &[
            &path.display().to_string(),
            "Shared::open",
            "open_or_create",
        ],
    );
    assert_eq!(State::of(&path), before);
    assert_eq!(open::<SharedCounter>(&path).unwrap().get(), 7);

    let refusal = create_slice(&path, 3, |_| SharedCounter::new(8)).unwrap_err();
    assert!(
        matches!(refusal, Error::AlreadyExists { .. }),
        "{refusal:?}"
    );
    let refusal = create(directory.path(), SharedCounter::new(8)).unwrap_err();
    assert!(
        matches!(refusal, Error::AlreadyExists { .. }),
        "{refusal:?}"
    );
    let link = directory.path().join("link");
    symlink("nowhere", &link).unwrap();
    let refusal = create(&link, SharedCounter::new(8)).unwrap_err();
    assert!(
        matches!(refusal, Error::AlreadyExists { .. }),
        "{refusal:?}"
    );
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
}

#[test]
fn a_failed_creation_leaves_no_file() {
    let (directory, path) = place();
    let panic = std::panic::catch_unwind(|| {
        let _ = open_or_create(&path, || -> SharedCounter { panic!("no value") });
    });
    assert!(panic.is_err());
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);

    let refusal = create(&directory.path().join("no/board"), SharedCounter::new(1)).unwrap_err();
    assert_says(&refusal, &["no/board", "No such file or directory"]);
    for unnamed in ["", "/", ".."] {
        let refusal = create(Path::new(unnamed), SharedCounter::new(1)).unwrap_err();
        assert!(matches!(refusal, Error::NoFileName { .. }), "{refusal:?}");
    }
    // A file has at most 2^63 - 1 bytes, and no disk holds that many.
    let refusal =
        create_slice(&path, 1 << 60, |_| -> SharedCounter { unreachable!() }).unwrap_err();
    assert!(
        matches!(refusal, Error::TooLarge | Error::NoSpace { .. }),
        "{refusal:?}"
    );
    let refusal =
        create_slice(&path, 1 << 50, |_| -> SharedCounter { unreachable!() }).unwrap_err();
    assert!(matches!(refusal, Error::NoSpace { .. }), "{refusal:?}");
    assert_says(&refusal, &["board", "no space for"]);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn any_valid_file_name_can_be_created() {
    let directory = tempfile::tempdir().unwrap();
    let longest = "n".repeat(255);
    for name in [
        OsStr::new(&longest),
        OsStr::from_bytes(b"\xff\xfe \n"),
        OsStr::new("-rf"),
    ] {
        let path = directory.path().join(name);
        drop(create(&path, SharedCounter::new(1)).unwrap());
        assert_eq!(open::<SharedCounter>(&path).unwrap().get(), 1);
    }
}

#[test]
fn a_missing_file_is_not_found() {
    let (directory, path) = place();
    for missing in [path, directory.path().join("no/board")] {
        let refusal = open::<SharedCounter>(&missing).unwrap_err();
        assert!(matches!(refusal, Error::NotFound { .. }), "{refusal:?}");
        assert_says(
            &refusal,
            &[
                &missing.display().to_string(),
                "Shared::create",
                "open_or_create",
            ],
        );
    }
}

#[test]
fn a_file_in_place_of_a_directory_is_an_error() {
    let (_directory, path) = file_of_seven();
    let refusal = open::<SharedCounter>(&path.join("board")).unwrap_err();
    assert!(matches!(refusal, Error::Os { .. }), "{refusal:?}");
    assert_says(&refusal, &["board/board", "Not a directory"]);
}

#[test]
fn a_removed_file_stays_usable_and_its_name_is_free() {
    let (_directory, path) = place();
    let old = create(&path, SharedCounter::new(1)).unwrap();
    fs::remove_file(&path).unwrap();
    let new = open_or_create(&path, || SharedCounter::new(2)).unwrap();
    old.add(10);
    assert_eq!((old.get(), new.get()), (11, 2));
}
