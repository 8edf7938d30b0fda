//! The library's word algorithms, compiled against this test's `crate::sys`.

#[path = "../../src/raw/count.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod count;
#[path = "../../src/raw/event.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod event;
#[path = "../../src/raw/robust.rs"]
#[allow(dead_code, reason = "the library uses more of it than the models")]
pub mod robust;
