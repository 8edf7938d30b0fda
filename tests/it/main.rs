//! Everything that neither forks nor kills, in one binary.

mod files;
mod counters;
mod event;
mod guides;
mod mutex;
mod semaphore;
mod shared;
