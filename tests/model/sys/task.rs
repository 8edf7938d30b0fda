//! A model's thread, as the kernel knows it, and its steps.

use super::{Links, World, kernel};
use crate::trace::{self, Event};
use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::panic::{self, AssertUnwindSafe, Location};
use std::ptr;
use std::rc::Rc;

/// A thread. Loom's threads are coroutines of one, so an `Rc` is shared among them.
pub struct Task {
    pub(super) world: Rc<World>,
    pub(super) pid: u32,
    pub(super) tid: u32,
    /// The program that its process runs.
    pub(super) image: Cell<u64>,
    /// How many steps it takes before it is killed, if it is doomed.
    steps_left: Cell<Option<usize>>,
    pub(super) list: RefCell<Vec<*const Links>>,
    /// `list_op_pending`.
    pub(super) pending: Cell<*const Links>,
    /// What the thread itself knows of that slot: the lock that was announced last, and whether locks may stay there.
    pub(super) announced: Cell<*const Links>,
    pub(super) fast_path_disabled: Cell<bool>,
    /// How many of its naps have ended.
    pub(super) naps: Cell<u32>,
}

/// What a killed thread unwinds with.
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
/// Only what changes something is a step: a thread that is killed before or after it has read dies in the same state as
/// one that is killed before it next changes something.
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
        let doomed = world.model.kill.filter(|kill| kill.tid == tid);
        Rc::new(Task {
            world: world.clone(),
            pid,
            tid,
            image: Cell::new(world.process(pid).image()),
            steps_left: Cell::new(doomed.map(|kill| kill.before_step)),
            list: RefCell::default(),
            pending: Cell::new(ptr::null()),
            announced: Cell::new(ptr::null()),
            fast_path_disabled: Cell::new(false),
            naps: Cell::new(0),
        })
    }

    /// Runs the thread to its end, and gives what it gives, unless it is killed.
    pub(super) fn run<T>(self: Rc<Self>, body: impl FnOnce() -> T) -> Option<T> {
        let is_first = CURRENT.with(|task| task.set(self.clone()).is_ok());
        assert!(is_first, "a thread starts once");
        let outcome = panic::catch_unwind(AssertUnwindSafe(body));
        self.steps_left.set(None);
        let value = match outcome {
            Ok(value) => {
                self.assert_slot_is_true();
                Some(value)
            }
            Err(panic) if panic.is::<Killed>() => None,
            // A model that failed, which is no thread's end.
            Err(panic) => panic::resume_unwind(panic),
        };
        kernel::exit(&self);
        value
    }

    /// A thread that is not in the middle of anything has a lock in its slot only while it holds it.
    fn assert_slot_is_true(&self) {
        let pending = self.pending.get();
        if !pending.is_null() {
            let owner = self.world.mapping_of(pending.addr()).owner();
            assert_eq!(owner, self.tid, "thread {} left a lock pending", self.tid);
        }
    }

    /// Whether the coming step is the one before which the thread is killed.
    pub(super) fn dies_now(&self) -> bool {
        let left = self.steps_left.get();
        self.steps_left
            .set(left.map(|steps| steps.saturating_sub(1)));
        left == Some(0)
    }

    /// Unwinds out of the algorithm, which has no destructors that would clean up after a thread. Nothing is printed.
    #[track_caller]
    pub(super) fn die(&self) -> ! {
        self.world.seen.kills.add();
        trace::note(self.tid, Event::Killed, Location::caller());
        let killed: Box<dyn Any + Send> = Box::new(Killed);
        panic::resume_unwind(killed)
    }
}
