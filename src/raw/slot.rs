//! How a robust lock is announced to the kernel: in the slot of its thread's list, or linked into the list.

use super::robust::Robust;
use crate::sys::Me;

impl Robust {
    /// Takes the announcement of a lock back that turns out not to be placed.
    pub(super) fn withdraw(&self, me: Me) {
        me.withdraw(&self.links);
    }

    /// Puts the lock into the slot, before its word is touched. A held lock that stays there moves to the list.
    pub(super) fn announce(&self, me: Me) {
        link_what_is_in_the_slot(me);
        me.announce(me.list(), &self.links);
    }

    /// After the attempt: an acquired lock stays in the slot, or is linked where locks may not stay there.
    pub(super) fn settle(&self, me: Me, acquired: bool) {
        if acquired {
            if me.slot().is_pending(&self.links) {
                return;
            }
            // SAFETY: it was acquired just now, so it is in no list; by `arm`'s contract it stays where it is.
            unsafe { me.list().link(&self.links) };
        }
        me.list().clear_pending();
    }

    /// Puts a held lock that is not there into the slot, before it is released, and takes it out of the list.
    pub(super) fn move_to_the_slot(&self, me: Me) {
        self.announce(me);
        if self.links.are_linked() {
            // SAFETY: the thread that holds a lock linked it in its own list; the links of a dead holder's list were
            // forgotten when the lock was taken.
            unsafe { me.list().unlink(&self.links) };
        } else {
            // It was there, and something else has emptied the slot.
            me.give_up_the_slot();
        }
    }

    /// Puts a held lock into the slot, before it is released, if it is not there.
    pub(super) fn put_in_the_slot(&self, me: Me) {
        if !me.slot().is_pending(&self.links) {
            self.move_to_the_slot(me);
        }
    }
}

/// Links the held lock that is in the slot, if one is.
fn link_what_is_in_the_slot(me: Me) {
    if let Some(held) = me.announced() {
        // SAFETY: between two operations, what this crate has in the slot is a lock that the thread holds, in no list; by
        // `arm`'s contract it stays where it is.
        unsafe { me.list().link(held) };
    }
}

/// Leaves the slot to glibc, which uses it in every operation of its robust mutexes.
#[allow(dead_code, reason = "the models have no glibc")]
pub(super) fn make_room(me: Me) {
    link_what_is_in_the_slot(me);
    me.list().clear_pending();
}
