//! A model, and how loom runs it.

use crate::sys::{Fault, PendingRule, World};
use crate::trace;
use std::any::Any;
use std::cell::Cell;
use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Once};

/// The conditions under which threads run. A closure says what the threads do.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// How often a run may switch away from a thread that could go on. A switch is free when a
    /// thread sleeps or ends.
    pub preemptions: usize,
    /// Which thread is killed, and when.
    pub kill: Option<Kill>,
    /// Whether the kernel walks the robust list of a thread that ends.
    pub kernel_marks: bool,
    /// Whether other code uses the `list_op_pending` of the threads, so that a held lock may be
    /// missing there.
    pub pending_is_shared: bool,
    /// The kernel's rule for a pending lock that a dead thread did not own.
    pub pending_rule: PendingRule,
    /// Whether waiters spin before they sleep.
    pub spins: bool,
    /// Whether waiters assume that critical sections are dense.
    pub dense_critical_sections: bool,
    /// Whether all interleavings are explored after a thread has read an old value, or only one.
    pub follows_old_values: bool,
    /// The injected fault, if any.
    pub fault: Option<Fault>,
}

/// Returns whether the environment asks for a thorough run, which takes longer than an everyday
/// test may.
pub fn is_thorough() -> bool {
    env::var_os("PSHARED_MODEL_THOROUGH").is_some()
}

/// The death of a thread.
#[derive(Clone, Copy, Debug)]
pub struct Kill {
    pub tid: u32,
    /// How many steps the thread takes before it dies.
    pub before_step: usize,
}

/// How often an event occurred in all runs of a model.
#[derive(Debug, Default)]
pub struct Count(AtomicUsize);

impl Count {
    pub fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// The events in all runs of a model.
#[derive(Debug, Default)]
pub struct Seen {
    pub runs: Count,
    pub sleeps: Count,
    /// Wakes that woke at least one thread. The wakes in `idle_wakes` woke none.
    pub wakes: Count,
    pub idle_wakes: Count,
    /// Wakes by the kernel for a dead thread with a pending lock that had no owner. A model of the
    /// condition variable counts something else here: waiters that were counted again.
    pub resent_wakes: Count,
    pub kills: Count,
    pub reported_deaths: Count,
    pub timeouts: Count,
    pub refusals: Count,
    /// How often a thread checked whether a process lives.
    pub process_checks: Count,
}

type Body = dyn Fn(&Rc<World>) + Send + Sync;

impl Model {
    /// A kernel without faults, no deaths, and two preemptions.
    pub const PLAIN: Model = Model {
        preemptions: 2,
        kill: None,
        kernel_marks: true,
        pending_is_shared: false,
        pending_rule: PendingRule::NoOwner,
        spins: false,
        dense_critical_sections: false,
        follows_old_values: false,
        fault: None,
    };

    /// Runs the threads in every interleaving. Panics if one fails.
    pub fn holds(self, body: impl Fn(&Rc<World>) + Send + Sync + 'static) -> Arc<Seen> {
        self.thoroughly().holds_without_extra_preemption(body)
    }

    /// The same, without the extra preemption of a thorough run, for threads that spin. Two
    /// spinning threads could yield to each other for ever, although a preempted third thread only
    /// needs to run.
    pub fn holds_without_extra_preemption(
        self,
        body: impl Fn(&Rc<World>) + Send + Sync + 'static,
    ) -> Arc<Seen> {
        let seen = Arc::default();
        self.run_or_panic(&(Arc::new(body) as Arc<Body>), &seen);
        println!("{self:?}: {seen:?}");
        seen
    }

    /// The same, with the thread `tid` killed before its first step, then before its second, and so
    /// on. Stops once the thread comes to its end in every interleaving.
    pub fn holds_if_killed(
        self,
        tid: u32,
        body: impl Fn(&Rc<World>) + Send + Sync + 'static,
    ) -> Arc<Seen> {
        let (seen, body) = (Arc::<Seen>::default(), Arc::new(body) as Arc<Body>);
        let deaths = self.thoroughly().deaths(tid).take_while(|model| {
            let kills = seen.kills.get();
            model.run_or_panic(&body, &seen);
            seen.kills.get() > kills
        });
        println!("{self:?}, killed at {} steps: {seen:?}", deaths.count());
        seen
    }

    /// Runs the threads until an interleaving fails, and returns the message of its panic.
    pub fn fails(self, body: impl Fn(&Rc<World>) + Send + Sync + 'static) -> String {
        let seen = Arc::default();
        let outcome = self.run(&(Arc::new(body) as Arc<Body>), &seen);
        println!("{self:?}: {seen:?}");
        message(&*outcome.expect_err("no interleaving fails"))
    }

    /// The same, with the thread `tid` killed before one of its steps.
    pub fn fails_if_killed(
        self,
        tid: u32,
        body: impl Fn(&Rc<World>) + Send + Sync + 'static,
    ) -> String {
        let (seen, body) = (Arc::<Seen>::default(), Arc::new(body) as Arc<Body>);
        for model in self.deaths(tid) {
            let kills = seen.kills.get();
            if let Err(panic) = model.run(&body, &seen) {
                println!("{model:?}: {seen:?}");
                return message(&*panic);
            }
            assert!(
                seen.kills.get() > kills,
                "no interleaving fails, whenever {tid} is killed"
            );
        }
        unreachable!("`deaths` never ends");
    }

    /// Returns the model with one more preemption if the environment asks for a thorough run.
    fn thoroughly(self) -> Model {
        Model {
            preemptions: self.preemptions + usize::from(is_thorough()),
            ..self
        }
    }

    fn deaths(self, tid: u32) -> impl Iterator<Item = Model> {
        (0..).map(move |before_step| Model {
            kill: Some(Kill { tid, before_step }),
            ..self
        })
    }

    fn run_or_panic(self, body: &Arc<Body>, seen: &Arc<Seen>) {
        if let Err(panic) = self.run(body, seen) {
            println!("{self:?}: {seen:?}");
            panic::resume_unwind(panic);
        }
    }

    fn run(self, body: &Arc<Body>, seen: &Arc<Seen>) -> Result<(), Box<dyn Any + Send>> {
        print_panics_of_models_briefly();
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(self.preemptions);
        let (body, seen) = (body.clone(), seen.clone());
        IN_MODEL.set(true);
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
            builder.check(move || {
                trace::clear();
                seen.runs.add();
                World::start(self, &seen, |world| body(world));
            });
        }));
        IN_MODEL.set(false);
        if outcome.is_err() {
            trace::print();
        }
        outcome
    }
}

thread_local! {
    static IN_MODEL: Cell<bool> = const { Cell::new(false) };
}

/// Prints a panic in a model without a backtrace, which does not fit onto the small stacks of
/// loom's threads.
fn print_panics_of_models_briefly() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IN_MODEL.get() {
                println!("{info}");
            } else {
                usual(info);
            }
        }));
    });
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .expect("a model panics with a string")
}
