//! The protocol, and those that were rejected.

use super::state::Pc;
use super::word::{Tid, Word};

/// Which protocol the threads (or the kernel) follow. Each rejected one differs from
/// [`Sound`](Variant::Sound) in one place, which is a method here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variant {
    /// The crate's protocol, on Linux 6.2 or later.
    Sound,

    /// A contended unlock stores 0 and wakes one, who acquires with `WAITERS` set: the usual futex
    /// mutex (Drepper, "Futexes Are Tricky", mutex 2 and 3).
    PlainZeroUnlock,
    /// After a wake that woke nobody, the unlocker takes `WAITERS` off by compare-exchange.
    CompareExchangeClear,
    /// The same, and only where a shared count of announced sleepers reads 0.
    AnnouncedSleepers,
    /// After a wake that woke nobody, the unlocker stores 0.
    StoreClear,
    /// A waiter whose deadline has passed gives up without another look at the word.
    ExpiredWithoutRetry,
    /// A waiter whose deadline has passed gives up and leaves `list_op_pending` set.
    PendingForgotten,
    /// A contended unlock clears `list_op_pending` before it wakes.
    PendingClearedBeforeWake,
    /// A waiter that saw a free word takes it by a plain store.
    TakenByStore,
    /// A waiter does not set `WAITERS`, and waits as if it had.
    WaitersNotSet,
    /// The kernel's rule before Linux 6.2 for a pending lock.
    KernelBefore6_2,
}

impl Variant {
    /// What a waiter stores to take a word that it saw without owner.
    pub fn taken(self, seen: Word, current: Tid) -> Word {
        match self {
            // Its unlock threw the bit away; whoever was in the slow path has to assume it.
            Variant::PlainZeroUnlock => Word::held_by(current).with_waiters(),
            _ => seen.taken_by(current),
        }
    }

    /// What a contended unlock stores.
    pub fn released(self) -> Word {
        match self {
            Variant::PlainZeroUnlock => Word::FREE,
            _ => Word::FREE_WITH_WAITERS,
        }
    }

    /// What an unlocker does next, once it has woken `woken` sleepers.
    pub fn after_wake(self, woken: usize) -> Pc {
        match self {
            _ if woken > 0 => Pc::Leave,
            Variant::PlainZeroUnlock => Pc::Leave,
            Variant::CompareExchangeClear | Variant::StoreClear => Pc::ClearWaiters,
            Variant::AnnouncedSleepers => Pc::ReadAnnounced,
            _ => Pc::WakeOp,
        }
    }

    /// What a waiter does next, once `expected` says that there are waiters.
    pub fn before_wait(self, expected: Word) -> Pc {
        match self {
            Variant::AnnouncedSleepers => Pc::Announce(expected),
            _ => Pc::Wait(expected),
        }
    }

    /// What a waiter does next when `FUTEX_WAIT` returns, for whatever reason.
    pub fn after_wait(self) -> Pc {
        match self {
            Variant::AnnouncedSleepers => Pc::Retract,
            _ => Pc::Look,
        }
    }

    /// Whether the kernel wakes one for a dead thread whose pending lock it did not own.
    ///
    /// Since Linux 6.2 ("futex: Resend potentially swallowed owner death notification", also in
    /// the stable kernels since 5.15) it does so where the word has no owner. Before, it did so
    /// only where the whole word was 0, which `WAITERS` or `OWNER_DIED` prevents.
    pub fn exit_wakes_for_pending(self, word: Word) -> bool {
        match self {
            Variant::KernelBefore6_2 => word == Word::FREE,
            _ => word.owner().is_none(),
        }
    }
}
