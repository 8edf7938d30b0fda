//! Files that hold one value: made whole, checked when they are opened, and counted by their users.

pub(in crate::memory) mod create;
pub(in crate::memory) mod header;
mod layout_diff;
pub(in crate::memory) mod open;
pub(in crate::memory) mod users;
