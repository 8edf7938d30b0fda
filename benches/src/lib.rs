//! The parts that the program `pshared-bench`, its tests and the criterion benchmarks share:
//! glibc's locks, the record of a run, and the page made from it.

pub mod glibc;
pub mod record;
pub mod report;
