//! A thread of a model, as the kernel knows it, and its steps.

use super::owner::{ImageId, Owner};
use super::{Links, World, kernel};
use crate::trace::{self, Event};
use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::panic::{self, AssertUnwindSafe, Location};
use std::ptr;
use std::rc::Rc;

/// A thread. Loom's threads are coroutines of one thread, so they can share an `Rc`.
pub struct Task {
    pub(super) world: Rc<World>,
    pub(super) pid: u32,
    pub(super) tid: u32,
    /// The process image that its process runs.
    pub(super) image: Cell<ImageId>,
    /// The number of steps until the thread is killed, if the model kills it.
    steps_left: Cell<Option<usize>>,
    pub(super) list: RefCell<Vec<*const Links>>,
    /// `list_op_pending`.
    pub(super) pending: Cell<*const Links>,
    /// The thread's own record of that field: the lock that it last set there, and whether it no
    /// longer leaves locks there.
    pub(super) last_pending: Cell<*const Links>,
    pub(super) fast_path_disabled: Cell<bool>,
    /// How many of its recheck timers have expired.
    pub(super) expired_timers: Cell<u32>,
    /// The process that it found dead last.
    pub(super) known_death: Cell<Option<Owner>>,
}

/// The panic payload of a killed thread.
struct Killed;

loom::thread_local! {
    static CURRENT: OnceCell<Rc<Task>> = OnceCell::new();
}

/// The calling thread.
pub(super) fn current() -> Rc<Task> {
    CURRENT.with(|task| {
        task.get()
            .expect("a thread of a model starts in `Task::run`")
            .clone()
    })
}

/// A step of the calling thread, which may be killed before it.
///
/// Only a change is a step. A thread that is killed before or after a read dies in the same state
/// as a thread that is killed before its next change.
#[track_caller]
pub(super) fn step() -> Rc<Task> {
    let task = current();
    if task.dies_now() {
        task.die();
    }
    task
}

impl Task {
    pub(super) fn new(world: &Rc<World>, pid: u32, tid: u32) -> Rc<Task> {
        let kill = world.model.kill.filter(|kill| kill.tid == tid);
        Rc::new(Task {
            world: world.clone(),
            pid,
            tid,
            image: Cell::new(world.process(pid).image()),
            steps_left: Cell::new(kill.map(|kill| kill.before_step)),
            list: RefCell::default(),
            pending: Cell::new(ptr::null()),
            last_pending: Cell::new(ptr::null()),
            fast_path_disabled: Cell::new(false),
            expired_timers: Cell::new(0),
            known_death: Cell::new(None),
        })
    }

    /// Runs the thread to its end, and returns what `body` returns, or `None` if the thread is
    /// killed.
    pub(super) fn run<T>(self: Rc<Self>, body: impl FnOnce() -> T) -> Option<T> {
        let is_first = CURRENT.with(|task| task.set(self.clone()).is_ok());
        assert!(is_first, "a thread starts once");
        let outcome = panic::catch_unwind(AssertUnwindSafe(body));
        self.steps_left.set(None);
        let value = match outcome {
            Ok(value) => {
                self.assert_pending_is_valid();
                Some(value)
            }
            Err(panic) if panic.is::<Killed>() => None,
            // The model failed; the thread was not killed.
            Err(panic) => panic::resume_unwind(panic),
        };
        kernel::exit(&self);
        value
    }

    /// Asserts that `list_op_pending` is empty or names a lock that the thread holds, between two
    /// operations.
    fn assert_pending_is_valid(&self) {
        let pending = self.pending.get();
        if !pending.is_null() {
            let owner = self.world.mapping_of(pending.addr()).owner();
            assert_eq!(owner, self.tid, "thread {} left a lock pending", self.tid);
        }
    }

    /// Whether the thread is killed before the step that it is about to take. Counts the step.
    pub(super) fn dies_now(&self) -> bool {
        let left = self.steps_left.get();
        self.steps_left
            .set(left.map(|steps| steps.saturating_sub(1)));
        left == Some(0)
    }

    /// Unwinds out of the algorithm, which has no destructors that would clean up after a thread.
    /// Prints nothing.
    #[track_caller]
    pub(super) fn die(&self) -> ! {
        self.world.seen.kills.add();
        trace::note(self.tid, Event::Killed, Location::caller());
        let killed: Box<dyn Any + Send> = Box::new(Killed);
        panic::resume_unwind(killed)
    }
}
