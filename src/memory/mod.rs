//! Where a value lives: maps, what may be placed in them, and the files that strangers open.

mod assertions;
mod builtin;
mod difference;
mod header;
mod layout;
mod map;
mod open;
mod placed;
mod publish;
mod registry;
mod shared;
mod shm_safe;
mod users;

pub(crate) use registry::any_lock_in_use;

pub use layout::Layout;
pub use map::{Advice, Map, MapOptions};
pub use placed::Placed;
pub use shared::Shared;
pub use shm_safe::{Kind, Primitive, ShmData, ShmSafe, Walk};
