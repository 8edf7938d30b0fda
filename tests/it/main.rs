//! Everything that neither forks nor kills, in one binary.

mod counters;
mod event;
mod files;
mod guides;
mod mutex;
mod semaphore;
mod shared;
