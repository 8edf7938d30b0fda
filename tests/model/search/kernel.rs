//! The kernel's side: the futex queue, and the walk of a dead thread's robust list.

use super::lock::{Lock, WakeOrder};
use super::state::{DeathReport, Pc, State, Thread};
use super::word::Tid;

impl State {
    /// The threads that may be woken next: the head of the queue, or all sleeping threads if wakes
    /// take any order.
    pub fn next_to_wake(&self) -> impl Iterator<Item = Tid> {
        self.threads()
            .filter(|(_, thread)| thread.pc == Pc::Asleep { ahead: 0 })
            .map(|(tid, _)| tid)
    }
}

impl Lock {
    /// Puts the thread to sleep: `FUTEX_WAIT`, which has compared the word in this same step.
    ///
    /// futex(2): "This load, the comparison with the expected value, and starting to sleep are
    /// performed atomically and totally ordered with respect to other futex operations on the same
    /// futex word."
    pub fn fall_asleep(&self, state: &mut State, tid: Tid) {
        let ahead = match self.wake_order {
            WakeOrder::Any => 0,
            WakeOrder::Fifo => state.count(Pc::is_asleep) as u8,
        };
        state[tid].pc = Pc::Asleep { ahead };
    }

    /// Removes a sleeping thread from the queue: it was woken, its deadline passed, or its wait was
    /// interrupted. Has no effect on a thread that is awake.
    ///
    /// This step consumes a wake. If the thread is killed after this and before its next step, the
    /// wake is lost. It is also lost if the thread is killed in its sleep and a wake reaches it
    /// before the signal does.
    pub fn end_wait(&self, state: &mut State, tid: Tid) {
        let Pc::Asleep { ahead: left } = state[tid].pc else {
            return;
        };
        for thread in &mut state.threads {
            if let Pc::Asleep { ahead } = &mut thread.pc
                && *ahead > left
            {
                *ahead -= 1;
            }
        }
        state[tid].pc = self.variant.after_wait();
    }

    /// `FUTEX_WAKE_OP` on the word with itself: `*word &= ~WAITERS`, then wakes all.
    ///
    /// futex(2): "equivalent to executing the following code atomically and totally ordered with
    /// respect to other futex operations on any of the two supplied futex words". The operation is
    /// an atomic read-modify-write, which applies even if the word has a new owner.
    pub fn wake_op(&self, state: &mut State) {
        state.word = state.word.without_waiters();
        for tid in Tid::ALL {
            self.end_wait(state, tid);
        }
    }

    /// Kills a thread, between two of its steps or while it sleeps.
    pub fn kill(&self, state: &mut State, tid: Tid) {
        self.end_wait(state, tid);
        if state.word.owner() == Some(tid) {
            state.death_report = match state.death_report {
                DeathReport::None => DeathReport::Due,
                DeathReport::Due | DeathReport::Wrong => DeathReport::Wrong,
            };
        }
        state[tid].pc = Pc::ExitWalk;
        state[tid].expired = false;
    }

    /// The kernel's `handle_futex_death` for a dead thread's lock, up to its wake, which is a
    /// separate step.
    ///
    /// The kernel processes the lock once, even if it is both linked and pending. If the thread
    /// owned the lock when it died: "Set the OWNER_DIED bit atomically via cmpxchg, and if the
    /// value had FUTEX_WAITERS set, wake up a waiter (if any)". If the lock is pending and has no
    /// owner, its thread may have been killed between its release and its wake, or after it was
    /// woken and before it acquired: "it is safe to attempt waking up a potential waiter without
    /// touching the user space futex value".
    pub fn exit_walk(&self, state: &mut State, tid: Tid) {
        let word = state.word;
        let Thread {
            pending, linked, ..
        } = state[tid];
        let wakes = if (pending || linked) && word.owner() == Some(tid) {
            state.word = word.marked_died();
            word.has_waiters()
        } else {
            pending && self.variant.exit_wakes_for_pending(word)
        };
        state[tid] = Thread {
            pc: if wakes { Pc::ExitWake } else { Pc::Dead },
            ..Thread::NONE
        };
    }
}
