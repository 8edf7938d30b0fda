//! File systems without unnamed temporary files (`O_TMPFILE`): a file is built under a temporary
//! name. If its creator dies, the next creator removes it.
//!
//! On a current kernel nearly every local file system supports `O_TMPFILE`, so a seccomp filter
//! rejects the flag instead.

use super::{count, create, names, open_or_create, place};
use crate::harness::skip;
use crate::steps::Signal;
use crate::support::{child, kill, passes};
use pshared::{Error, SharedCounter, SharedMutex};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

crate::tests!(
    a_file_is_built_under_a_temporary_name_and_keeps_only_its_own,
    leftovers_of_a_dead_creator_are_removed_by_the_next,
    an_unfinished_file_of_a_living_creator_is_kept,
    files_that_only_resemble_unfinished_ones_are_kept,
    the_longest_file_name_can_be_created,
);

/// The system call by which the C library opens a file, and the position of the flags among its
/// arguments.
const OPEN: (libc::c_long, u32) = {
    #[cfg(all(target_env = "musl", target_arch = "x86_64"))]
    let call = (libc::SYS_open, 1);
    #[cfg(not(all(target_env = "musl", target_arch = "x86_64")))]
    let call = (libc::SYS_openat, 2);
    call
};

/// Makes the kernel reject `O_TMPFILE` in this process and its children, with `EOPNOTSUPP`.
pub fn without_unnamed_files() {
    const TMPFILE: u32 = (libc::O_TMPFILE & !libc::O_DIRECTORY) as u32;
    let load = |offset| instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
    let answer = |value| instruction(libc::BPF_RET | libc::BPF_K, value, 0, 0);
    // `struct seccomp_data`: the call's number, then, from byte 16, its six arguments. The lower
    // half of an argument comes first.
    let (call, position) = OPEN;
    let (number, flags) = (0, 16 + position * 8);
    let mut program = [
        load(number),
        instruction(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            call as u32,
            0,
            2,
        ),
        load(flags),
        instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, TMPFILE, 1, 0),
        answer(libc::SECCOMP_RET_ALLOW),
        answer(libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP as u32),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program is valid during the call.
    let answer = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    if answer != 0 {
        skip(&format!(
            "no seccomp filters here: {}",
            std::io::Error::last_os_error()
        ));
    }
    let directory = tempfile::tempdir().unwrap();
    let unnamed = nix::fcntl::open(
        directory.path(),
        nix::fcntl::OFlag::O_TMPFILE | nix::fcntl::OFlag::O_RDWR,
        nix::sys::stat::Mode::S_IRUSR,
    );
    assert_eq!(unnamed.unwrap_err(), nix::errno::Errno::EOPNOTSUPP);
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

fn is_unfinished(name: &str) -> bool {
    let random = name.strip_prefix(".board.pshared-unfinished-");
    random.is_some_and(|random| {
        random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// Starts a child that begins to create a file. It gives `begun`, and continues when it receives
/// `go_on`.
fn creator<'a>(path: &'a Path, begun: &'a Signal, go_on: &'a Signal) -> pshared::fork::Child {
    child(|| {
        let value = open_or_create(path, || {
            begun.give();
            go_on.wait();
            SharedCounter::new(1)
        })
        .unwrap();
        value.add(10);
    })
}

fn a_file_is_built_under_a_temporary_name_and_keeps_only_its_own() {
    without_unnamed_files();
    let (directory, path) = place();
    let (begun, go_on) = (Signal::new(), Signal::new());
    let creator = creator(&path, &begun, &go_on);
    begun.wait();
    let [name] = &names(directory.path())[..] else {
        panic!("not one name")
    };
    assert!(is_unfinished(name), "{name}");
    go_on.give();
    passes(&creator);
    assert_eq!(names(directory.path()), ["board"]);
    let metadata = fs::metadata(&path).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.nlink()), (0o600, 1));
    assert_eq!(count(&path), 11);
    let refusal = create(&path, SharedCounter::new(8)).unwrap_err();
    assert!(
        matches!(refusal, Error::AlreadyExists { .. }),
        "{refusal:?}"
    );
    let refusal = create(
        &directory.path().join("n".repeat(300)),
        SharedCounter::new(8),
    )
    .unwrap_err();
    assert!(refusal.to_string().contains("os error 36"), "{refusal}");
    assert_eq!(names(directory.path()), ["board"]);
    assert_eq!(count(&path), 11);
}

fn leftovers_of_a_dead_creator_are_removed_by_the_next() {
    without_unnamed_files();
    let (directory, path) = place();
    let (begun, go_on) = (Signal::new(), Signal::new());
    for left in 1..=3 {
        let killed = creator(&path, &begun, &go_on);
        begun.wait();
        // This creator removed the file of the previous one.
        assert_eq!(names(directory.path()).len(), 1, "creator {left}");
        kill(&killed);
        assert!(
            names(directory.path())
                .iter()
                .all(|name| is_unfinished(name))
        );
    }
    drop(create(&path, SharedMutex::new(5)).unwrap());
    assert_eq!(names(directory.path()), ["board"]);
}

fn an_unfinished_file_of_a_living_creator_is_kept() {
    without_unnamed_files();
    let (directory, path) = place();
    let (begun, go_on) = (Signal::new(), Signal::new());
    let slow = creator(&path, &begun, &go_on);
    begun.wait();
    drop(create(&path, SharedCounter::new(100)).unwrap());
    assert_eq!(names(directory.path()).len(), 2);
    go_on.give();
    // The slow creator finds the file that a faster one created, and uses it.
    passes(&slow);
    assert_eq!(count(&path), 110);
    assert_eq!(names(directory.path()), ["board"]);
}

fn files_that_only_resemble_unfinished_ones_are_kept() {
    without_unnamed_files();
    let (directory, path) = place();
    let below = |name: &str| directory.path().join(name);
    let unfinished = ".board.pshared-unfinished-";
    let kept = [
        format!("{unfinished}backup"),
        format!("{unfinished}0123456789abcdef0"),
        format!("{unfinished}0123456789abcdeg"),
        ".other.pshared-unfinished-0123456789abcdef".into(),
    ];
    for name in &kept {
        fs::write(below(name), "").unwrap();
        fs::set_permissions(below(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    // These are not regular files, so they are neither opened nor followed.
    let fifo = format!("{unfinished}0000000000000001");
    nix::unistd::mkfifo(&below(&fifo), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let link = format!("{unfinished}0000000000000002");
    std::os::unix::fs::symlink(below(&kept[0]), below(&link)).unwrap();
    let inside = format!("{unfinished}0000000000000003");
    fs::create_dir(below(&inside)).unwrap();
    drop(create(&path, SharedCounter::new(1)).unwrap());
    let mut expected = [&kept[..], &[fifo, link, inside, "board".into()]].concat();
    expected.sort();
    assert_eq!(names(directory.path()), expected);
}

fn the_longest_file_name_can_be_created() {
    without_unnamed_files();
    let directory = tempfile::tempdir().unwrap();
    let name = "n".repeat(255);
    let path = directory.path().join(&name);
    drop(create(&path, SharedCounter::new(4)).unwrap());
    assert_eq!(names(directory.path()), [name]);
    assert_eq!(count(&path), 4);
}
