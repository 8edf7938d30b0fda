//! [`SharedOnce`]: what one thread of all processes does, once.

use crate::Error;
use crate::memory::{Kind, Layout, Primitive, ShmSafe, Walk};
use crate::raw::once::{Once, Past};
use crate::raw::outcome::Refused;
use crate::sys::{self, Deadline, Me};
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

/// An initialization that one thread of all processes makes, once, in the manner of [`std::sync::Once`].
///
/// Whoever comes while it is made waits for it. Once it is made, a call is one atomic load.
///
/// # What a death does
///
/// Where whoever initializes is killed in the middle of it, the next caller takes over: its own closure runs, and
/// [`SharedOnceState::initializer_died`] tells that something may lie there by half. A caller that waits takes over at once,
/// or within a second where the kernel could not mark the death.
///
/// After a restart of the machine, a `SharedOnce` in a file counts as one whose initializer died, completed or not: what it
/// made may have reached the disk by half.
///
/// # Panics
///
/// [`call_once`](Self::call_once) and [`call_once_force`](Self::call_once_force) panic
///
/// - inside the initialization itself, which would wait for its own end;
/// - where the thread that initialized has ended, neither by a return nor by a panic, and its process lives. It takes
///   `unsafe` code to end a thread so. When that process is gone, the next caller takes over;
/// - in a child that was forked inside the initialization and goes on in it: the turn is the parent's.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedCounter, SharedOnce, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Board { set_up: SharedOnce, times: SharedCounter }
///
/// let board = Shared::anonymous(Board { set_up: SharedOnce::new(), times: SharedCounter::new(0) })?;
/// let child = fork::spawn(|| board.set_up.call_once(|| _ = board.times.add(1)))?;
/// board.set_up.call_once(|| _ = board.times.add(1));
/// assert!(child.wait()?.success());
/// assert_eq!(board.times.get(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Source
///
/// The states are those of `std`'s `library/std/src/sys/sync/once/futex.rs`, with a robust lock in the place of "running".
#[repr(transparent)]
pub struct SharedOnce {
    raw: Once,
}

/// How earlier attempts ended; what [`SharedOnce::call_once_force`] tells its closure.
#[derive(Debug)]
pub struct SharedOnceState {
    past: Past,
}

impl SharedOnceState {
    /// Whether an earlier initializer panicked.
    pub fn is_poisoned(&self) -> bool {
        self.past.panicked()
    }

    /// Whether an earlier initializer died in the middle of it, so that something may lie there by half.
    pub fn initializer_died(&self) -> bool {
        self.past.died()
    }
}

impl SharedOnce {
    /// An initialization that nobody has made.
    pub const fn new() -> Self {
        SharedOnce { raw: Once::new() }
    }

    /// Initializes by `f`, if nobody has, and waits for whoever is at it. What `f` wrote is seen by all whose call returns.
    ///
    /// # Panics
    ///
    /// Where an earlier `f` panicked, and in the cases that [the type](Self#panics) names.
    #[inline]
    pub fn call_once(&self, f: impl FnOnce()) {
        if !self.is_completed() {
            self.run(|state| {
                assert!(
                    !state.is_poisoned(),
                    "an earlier initializer of this SharedOnce panicked: use call_once_force to try again"
                );
                f();
            });
        }
    }

    /// As [`call_once`](Self::call_once), also where an earlier `f` panicked: `f` is told.
    ///
    /// # Panics
    ///
    /// In the cases that [the type](Self#panics) names.
    #[inline]
    pub fn call_once_force(&self, f: impl FnOnce(&SharedOnceState)) {
        if !self.is_completed() {
            self.run(f);
        }
    }

    /// Whether it is initialized.
    #[inline]
    pub fn is_completed(&self) -> bool {
        self.raw.is_done()
    }

    /// Waits until it is initialized, by whomever. It does not take over.
    pub fn wait(&self) {
        self.raw.wait(None);
    }

    /// As [`wait`](Self::wait), but no longer than `timeout` of the monotonic clock: false says that it is not initialized.
    #[must_use = "the wait may have timed out"]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.raw.wait(Some(Deadline::after(timeout)))
    }

    fn run(&self, f: impl FnOnce(&SharedOnceState)) {
        let f = |state: &SharedOnceState| -> Result<(), Infallible> {
            f(state);
            Ok(())
        };
        let Ok(()) = self.initialize(f, |()| ());
    }

    /// Initializes, if nobody has, by the making of a value and the storing of it.
    #[cold]
    pub(super) fn initialize<V, E>(
        &self,
        make: impl FnOnce(&SharedOnceState) -> Result<V, E>,
        store: impl FnOnce(V),
    ) -> Result<(), E> {
        let me = sys::me();
        let past = match self.raw.begin(me) {
            Ok(Some(past)) => past,
            Ok(None) => return Ok(()),
            Err(Refused::Deadlock) => panic!(
                "a shared initialization was asked for inside itself, by the thread that makes it"
            ),
            Err(Refused::HolderThreadEnded) => panic!(
                "the thread that made a shared initialization ended in the middle of it, without a panic, and its process lives"
            ),
            Err(Refused::WouldBlock | Refused::TimedOut) => {
                unreachable!("a wait without an end has timed out")
            }
        };
        let mut turn = Turn {
            raw: &self.raw,
            generation: me.generation(),
            end: End::Panic,
        };
        match make(&SharedOnceState { past }) {
            Ok(value) => {
                assert!(
                    Me::of_generation(turn.generation).is_some(),
                    "a process that was forked inside a shared initialization went on with it, which is its parent's"
                );
                store(value);
                turn.end = End::Completion;
                Ok(())
            }
            Err(error) => {
                turn.end = End::Failure;
                Err(error)
            }
        }
    }
}

enum End {
    Completion,
    Failure,
    Panic,
}

/// The calling thread's turn to initialize.
struct Turn<'a> {
    raw: &'a Once,
    /// The process whose turn it is. In a child of that process this is a copy.
    generation: u64,
    end: End,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let Some(me) = Me::of_generation(self.generation) else {
            return;
        };
        // SAFETY: this thread began the turn in this process, and nothing but this drop ends it.
        unsafe {
            match self.end {
                End::Completion => self.raw.complete(me),
                End::Failure => self.raw.abandon(me, false),
                End::Panic => self.raw.abandon(me, true),
            }
        }
    }
}

impl Default for SharedOnce {
    fn default() -> Self {
        SharedOnce::new()
    }
}

impl fmt::Debug for SharedOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedOnce")
            .field("completed", &self.is_completed())
            .finish_non_exhaustive()
    }
}

const KIND: Kind = Kind("once");

// SAFETY: `repr(transparent)` over `repr(C)` atomics and the links of a lock, which mean something only to the thread that
// holds it. Zero bytes are an initialization that nobody has begun, with a free lock.
#[diagnostic::do_not_recommend]
unsafe impl ShmSafe for SharedOnce {
    const ZERO_IS_VALID: bool = true;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(KIND);
    }

    fn walk(&self, walk: &mut Walk<'_>) {
        walk.primitive(self);
    }
}

impl Primitive for SharedOnce {
    fn kind(&self) -> Kind {
        KIND
    }

    unsafe fn arm(&self) -> Result<(), Error> {
        sys::check_robust_list()?;
        // SAFETY: the caller's promise.
        unsafe { self.raw.arm() };
        Ok(())
    }

    fn is_held_here(&self) -> bool {
        self.raw.is_held_here()
    }

    fn was_forgotten_here(&self) -> bool {
        self.raw.was_forgotten_here()
    }

    unsafe fn reset(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.raw.reset() };
    }

    unsafe fn distrust(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.raw.undo() };
    }
}

static_assertions::assert_eq_size!(SharedOnce, [u8; 48]);
static_assertions::assert_impl_all!(SharedOnce: Send, Sync, ShmSafe);
static_assertions::assert_not_impl_any!(SharedOnce: crate::ShmData);
