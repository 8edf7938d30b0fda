//! Maps, the types that can be placed in them, and the files that unrelated processes open.

mod assertions;
mod builtin;
mod checked;
mod field_layout;
mod file;
mod layout;
mod map;
mod placeable;
mod registry;
mod shared;
mod shm_safe;

pub(crate) use file::checks::{absolute, named_by, reject_irregular, reject_remote_fs, reopen};
pub(crate) use registry::any_lock_in_use;

pub use checked::Checked;
#[doc(hidden)]
pub use field_layout::{FieldLayout, VariantCheck};
pub use layout::{Layout, PrimitiveKind};
pub use map::{Advice, Map, MapOptions};
pub use placeable::Placeable;
pub use shared::Shared;
pub use shm_safe::{Primitive, PrimitiveVisitor, ShmData, ShmSafe};
