//! The protocol, and the rejected protocols.

use super::state::Pc;
use super::word::{Tid, Word};

/// The protocol that the threads and the kernel follow. Each rejected protocol differs from
/// [`Sound`](Variant::Sound) in one place: in a method here, or in a check of the variant in
/// `steps`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variant {
    /// The crate's protocol, on Linux 6.2 or later.
    Sound,
    /// The same, on a kernel of 2026 that also wakes a waiter of a word with another owner, unless
    /// `WAITERS` is set.
    KernelOf2026,

    /// A contended unlock stores 0 and wakes one waiter, which acquires with `WAITERS` set. This is
    /// the usual futex mutex (Drepper, "Futexes Are Tricky", mutex 2 and 3).
    PlainZeroUnlock,
    /// After a wake that found no waiter, the unlocker clears `WAITERS` by compare-exchange.
    CompareExchangeClear,
    /// The same, but only if a shared count of sleeping threads is 0.
    CountedSleepers,
    /// After a wake that found no waiter, the unlocker stores 0.
    StoreClear,
    /// After its deadline a waiter gives up without another check of the word.
    ExpiredWithoutRetry,
    /// After its deadline a waiter gives up and leaves `list_op_pending` set.
    PendingNotCleared,
    /// A contended unlock clears `list_op_pending` before it wakes.
    PendingClearedBeforeWake,
    /// A waiter that loaded a free word acquires it by a plain store.
    TakenByStore,
    /// A waiter does not set `WAITERS`, but waits for the word with the bit set.
    WaitersNotSet,
    /// The kernel's rule for a pending lock before Linux 6.2.
    KernelBefore6_2,
}

impl Variant {
    /// The word that a waiter stores to acquire a word that had no owner when it loaded it.
    pub fn taken(self, seen: Word, current: Tid) -> Word {
        match self {
            // The unlock discarded the bit, so a thread on the slow path must assume that it was
            // set.
            Variant::PlainZeroUnlock => Word::held_by(current).with_waiters(),
            _ => seen.taken_by(current),
        }
    }

    /// The word that a contended unlock stores.
    pub fn released(self) -> Word {
        match self {
            Variant::PlainZeroUnlock => Word::FREE,
            _ => Word::FREE_WITH_WAITERS,
        }
    }

    /// The step that follows a wake that woke `woken` waiters.
    pub fn after_wake(self, woken: usize) -> Pc {
        match self {
            _ if woken > 0 => Pc::Leave,
            Variant::PlainZeroUnlock => Pc::Leave,
            Variant::CompareExchangeClear | Variant::StoreClear => Pc::ClearWaiters,
            Variant::CountedSleepers => Pc::ReadSleeperCount,
            _ => Pc::WakeOp,
        }
    }

    /// The waiter's next step after it has found or set `WAITERS` in the word, which is now
    /// `expected`.
    pub fn before_wait(self, expected: Word) -> Pc {
        match self {
            Variant::CountedSleepers => Pc::CountSleeper(expected),
            _ => Pc::Wait(expected),
        }
    }

    /// The waiter's next step after `FUTEX_WAIT` returns, for any reason.
    pub fn after_wait(self) -> Pc {
        match self {
            Variant::CountedSleepers => Pc::UncountSleeper,
            _ => Pc::Load,
        }
    }

    /// Whether the kernel wakes a waiter when a dead thread had a lock pending that it did not own.
    ///
    /// The rule in a kernel of 2026 repairs glibc's mutexes. Their released word is 0, so the bit
    /// is lost if a third thread takes the word. This crate's wakes do no harm to a word without
    /// the bit: no thread sleeps on it.
    ///
    /// Since Linux 6.2 ("futex: Resend potentially swallowed owner death notification", also in the
    /// stable kernels since 5.15) the kernel does so if the word has no owner. Earlier kernels did
    /// so only if the whole word was 0, which `WAITERS` or `OWNER_DIED` prevents.
    pub fn exit_wakes_for_pending(self, word: Word) -> bool {
        match self {
            Variant::KernelBefore6_2 => word == Word::FREE,
            Variant::KernelOf2026 => word.owner().is_none() || !word.has_waiters(),
            _ => word.owner().is_none(),
        }
    }
}
