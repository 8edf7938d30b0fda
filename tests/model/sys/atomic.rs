//! Loom's atomics, each access a step.

use super::fault::{Access, weaken};
use super::task;
use crate::trace::{self, Event};
use std::panic::Location;
use std::sync::atomic::Ordering;

macro_rules! atomic {
    ($name:ident, $int:ty, $($change:ident),*) => {
        #[derive(Debug)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        #[allow(dead_code, reason = "the seam offers what std does, the algorithms use some of it")]
        impl $name {
            pub(crate) fn new(value: $int) -> Self {
                $name(loom::sync::atomic::$name::new(value))
            }

            /// The bare word. What the kernel does to it is no step of a thread.
            pub(super) fn word(&self) -> &loom::sync::atomic::$name {
                &self.0
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $int {
                task::step();
                let value = self.0.load(weaken(Access::Load, order));
                trace::note(Event::Load(value.into()), Location::caller());
                value
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $int, order: Ordering) {
                task::step();
                self.0.store(value, weaken(Access::Store, order));
                trace::note(Event::Store(value.into()), Location::caller());
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                from: $int,
                to: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                task::step();
                let success = weaken(Access::Change, success);
                let failure = weaken(Access::Load, failure);
                let outcome = self.0.compare_exchange(from, to, success, failure);
                let event = match outcome {
                    Ok(_) => Event::Exchange(from.into(), to.into()),
                    Err(found) => Event::NoExchange(from.into(), found.into()),
                };
                trace::note(event, Location::caller());
                outcome
            }

            /// Does not fail without cause: a failure that finds the expected value is a look repeated.
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
                    task::step();
                    let old = self.0.$change(value, weaken(Access::Change, order));
                    let change = stringify!($change);
                    trace::note(Event::Change(change, value.into(), old.into()), Location::caller());
                    old
                }
            )*
        }
    };
}

atomic!(AtomicU32, u32, swap, fetch_add, fetch_sub, fetch_and, fetch_or, fetch_xor);
atomic!(AtomicU64, u64, swap, fetch_add, fetch_sub, fetch_and, fetch_or, fetch_xor);
