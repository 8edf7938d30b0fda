//! Loom's atomics. Each store and each read-modify-write is a step.

use super::task;
use crate::trace::{self, Event};
use std::cell::Cell;
use std::panic::Location;
use std::sync::atomic::Ordering::{self, AcqRel, Relaxed};

macro_rules! atomic {
    ($name:ident, $int:ty, $($change:ident: $new:expr),*) => {
        #[derive(Debug)]
        pub(crate) struct $name {
            word: loom::sync::atomic::$name,
            newest: Cell<$int>,
        }

        #[allow(dead_code, reason = "the interface offers what std does; the algorithms use some of it")]
        impl $name {
            pub(crate) fn new(value: $int) -> Self {
                $name {
                    word: loom::sync::atomic::$name::new(value),
                    newest: Cell::new(value),
                }
            }

            /// The newest value at this point of the run, even if no thread has seen it. For
            /// assertions: loom does not register this as an access.
            pub(super) fn newest(&self) -> $int {
                self.newest.get()
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $int {
                let task = task::current();
                let value = self.word.load(task.order_of_read(order));
                if value != self.newest.get() && !task.world.model.follows_old_values {
                    loom::skip_branch();
                }
                trace::note(task.tid, Event::Load(value.into()), Location::caller());
                value
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $int, order: Ordering) {
                let task = task::step();
                // Loom may order a plain store between a read-modify-write and the value that it
                // has read. So the store first reads the newest value, and no other thread runs in
                // between. A compare-exchange that fails is a read, and leaves no store.
                loom::stop_exploring();
                let newest_read = self.word.compare_exchange(<$int>::MAX, 0, Relaxed, Relaxed);
                debug_assert!(newest_read.is_err());
                self.word.store(value, task.order_of_write(value.into(), order));
                loom::explore();
                self.newest.set(value);
                trace::note(task.tid, Event::Store(value.into()), Location::caller());
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                from: $int,
                to: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                let task = task::step();
                let success = task.order_of_write(to.into(), success);
                let failure = task.order_of_read(failure);
                let outcome = self.word.compare_exchange(from, to, success, failure);
                let event = match outcome {
                    Ok(_) => {
                        self.newest.set(to);
                        Event::Exchange(from.into(), to.into())
                    }
                    Err(found) => Event::NoExchange(from.into(), found.into()),
                };
                trace::note(task.tid, event, Location::caller());
                outcome
            }

            /// Never fails spuriously: a failure that finds the expected value would only repeat a
            /// read.
            #[track_caller]
            pub(crate) fn compare_exchange_weak(
                &self,
                from: $int,
                to: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                self.compare_exchange(from, to, success, failure)
            }

            $(
                #[track_caller]
                pub(crate) fn $change(&self, value: $int, order: Ordering) -> $int {
                    let task = task::step();
                    // The new value is not known in advance, so a fault that depends on it has no
                    // effect here.
                    let old = self.word.$change(value, task.order_of_write(0, order));
                    let new: fn($int, $int) -> $int = $new;
                    self.newest.set(new(old, value));
                    let event = Event::Change(stringify!($change), value.into(), old.into());
                    trace::note(task.tid, event, Location::caller());
                    old
                }
            )*
        }
    };
}

/// The kernel's accesses to a word, which are not steps of a thread.
impl AtomicU32 {
    pub(super) fn read_by_kernel(&self) -> u32 {
        self.word.load(Relaxed)
    }

    /// The kernel's cmpxchg: a full barrier if it succeeds.
    pub(super) fn exchanged_by_kernel(&self, from: u32, to: u32) -> bool {
        let exchanged = self
            .word
            .compare_exchange(from, to, AcqRel, Relaxed)
            .is_ok();
        if exchanged {
            self.newest.set(to);
        }
        exchanged
    }

    /// The operation of `FUTEX_WAKE_OP`, an atomic read-modify-write with no documented ordering.
    /// Returns the previous value.
    pub(super) fn masked_by_kernel(&self, mask: u32) -> u32 {
        let old = self.word.fetch_and(mask, Relaxed);
        self.newest.set(old & mask);
        old
    }
}

/// The integer types, each with its read-modify-writes and their results.
macro_rules! atomics {
    ($($name:ident: $int:ty),*) => {
        $(atomic!(
            $name, $int,
            swap: |_, value| value,
            fetch_add: |old, value| old.wrapping_add(value),
            fetch_sub: |old, value| old.wrapping_sub(value),
            fetch_and: |old, value| old & value,
            fetch_or: |old, value| old | value,
            fetch_xor: |old, value| old ^ value
        );)*
    };
}

atomics!(AtomicU32: u32, AtomicU64: u64);
