//! Maps, the types that can be placed in them, and the files that unrelated processes open.

mod assertions;
mod builtin;
mod file;
mod layout;
mod map;
mod placed;
mod registry;
mod shared;
mod shm_safe;

pub(crate) use file::checks::{reject_irregular, reject_remote_fs};
pub(crate) use registry::any_lock_in_use;

pub use layout::Layout;
pub use map::{Advice, Map, MapOptions};
pub use placed::Placeable;
pub use shared::Shared;
pub use shm_safe::{Primitive, PrimitiveKind, PrimitiveVisitor, ShmData, ShmSafe};
