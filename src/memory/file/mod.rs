//! Files that hold one value: created whole, checked when they are opened, and locked by their
//! users.

mod boot;
mod c_library;
pub(in crate::memory) mod checks;
pub(in crate::memory) mod create;
pub(in crate::memory) mod header;
mod layout_diff;
pub(in crate::memory) mod open;
pub(in crate::memory) mod users;
