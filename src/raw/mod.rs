//! One word algorithm a file: memory orderings, no `T`, no system call.
//!
//! The files here name nothing outside `crate::sys`. `tests/model` compiles these very files against a `sys` of its own,
//! where loom tries their interleavings and a model of the kernel walks the robust lists of threads that die at every
//! step.

pub(crate) mod count;
pub(crate) mod event;
pub(crate) mod robust;
