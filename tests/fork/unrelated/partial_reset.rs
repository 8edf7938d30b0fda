//! A reset that is killed halfway. The next opener finishes it, and no process uses the value
//! before that.

use super::{
    BOOT, DIRTY, Lock, bytes_at, create_and_close, is_unused, open, patch, place, pretend_held,
};
use crate::steps::{SYS_PAUSE, Signal, sleeps_in};
use crate::support::{Outcome, child, forget_boot_mark, kill, outcome_of, passes, until};
use pshared::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor};
use pshared::{Error, Shared, SharedCounter, SharedEvent, SharedMutex, ShmSafe};
use std::cell::Cell;
use std::mem::offset_of;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

crate::tests!(
    an_interrupted_reset_is_finished_by_the_next_opener,
    a_reset_interrupted_many_times_is_finished_in_the_end,
    new_openers_wait_until_a_reset_is_over,
    a_file_is_reset_if_the_power_failed_during_its_reset,
    an_interrupted_reset_after_a_reboot_still_trusts_no_lock,
    any_number_of_waiting_openers_finish_an_interrupted_reset,
);

/// Two locks, and between them a primitive that acts during a reset.
#[derive(ShmSafe)]
#[repr(C)]
struct State {
    before: Lock,
    between: Trap,
    after: Lock,
}

const BEFORE: u64 = offset_of!(State, before) as u64;
const AFTER: u64 = offset_of!(State, after) as u64;

/// A primitive with a reset that calls the function set by this process.
#[repr(transparent)]
struct Trap(u32);

thread_local! {
    static IN_A_RESET: Cell<Option<&'static dyn Fn()>> = const { Cell::new(None) };
}

/// Sets what a reset of a trap does in this process from now on.
fn in_a_reset(act: impl Fn() + 'static) {
    IN_A_RESET.set(Some(Box::leak(Box::new(act))));
}

// SAFETY: the type is a word that no process writes, and `visit` reaches that word.
unsafe impl ShmSafe for Trap {
    const ZERO_IS_VALID: bool = true;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(PrimitiveKind("trap"));
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.primitive(self);
    }
}

impl Primitive for Trap {
    fn kind(&self) -> PrimitiveKind {
        PrimitiveKind("trap")
    }

    unsafe fn init(&self) -> Result<(), Error> {
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        false
    }

    unsafe fn reset(&self) {
        if let Some(act) = IN_A_RESET.get() {
            act();
        }
    }
}

fn die() {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::SIGKILL);
}

/// Creates a file in which both locks appear to be held by threads that no longer exist.
fn leave_locks_held(path: &Path) {
    create_and_close(
        path,
        State {
            before: SharedMutex::new(1),
            between: Trap(0),
            after: SharedMutex::new(2),
        },
    );
    pretend_held(path, BEFORE);
    pretend_held(path, AFTER);
}

fn dirty(path: &Path) -> u32 {
    u32::from_ne_bytes(bytes_at(path, DIRTY))
}

/// Starts an opener that is killed during its reset.
fn dies_in_its_reset(path: &Path) {
    let opener = child(|| {
        in_a_reset(die);
        let _ = open::<State>(path);
    });
    assert_eq!(opener.wait().unwrap().signal(), Some(libc::SIGKILL));
}

fn assert_finished(path: &Path) {
    let state = open::<State>(path).unwrap();
    assert_eq!(dirty(path), 0);
    assert_eq!(outcome_of(state.before.lock()), Outcome::FreshDeath);
    assert_eq!(outcome_of(state.after.lock()), Outcome::FreshDeath);
}

fn an_interrupted_reset_is_finished_by_the_next_opener() {
    let (_directory, path) = place();
    leave_locks_held(&path);
    dies_in_its_reset(&path);
    assert!(is_unused(&path));
    assert_eq!(dirty(&path), 1);
    assert_finished(&path);
}

fn a_reset_interrupted_many_times_is_finished_in_the_end() {
    let (_directory, path) = place();
    leave_locks_held(&path);
    for _ in 0..20 {
        dies_in_its_reset(&path);
        assert_eq!(dirty(&path), 1);
    }
    assert_finished(&path);
}

fn new_openers_wait_until_a_reset_is_over() {
    let (_directory, path) = place();
    leave_locks_held(&path);
    let opened = Shared::anonymous(SharedCounter::new(0)).unwrap();
    let (begun, go_on) = (
        Box::leak(Box::new(Signal::new())),
        Box::leak(Box::new(Signal::new())),
    );
    let (begun, go_on): (&'static Signal, &'static Signal) = (begun, go_on);
    let resetter = child(|| {
        in_a_reset(|| {
            begun.give();
            go_on.wait();
        });
        let _state = open::<State>(&path).unwrap();
        // Stays a user until the others are users too. Otherwise one of them could be the only
        // user.
        opened.add(1);
        until(|| opened.get() == 6);
    });
    begun.wait();
    let openers: Vec<_> = (0..5)
        .map(|_| {
            child(|| {
                in_a_reset(|| unreachable!("the first has done it"));
                let state = open::<State>(&path).unwrap();
                assert!(matches!(
                    outcome_of(state.after.lock()),
                    Outcome::FreshDeath | Outcome::OldDeath
                ));
                opened.add(1);
                until(|| opened.get() == 6);
            })
        })
        .collect();
    // The openers pause between two attempts.
    until(|| {
        openers
            .iter()
            .all(|opener| sleeps_in(opener.id(), libc::SYS_clock_nanosleep))
    });
    assert_eq!(opened.get(), 0);
    assert_eq!(dirty(&path), 1);
    go_on.give();
    openers.iter().for_each(passes);
    passes(&resetter);
    let state = open::<State>(&path).unwrap();
    assert_eq!(outcome_of(state.before.lock()), Outcome::FreshDeath);
    assert_eq!(outcome_of(state.after.lock()), Outcome::OldDeath);
}

fn a_file_is_reset_if_the_power_failed_during_its_reset() {
    let (_directory, path) = place();
    leave_locks_held(&path);
    // Simulates what reached the disk: one lock, and the dirty flag.
    drop(open::<State>(&path).unwrap());
    pretend_held(&path, AFTER);
    patch(&path, DIRTY, &1_u32.to_ne_bytes());
    assert_finished(&path);
}

fn an_interrupted_reset_after_a_reboot_still_trusts_no_lock() {
    let (_directory, path) = place();
    create_and_close(
        &path,
        State {
            before: SharedMutex::new(1),
            between: Trap(0),
            after: SharedMutex::new(2),
        },
    );
    patch(&path, BOOT, &[7; 16]);
    forget_boot_mark(&path);
    dies_in_its_reset(&path);
    // No lock was held. But only some of the pages may have reached the disk.
    assert_finished(&path);
}

fn any_number_of_waiting_openers_finish_an_interrupted_reset() {
    const OPENERS: u64 = 60;
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Track {
        go: SharedEvent,
        resets: SharedCounter,
        opened: SharedCounter,
        fresh: SharedCounter,
    }
    for round in 0..10 {
        let (_directory, path) = place();
        leave_locks_held(&path);
        let track: &'static Track = Shared::anonymous(Track {
            go: SharedEvent::new(),
            resets: SharedCounter::new(0),
            opened: SharedCounter::new(0),
            fresh: SharedCounter::new(0),
        })
        .unwrap()
        .leak();
        // The first few openers that reset the file are killed in their reset.
        let deaths = round % 4;
        let openers: Vec<_> = (0..OPENERS)
            .map(|_| {
                child(|| {
                    in_a_reset(move || {
                        if track.resets.add(1) < deaths {
                            die();
                        }
                    });
                    track.go.wait();
                    let state = open::<State>(&path).unwrap();
                    for lock in [&state.before, &state.after] {
                        match outcome_of(lock.lock()) {
                            Outcome::FreshDeath => drop(track.fresh.add(1)),
                            Outcome::OldDeath => {}
                            other => panic!("{other:?}"),
                        }
                    }
                    // All openers remain users, so none of them is the only user later.
                    track.opened.add(1);
                    until(|| track.opened.get() == OPENERS - deaths);
                })
            })
            .collect();
        track.go.set();
        let statuses: Vec<_> = openers
            .iter()
            .map(|opener| opener.wait().unwrap())
            .collect();
        let killed = statuses
            .iter()
            .filter(|status| status.signal() == Some(libc::SIGKILL))
            .count();
        assert_eq!(killed as u64, deaths);
        assert_eq!(
            statuses.iter().filter(|status| status.success()).count() as u64,
            OPENERS - deaths
        );
        assert_eq!(track.fresh.get(), 2, "each death is reported once");
        assert_eq!(dirty(&path), 0);
        // One reset was completed. There may have been more, because the change from an exclusive
        // to a shared `flock` is not atomic: another opener may have been the only user in between.
        assert!(track.resets.get() > deaths);
    }
    let (_directory, path) = place();
    leave_locks_held(&path);
    let stays = child(|| {
        let _state = open::<State>(&path).unwrap();
        loop {
            nix::unistd::pause();
        }
    });
    until(|| !is_unused(&path) && sleeps_in(stays.id(), SYS_PAUSE));
    kill(&stays);
    assert_finished(&path);
}
