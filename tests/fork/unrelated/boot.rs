//! Views of one machine that show another boot id or none, and reboots. A file has the same boot in
//! every view, and a boot that is not known counts as another one, once.

use super::{BOOT, create, create_and_close, open, open_or_create, patch, place};
use crate::disk::enter_new;
use crate::harness::skip;
use crate::seccomp::kill_on;
use crate::support::{
    Outcome, as_root, child, child_elsewhere, forget_boot_mark, outcome_of, passes, repaired,
};
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use pshared::{Shared, SharedMutex, ShmSafe};
use std::fs;
use std::path::Path;
use std::time::Duration;

crate::tests!(
    views_with_and_without_a_boot_id_take_turns_without_a_death,
    a_file_and_a_memfd_in_use_are_opened_in_every_view,
    an_unknown_boot_counts_as_another_one_once,
    another_boot_id_counts_as_another_boot_once,
    a_filter_that_kills_for_a_question_about_the_clock_is_not_met,
);

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The offset in a file's header of which parts of the boot's record are known, in bytes.
const KNOWN: u64 = 96;

/// How a process sees the boot.
#[derive(Debug, Clone, Copy)]
enum View {
    /// `/proc` as it is mounted for the tests.
    Whole,
    /// A `/proc` without `/proc/sys`, as systemd's `ProcSubset=pid` mounts it.
    ProcessesOnly,
    /// A file over the kernel's boot id, as some containers have.
    OtherId,
}

/// Moves the process into a mount namespace of its own with this view.
fn enter(view: View, directory: &Path) {
    enter_new(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let none = MsFlags::empty();
    match view {
        View::Whole => {}
        View::ProcessesOnly => {
            mount(
                Some("proc"),
                "/proc",
                Some("proc"),
                none,
                Some("subset=pid"),
            )
            .unwrap();
            assert!(!fs::exists(BOOT_ID).unwrap());
        }
        View::OtherId => {
            let other = directory.join("boot_id");
            fs::write(&other, "01234567-89ab-cdef-0123-456789abcdef\n").unwrap();
            mount(
                Some(&other),
                BOOT_ID,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .unwrap();
        }
    }
}

/// Runs `body` in a process with this view.
fn with_view(view: View, directory: &Path, body: impl FnOnce()) {
    passes(&child(|| {
        enter(view, directory);
        body();
    }));
}

/// Skips the test if the views cannot be made here.
fn need_views() {
    as_root();
    let (directory, _) = place();
    for view in [View::ProcessesOnly, View::OtherId] {
        let probe = child(|| enter(view, directory.path()));
        if !probe.wait().unwrap().success() {
            skip(&format!("the view {view:?} cannot be made here"));
        }
    }
}

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    one: SharedMutex<u64>,
    other: SharedMutex<u64>,
}

fn state() -> State {
    State {
        one: SharedMutex::new(0),
        other: SharedMutex::new(0),
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Opens the file as its only user, and checks what its locks report.
#[track_caller]
fn reports(path: &Path, expected: Outcome) {
    let state = open::<State>(path).unwrap();
    for lock in [&state.one, &state.other] {
        assert_eq!(outcome_of(lock.lock_timeout(PATIENCE)), expected);
        *repaired(lock.lock(), 0) += 1;
    }
}

fn views_with_and_without_a_boot_id_take_turns_without_a_death() {
    need_views();
    let (directory, path) = place();
    let views = [View::Whole, View::ProcessesOnly, View::OtherId];
    for turn in 0..12 {
        // Every view follows every other one.
        let view = views[(turn + turn / 3 + turn / 6) % 3];
        with_view(view, directory.path(), || {
            drop(open_or_create(&path, state).unwrap());
            reports(&path, Outcome::Unpoisoned);
        });
    }
    assert_eq!(*open::<State>(&path).unwrap().one.lock().unwrap(), 12);
}

fn a_file_and_a_memfd_in_use_are_opened_in_every_view() {
    need_views();
    let (directory, path) = place();
    for creator in [View::Whole, View::ProcessesOnly, View::OtherId] {
        with_view(creator, directory.path(), || {
            let file = create(&path, state()).unwrap();
            let memfd = Shared::memfd("board", SharedMutex::new(0_u64)).unwrap();
            let guard = file.other.lock().unwrap();
            for view in [View::Whole, View::ProcessesOnly, View::OtherId] {
                // The views nest: `/proc` is that of the creator at first.
                let user = child_elsewhere(|| {
                    if fs::exists(BOOT_ID).unwrap() {
                        enter(view, directory.path());
                    }
                    let file = open::<State>(&path).unwrap();
                    assert_eq!(outcome_of(file.other.try_lock()), Outcome::WouldBlock);
                    *file.one.lock().unwrap() += 1;
                    // SAFETY: the memory is used only through this crate.
                    let descriptor = unsafe { memfd.as_fd() }.unwrap();
                    let descriptor = descriptor.try_clone_to_owned().unwrap();
                    // SAFETY: as above.
                    let memfd = unsafe { Shared::<SharedMutex<u64>>::from_fd(descriptor) };
                    *memfd.unwrap().lock().unwrap() += 1;
                });
                passes(&user);
            }
            drop(guard);
            assert_eq!((*file.one.lock().unwrap(), *memfd.lock().unwrap()), (3, 3));
        });
        fs::remove_file(&path).unwrap();
    }
}

fn an_unknown_boot_counts_as_another_one_once() {
    need_views();
    let (directory, path) = place();
    with_view(View::ProcessesOnly, directory.path(), || {
        create_and_close(&path, state());
        reports(&path, Outcome::Unpoisoned);
        for _ in 0..2 {
            // After a reboot, the file's mark is gone, and the machine started at another time.
            forget_boot_mark(&path);
            patch(&path, KNOWN, &[0; 24]);
            reports(&path, Outcome::FreshDeath);
            reports(&path, Outcome::Unpoisoned);
        }
    });
    reports(&path, Outcome::Unpoisoned);
}

fn another_boot_id_counts_as_another_boot_once() {
    let (_directory, path) = place();
    create_and_close(&path, state());
    for id in [[7; 16], [0; 16]] {
        // As if the file had been last used in a boot before this one.
        patch(&path, BOOT, &id);
        forget_boot_mark(&path);
        reports(&path, Outcome::FreshDeath);
        reports(&path, Outcome::Unpoisoned);
    }
}

/// systemd's `SystemCallFilter=@system-service` is such a filter.
fn a_filter_that_kills_for_a_question_about_the_clock_is_not_met() {
    let (_directory, path) = place();
    let filter = || {
        for call in [libc::SYS_adjtimex, libc::SYS_clock_adjtime] {
            kill_on(call).unwrap();
        }
    };
    if !child(filter).wait().unwrap().success() {
        skip("seccomp filters are not permitted here");
    }
    passes(&child(|| {
        filter();
        create_and_close(&path, state());
        reports(&path, Outcome::Unpoisoned);
        forget_boot_mark(&path);
        drop(open::<State>(&path).unwrap());
    }));
}
