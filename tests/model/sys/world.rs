//! The state that the threads of one run share.

use super::futex::Futexes;
use super::kernel::FUTEX_TID_MASK;
use super::owner::ImageId;
use super::task::{self, Task};
use super::{AtomicU32, kernel};
use crate::model::{Model, Seen};
use loom::thread::{self, JoinHandle, Thread};
use std::any::Any;
use std::cell::{Cell, Ref, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

/// One run of a model: its threads and processes, the memory that the kernel can access, and the
/// futexes.
pub struct World {
    pub model: Model,
    pub seen: Arc<Seen>,
    pub(super) futexes: Futexes,
    mappings: RefCell<Vec<Mapping>>,
    threads: RefCell<BTreeMap<u32, Rc<Life>>>,
    processes: RefCell<BTreeMap<u32, Rc<Process>>>,
    /// The threads that wait for a change of a process, or for the deadline.
    observers: RefCell<Vec<Thread>>,
}

/// A lock in memory that the kernel can access.
#[derive(Clone)]
pub(super) struct Mapping {
    /// Keeps the lock at its address, even after its threads have died.
    lock: Rc<dyn Any>,
    addresses: Range<usize>,
    word: *const AtomicU32,
    /// Whether an owner's death is unreported. Only the owner of the word accesses this, while it
    /// runs or when it ends.
    pub(super) unreported_death: Rc<Cell<bool>>,
}

impl Mapping {
    pub(super) fn word(&self) -> &AtomicU32 {
        debug_assert!(Rc::strong_count(&self.lock) > 0);
        // SAFETY: `word` points to the first field of the lock, which `lock` keeps at its address.
        unsafe { &*self.word }
    }

    /// The thread that the word names as owner at this point of the run, or 0.
    pub(super) fn owner(&self) -> u32 {
        self.word().newest() & FUTEX_TID_MASK
    }
}

/// Whether a thread has ended.
pub(super) struct Life(loom::sync::atomic::AtomicU32);

impl Life {
    /// Marks the thread as ended. What it did happens before what other threads do after they see
    /// its end.
    pub(super) fn end(&self) {
        self.0.store(1, Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.0.load(Acquire) != 0
    }
}

pub(super) struct Process {
    pid: u32,
    /// The number of its threads that have not begun to exit.
    pub(super) threads: loom::sync::atomic::AtomicU32,
    /// Not 0 once the process has been killed.
    is_dying: loom::sync::atomic::AtomicU32,
    /// How many times the process has called `exec`.
    execs: loom::sync::atomic::AtomicU32,
}

// A thread that asks the kernel gets the current state: loom returns the newest value to a
// read-modify-write if all writes are read-modify-writes.
impl Process {
    pub(super) fn lives(&self) -> bool {
        self.threads.fetch_add(0, AcqRel) != 0
    }

    pub(super) fn is_dying(&self) -> bool {
        self.is_dying.fetch_add(0, AcqRel) != 0
    }

    /// Distinguishes the current process image from earlier ones and from those of all other
    /// processes.
    pub(super) fn image(&self) -> ImageId {
        ImageId(u64::from(self.pid) << 8 | u64::from(self.execs.fetch_add(0, AcqRel)))
    }
}

/// A thread that can be joined. `None` is the result of a thread that was killed.
pub struct Joins<T>(JoinHandle<Option<T>>);

impl<T> Joins<T> {
    pub fn join(self) -> Option<T> {
        self.0.join().expect("a model's thread does not panic")
    }
}

/// Joins all of the threads.
pub fn join_all<T>(threads: impl IntoIterator<Item = Joins<T>>) -> Vec<Option<T>> {
    threads.into_iter().map(Joins::join).collect()
}

impl World {
    /// Runs a model's first thread, in a process of its own. The other threads have other ids.
    pub fn start(model: Model, seen: &Arc<Seen>, body: impl FnOnce(&Rc<World>)) {
        const FIRST: u32 = 1;
        let world = Rc::new(World {
            model,
            seen: seen.clone(),
            futexes: Futexes::new(),
            mappings: RefCell::default(),
            threads: RefCell::default(),
            processes: RefCell::default(),
            observers: RefCell::default(),
        });
        world.add_thread(FIRST, FIRST);
        Task::new(&world, FIRST, FIRST).run(|| body(&world));
    }

    /// Starts a process with one thread.
    pub fn spawn<T: 'static>(
        self: &Rc<Self>,
        tid: u32,
        body: impl FnOnce() -> T + 'static,
    ) -> Joins<T> {
        self.spawn_in(tid, tid, body)
    }

    /// Starts a thread in a process.
    pub fn spawn_in<T: 'static>(
        self: &Rc<Self>,
        pid: u32,
        tid: u32,
        body: impl FnOnce() -> T + 'static,
    ) -> Joins<T> {
        self.add_thread(pid, tid);
        let task = Task::new(self, pid, tid);
        Joins(thread::spawn(move || task.run(body)))
    }

    /// Adds to a process a thread that does nothing until [`end_process`](Self::end_process).
    pub fn keep_alive(&self, pid: u32) {
        self.processes.borrow_mut().entry(pid).or_insert_with(|| {
            Rc::new(Process {
                pid,
                threads: loom::sync::atomic::AtomicU32::new(0),
                is_dying: loom::sync::atomic::AtomicU32::new(0),
                execs: loom::sync::atomic::AtomicU32::new(0),
            })
        });
        self.process(pid).threads.fetch_add(1, AcqRel);
    }

    /// Marks the process as killed. Its thread runs until [`end_process`](Self::end_process).
    pub fn kill(&self, pid: u32) {
        self.process(pid).is_dying.swap(1, AcqRel);
        self.notify_observers();
    }

    /// Removes the thread that [`keep_alive`](Self::keep_alive) added.
    pub fn end_process(&self, pid: u32) {
        self.process(pid).threads.fetch_sub(1, AcqRel);
        self.notify_observers();
    }

    /// Calls `check` until it returns `Some`: first at once, and then after each change of a
    /// process or of the clock.
    pub(super) fn check_until<T>(&self, check: impl Fn() -> Option<T>) -> T {
        loop {
            // From here on this thread is notified of every change, and `check` sees every earlier
            // one.
            self.observers.borrow_mut().push(thread::current());
            let seen = check();
            if let Some(seen) = seen {
                // Loom's unpark would also end other waits of this thread.
                let own = thread::current().id();
                self.observers
                    .borrow_mut()
                    .retain(|thread| thread.id() != own);
                return seen;
            }
            thread::park();
        }
    }

    /// Notifies the threads in `observers` of a change.
    pub(super) fn notify_observers(&self) {
        self.observers.take().iter().for_each(Thread::unpark);
    }

    fn add_thread(&self, pid: u32, tid: u32) {
        self.keep_alive(pid);
        let life = Rc::new(Life(loom::sync::atomic::AtomicU32::new(0)));
        let before = self.threads.borrow_mut().insert(tid, life);
        assert!(before.is_none(), "two threads have the id {tid}");
    }

    /// Calls `exec` in the calling thread, the only one of its process. The kernel treats this like
    /// the end of a thread.
    pub fn exec(&self) {
        let task = task::current();
        kernel::release_list(&task);
        task.pending.set(ptr::null());
        task.list.borrow_mut().clear();
        task.last_pending.set(ptr::null());
        let process = self.process(task.pid);
        process.execs.fetch_add(1, AcqRel);
        self.notify_observers();
        task.image.set(process.image());
    }

    /// Clears `list_op_pending`, as other code in the calling thread does, such as a robust mutex
    /// of glibc.
    pub fn clear_list_op_pending(&self) {
        task::step().pending.set(ptr::null());
    }

    /// Makes a lock accessible to the kernel. The lock's first field must be its word.
    pub fn map<L: 'static, R>(&self, lock: &Rc<L>, raw: &R) {
        let start = ptr::from_ref(raw);
        self.mappings.borrow_mut().push(Mapping {
            lock: lock.clone(),
            addresses: start.addr()..start.addr() + size_of::<R>(),
            word: start.cast(),
            unreported_death: Rc::default(),
        });
    }

    /// Replaces the word of a lock if it is `old`, as one step of a locker.
    pub fn replace_word<R>(&self, raw: &R, old: u32, new: u32) -> bool {
        task::step();
        let mapping = self.mapping_of(ptr::from_ref(raw).addr());
        let replaced = mapping.word().compare_exchange(old, new, AcqRel, Acquire);
        replaced.is_ok()
    }

    pub(super) fn mappings(&self) -> Ref<'_, Vec<Mapping>> {
        self.mappings.borrow()
    }

    pub(super) fn mapping_of(&self, address: usize) -> Mapping {
        let mappings = self.mappings();
        let found = mappings
            .iter()
            .find(|mapping| mapping.addresses.contains(&address));
        found
            .expect("an address given to the kernel is in a mapped lock")
            .clone()
    }

    /// Returns whether a death of the word's last owner is unreported, and clears that state. Only
    /// the word's owner may call this.
    pub fn take_unreported_death<R>(&self, raw: &R) -> bool {
        self.mapping_of(ptr::from_ref(raw).addr())
            .unreported_death
            .take()
    }

    pub(super) fn thread(&self, tid: u32) -> Rc<Life> {
        self.threads
            .borrow()
            .get(&tid)
            .expect("a record names a thread that existed")
            .clone()
    }

    pub(super) fn process(&self, pid: u32) -> Rc<Process> {
        self.processes
            .borrow()
            .get(&pid)
            .expect("a record names a process that existed")
            .clone()
    }
}
