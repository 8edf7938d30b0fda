//! A bare futex, the lower bound of the cost of a lock that sleeps; and no lock at all.

use super::{Contender, DeathReport, Failed, Handle, mapped};
use crate::futex;
use crate::mapped::{Mapped, Place};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and a waiter may sleep.
const AWAITED: u32 = 2;

/// Mutexes as in Ulrich Drepper's "Futexes Are Tricky", the third and last version: three states,
/// no spinning.
pub struct Futexes(Mapped<Place<AtomicU32>>);

impl Contender for Futexes {
    type Handle<'a> = Futex<'a>;

    fn prepare(locks: usize) -> Result<Self, Failed> {
        mapped(locks).map(Futexes)
    }

    fn attach(&self, lock: usize) -> Result<Futex<'_>, Failed> {
        // SAFETY: zero bytes are a free word, and it is mapped as long as the borrow lasts.
        Ok(Futex(unsafe { &*self.0[lock].address() }))
    }
}

pub struct Futex<'a>(&'a AtomicU32);

impl Futex<'_> {
    #[cold]
    fn wait(&self) {
        while self.0.swap(AWAITED, Acquire) != FREE {
            futex::wait(self.0, AWAITED);
        }
    }
}

impl Handle for Futex<'_> {
    #[inline]
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        if self
            .0
            .compare_exchange(FREE, HELD, Acquire, Relaxed)
            .is_err()
        {
            self.wait();
        }
        body(DeathReport::None);
        if self.0.swap(FREE, Release) == AWAITED {
            futex::wake(self.0, 1);
        }
        Ok(())
    }
}

/// No lock. It loses updates, which shows that the check of the count works.
pub struct Nothing;

impl Contender for Nothing {
    type Handle<'a> = Nothing;

    fn prepare(_locks: usize) -> Result<Self, Failed> {
        Ok(Nothing)
    }

    fn attach(&self, _lock: usize) -> Result<Nothing, Failed> {
        Ok(Nothing)
    }
}

impl Handle for Nothing {
    #[inline]
    fn with(&mut self, body: impl FnOnce(DeathReport)) -> Result<(), Failed> {
        body(DeathReport::None);
        Ok(())
    }
}
