//! Files that are not this crate's, not this user's or not intact: each is refused and left as it
//! was.

use super::*;
use pshared::{Cause, LockError, SharedMutex};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

#[test]
fn a_file_with_other_content_is_refused() {
    let (_directory, path) = place();
    let text = "A text file that is long enough for a header. ".repeat(100);
    for content in ["", "short", &text] {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        refused!(
            path,
            SharedCounter,
            Error::InvalidHeader { .. },
            "left as it is"
        );
    }
    fs::write(&path, [0; 10_000]).unwrap();
    refused!(path, SharedCounter, Error::InvalidHeader { .. }, "magic");
}

#[test]
fn a_file_that_was_cut_short_or_added_to_is_refused() {
    let (_directory, path) = file_of_seven();
    let length = fs::metadata(&path).unwrap().len();
    let file = File::options().write(true).open(&path).unwrap();
    for other in [length - 1, length + 1, 4096, 200, 128, length * 1000] {
        file.set_len(other).unwrap();
        refused!(
            path,
            SharedCounter,
            Error::LengthMismatch { .. },
            format!("is {other} bytes long"),
            format!("must be {length}"),
        );
    }
    for other in [127, 8, 1] {
        file.set_len(other).unwrap();
        refused!(
            path,
            SharedCounter,
            Error::InvalidHeader { .. },
            format!("length of {other} bytes is less")
        );
    }
}

#[test]
fn another_version_of_the_format_is_refused() {
    let (_directory, path) = file_of_seven();
    patch(&path, 8, &77_u32.to_ne_bytes());
    refused!(
        path,
        SharedCounter,
        Error::VersionMismatch { found: 77, .. },
        "version 77",
        "reads version 3",
    );
}

/// The directory of a file of musl ends with a line that a file of glibc does not have.
#[test]
fn a_file_of_a_program_with_another_c_library_is_refused() {
    const LINE: &str = "0 0 library:musl \n";
    let (_directory, path) = file_of_seven();
    let bytes = fs::read(&path).unwrap();
    let length = u64::from_ne_bytes(bytes[56..64].try_into().unwrap()) as usize;
    let text = str::from_utf8(&bytes[128..128 + length]).unwrap();
    let (other, found, expected) = match text.strip_suffix(LINE) {
        Some(rest) => (rest.to_owned(), "glibc", "musl"),
        None => (format!("{text}{LINE}"), "musl", "glibc"),
    };
    let fingerprint = other.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    patch(&path, 48, &fingerprint.to_ne_bytes());
    patch(&path, 56, &(other.len() as u64).to_ne_bytes());
    patch(&path, 128, &[0; 200]);
    patch(&path, 128, other.as_bytes());
    refused!(
        path,
        SharedCounter,
        Error::CLibraryMismatch { .. },
        format!("created by a program with {found}"),
        format!("this program has {expected}"),
        "for one C library",
    );
}

#[test]
fn anything_but_a_regular_file_is_refused_without_being_opened() {
    let (directory, path) = place();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
    refused!(
        path,
        SharedCounter,
        Error::NotARegularFile { .. },
        "is a FIFO"
    );
    let socket = directory.path().join("socket");
    let _listener = UnixListener::bind(&socket).unwrap();
    refused!(
        socket,
        SharedCounter,
        Error::NotARegularFile { .. },
        "is a socket"
    );
    refused!(
        directory.path(),
        SharedCounter,
        Error::NotARegularFile { .. },
        "is a directory"
    );
    for device in ["/dev/null", "/dev/zero", "/dev/tty"] {
        if Path::new(device).exists() {
            refused!(
                Path::new(device),
                SharedCounter,
                Error::NotARegularFile { .. },
                "is a character device"
            );
        }
    }
}

#[test]
fn a_symbolic_link_is_refused_and_not_followed() {
    let (directory, path) = file_of_seven();
    let link = directory.path().join("link");
    for target in [path.as_path(), Path::new("nowhere"), Path::new("link")] {
        symlink(target, &link).unwrap();
        refused!(
            link,
            SharedCounter,
            Error::SymbolicLink { .. },
            "give the path it points at"
        );
        fs::remove_file(&link).unwrap();
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    // Links in the directories of the path are followed.
    symlink(directory.path(), &link).unwrap();
    assert_eq!(open::<SharedCounter>(&link.join("board")).unwrap().get(), 7);
    drop(create(&link.join("other"), SharedCounter::new(8)).unwrap());
}

#[test]
fn a_file_that_others_may_use_is_refused() {
    let (_directory, path) = file_of_seven();
    for mode in [0o666, 0o644, 0o620, 0o601, 0o777] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        refused!(
            path,
            SharedCounter,
            Error::InsecureMode { .. },
            format!("has mode {mode:04o}"),
            "chmod it to 0600",
        );
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(open::<SharedCounter>(&path).unwrap().get(), 7);
}

#[test]
fn a_file_of_several_names_is_refused_under_each() {
    let (directory, path) = file_of_seven();
    let second = directory.path().join("second");
    fs::hard_link(&path, &second).unwrap();
    refused!(
        path,
        SharedCounter,
        Error::HardLinked { names: 2, .. },
        "2 names"
    );
    refused!(
        second,
        SharedCounter,
        Error::HardLinked { names: 2, .. },
        "Remove the others"
    );
    fs::remove_file(&path).unwrap();
    assert_eq!(open::<SharedCounter>(&second).unwrap().get(), 7);
}

#[test]
fn another_users_file_is_refused() {
    let own = nix::unistd::geteuid();
    if !own.is_root() {
        refused!(
            Path::new("/etc/passwd"),
            SharedCounter,
            Error::OwnerMismatch { found: 0, .. },
            "Run as user 0"
        );
        return;
    }
    let (_directory, path) = file_of_seven();
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    refused!(
        path,
        SharedCounter,
        Error::OwnerMismatch {
            found: 65534,
            expected: 0,
            ..
        },
        "belongs to user 65534",
        "this process is user 0",
    );
    // Root is refused too, although it could read and write the file. The group does not matter.
    std::os::unix::fs::chown(&path, Some(0), Some(65534)).unwrap();
    assert_eq!(open::<SharedCounter>(&path).unwrap().get(), 7);
}

/// Sets the mark by which this boot of the machine is known to have used the file, or removes it as
/// a reboot does.
fn set_boot_mark(path: &Path, is_set: bool) {
    use std::os::fd::AsRawFd;
    const F_SET_RW_HINT: libc::c_int = 1036;
    let file = File::open(path).unwrap();
    let hint = u64::from(is_set);
    // SAFETY: the call reads eight bytes.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), F_SET_RW_HINT, &raw const hint) };
    assert_eq!(answer, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_change_of_any_header_bit_causes_at_worst_an_error() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Value {
        count: SharedMutex<u32>,
        hits: [SharedCounter; 3],
    }
    let (_directory, path) = place();
    let value = Value {
        count: SharedMutex::new(1),
        hits: [const { SharedCounter::new(2) }; 3],
    };
    drop(create(&path, value).unwrap());
    let whole = fs::read(&path).unwrap();
    // After the fixed part and the directory, the header holds only zeroes.
    let header = 128
        + whole[128..4096]
            .iter()
            .rposition(|byte| *byte != 0)
            .unwrap()
        + 1;
    // `dirty`, boot, namespace and creation time do not describe the value, so changing them is no
    // error. If the file is not known to be of this boot, however, every lock reports a death.
    let of_no_account = [12..16, 64..128];
    let (boot_id, known) = (64..80, 96..100);
    for at in 0..header {
        for bit in 0..8 {
            // A file with the mark of this boot is of this boot, unless the header has another id.
            let marked = bit % 2 == 0;
            set_boot_mark(&path, marked);
            patch(&path, at as u64, &[whole[at] ^ 1 << bit]);
            let opened = open::<Value>(&path);
            if of_no_account.iter().any(|range| range.contains(&at)) {
                let value = opened.unwrap_or_else(|error| panic!("byte {at}: {error}"));
                let reported = match value.count.lock() {
                    Ok(count) => {
                        assert_eq!(*count, 1);
                        false
                    }
                    Err(LockError::Poisoned(poisoned)) => poisoned.cause() == Cause::Died,
                    Err(other) => panic!("byte {at}: {other}"),
                };
                if !known.contains(&at) {
                    assert_eq!(reported, boot_id.contains(&at), "bit {bit} of byte {at}");
                }
                assert_eq!(value.hits[2].get(), 2);
            } else {
                let refusal = opened
                    .err()
                    .unwrap_or_else(|| panic!("bit {bit} of byte {at} was missed"));
                assert_says(&refusal, &["board"]);
            }
            let file = File::options().write(true).open(&path).unwrap();
            file.write_all_at(&whole, 0).unwrap();
        }
    }
    drop(open::<Value>(&path).unwrap());
}
