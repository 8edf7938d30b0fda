//! Algorithms over several words: waiting for any of them, and groups in which each member owns
//! one.

pub(crate) mod barrier;
pub(crate) mod lock_set;
pub(crate) mod member_slot;
pub(crate) mod wait_any;
