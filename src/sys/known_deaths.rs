//! The processes that a thread has found dead. They are a reason to check other locks, and no
//! evidence.

use super::owner::Owner;
use std::cell::RefCell;

/// How many dead processes a thread remembers. When a service dies, several processes die together.
const MAX_DEATHS: usize = 16;

thread_local! {
    /// The processes that this thread found dead most recently.
    static DEATHS: RefCell<[Option<Owner>; MAX_DEATHS]> = const { RefCell::new([None; MAX_DEATHS]) };
}

pub(super) fn remember_death(owner: Owner) {
    DEATHS.with_borrow_mut(|deaths| {
        if !contains(deaths, owner) {
            deaths.rotate_right(1);
            deaths[0] = Some(owner);
        }
    });
}

pub(super) fn forget_death(owner: Owner) {
    DEATHS.with_borrow_mut(|deaths| {
        for death in deaths {
            death.take_if(|death| death.is_same_process(owner));
        }
    });
}

/// Returns whether this thread has found the process of the recorded owner dead. The process can
/// have held more locks than the kernel marks, so the caller runs the liveness check before it
/// sleeps.
///
/// This is only a reason to check. It is no evidence of a death, because ids are reused.
///
/// `record` is called only if the thread remembers a death. Otherwise the waiter does not fetch the
/// cache line of the record.
pub(crate) fn knows_death(record: impl FnOnce() -> Option<Owner>) -> bool {
    DEATHS.with_borrow(|deaths| {
        deaths.iter().any(Option::is_some) && record().is_some_and(|owner| contains(deaths, owner))
    })
}

fn contains(deaths: &[Option<Owner>], owner: Owner) -> bool {
    deaths
        .iter()
        .flatten()
        .any(|death| death.is_same_process(owner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::owner::{ImageId, OwnerId};

    #[test]
    fn a_thread_remembers_a_death_until_it_finds_the_process_alive() {
        let owner = |pid, tid| Owner {
            id: OwnerId::new(pid, tid, 1),
            image: ImageId(5 << 24),
        };
        let knows = |owner| knows_death(|| Some(owner));
        assert!(!knows_death(|| unreachable!("no death is remembered")));
        remember_death(owner(7, 7));
        assert!(knows(owner(7, 7)) && knows(owner(7, 8)));
        assert!(!knows(owner(8, 8)));
        for pid in 100..100 + MAX_DEATHS as u32 - 1 {
            remember_death(owner(pid, pid));
            remember_death(owner(7, 9));
        }
        assert!(knows(owner(7, 7)));
        forget_death(owner(7, 1));
        assert!(!knows(owner(7, 7)) && knows(owner(100, 100)));
    }
}
