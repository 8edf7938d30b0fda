//! All tests that neither fork nor kill, in one binary.

mod counters;
mod damaged;
mod derive;
mod event;
mod file_lock;
mod files;
mod guides;
mod layers;
mod layout;
mod map;
mod mutex;
mod permits;
mod reentrant;
mod rwlock;
mod semaphore;
mod shared;
mod slots;
mod sysv;
mod waiting;
