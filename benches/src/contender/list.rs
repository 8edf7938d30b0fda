//! The list of contenders with their names. Each contender is one line.

use super::bare::{Futexes, Nothing};
use super::crates::{Iceoryx, PosixSync, ProcessSync, RawSync, RustixFutexSync};
use super::glibc::{Mutexes, Plain, Robust, RobustPi};
use super::handles::{Files, Flock, Ofd, Sysv};
use super::in_process::InProcess;
use super::ours::Ours;
use super::signals::{Condvars, Events, Pipes, Semaphores, SharedCondvars, Words};
use crate::workload::handoff::Handoff;
use crate::workload::{Lock, Subject, Workload};
use posix_sync::mutex::robustness_markers;
use pshared::{SharedMutex, raw};

/// Where a contender comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Pshared,
    Glibc,
    Kernel,
    Crate,
    /// Works only between threads, so it is measured only without contention.
    InProcess,
}

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Family::Pshared => "pshared",
            Family::Glibc => "glibc",
            Family::Kernel => "kernel",
            Family::Crate => "crate",
            Family::InProcess => "in-process",
        }
    }
}

/// The workloads that a contender can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Lock,
    /// A lock that works only between threads.
    InProcess,
    /// It wakes another process, and locks nothing.
    Signals,
    /// A lock that gives no figures. It takes part only if it is named.
    Counterexample,
}

/// A contender.
pub struct Entry {
    pub name: &'static str,
    pub family: Family,
    role: Role,
    pub subject: &'static dyn Subject,
}

impl Entry {
    pub fn takes_part(&self, workload: Workload) -> bool {
        match self.role {
            Role::Lock | Role::Counterexample => workload != Workload::Handoff,
            Role::InProcess => workload == Workload::Uncontended,
            Role::Signals => workload == Workload::Handoff,
        }
    }

    /// Returns whether it takes part without being named.
    pub fn by_default(&self) -> bool {
        self.role != Role::Counterexample
    }
}

const fn entry(
    name: &'static str,
    family: Family,
    role: Role,
    subject: &'static dyn Subject,
) -> Entry {
    Entry {
        name,
        family,
        role,
        subject,
    }
}

const fn lock(name: &'static str, family: Family, subject: &'static dyn Subject) -> Entry {
    entry(name, family, Role::Lock, subject)
}

const fn signals(name: &'static str, family: Family, subject: &'static dyn Subject) -> Entry {
    entry(name, family, Role::Signals, subject)
}

/// The contender that the targets are about, and the reference for most of them.
pub const OURS: &str = "SharedMutex";
pub const MEASURE: &str = "glibc pshared robust";
pub const OUR_EVENT: &str = "SharedEvent";
pub const OUR_CONDVAR: &str = "SharedCondvar";
pub const BARE: &str = "bare futex";

/// The crate's mutex with a lock strategy other than the default.
type Strategy<R> = Ours<SharedMutex<(), R>>;

/// All contenders, in the order of the tables.
#[rustfmt::skip]
pub const ALL: &[Entry] = &[
    lock(OURS, Family::Pshared, &Lock::<Ours<SharedMutex<()>>>::NEW),
    lock("Futex", Family::Pshared, &Lock::<Strategy<raw::Futex>>::NEW),
    lock("Spin", Family::Pshared, &Lock::<Strategy<raw::Spin>>::NEW),
    lock("Ticket", Family::Pshared, &Lock::<Strategy<raw::Ticket>>::NEW),
    lock("Pthread", Family::Pshared, &Lock::<Strategy<raw::Pthread>>::NEW),
    lock("PthreadRobust", Family::Pshared, &Lock::<Strategy<raw::PthreadRobust>>::NEW),
    lock("PthreadPi", Family::Pshared, &Lock::<Strategy<raw::PthreadPi>>::NEW),
    lock("PosixSem", Family::Pshared, &Lock::<Strategy<raw::PosixSem>>::NEW),
    lock("FileLock flock", Family::Pshared, &Lock::<Files<Flock>>::NEW),
    lock("FileLock ofd", Family::Pshared, &Lock::<Files<Ofd>>::NEW),
    lock("SysvSemaphore", Family::Pshared, &Lock::<Sysv>::NEW),
    lock("glibc pshared", Family::Glibc, &Lock::<Mutexes<Plain>>::NEW),
    lock(MEASURE, Family::Glibc, &Lock::<Mutexes<Robust>>::NEW),
    lock("glibc pshared robust PI", Family::Glibc, &Lock::<Mutexes<RobustPi>>::NEW),
    lock(BARE, Family::Kernel, &Lock::<Futexes>::NEW),
    lock("posix-sync", Family::Crate, &Lock::<PosixSync<robustness_markers::Standard>>::NEW),
    lock("posix-sync robust", Family::Crate, &Lock::<PosixSync<robustness_markers::Robust>>::NEW),
    lock("process-sync", Family::Crate, &Lock::<ProcessSync>::NEW),
    lock("raw_sync", Family::Crate, &Lock::<RawSync>::NEW),
    lock("iceoryx2-bb-posix", Family::Crate, &Lock::<Iceoryx<false>>::NEW),
    lock("iceoryx2-bb-posix robust", Family::Crate, &Lock::<Iceoryx<true>>::NEW),
    lock("rustix-futex-sync", Family::Crate, &Lock::<RustixFutexSync>::NEW),
    entry("std::sync::Mutex", Family::InProcess, Role::InProcess, &Lock::<InProcess<std::sync::Mutex<()>>>::NEW),
    entry("parking_lot", Family::InProcess, Role::InProcess, &Lock::<InProcess<parking_lot::Mutex<()>>>::NEW),
    entry("none", Family::Kernel, Role::Counterexample, &Lock::<Nothing>::NEW),
    signals(OUR_EVENT, Family::Pshared, &Handoff::<Events>::NEW),
    signals(OUR_CONDVAR, Family::Pshared, &Handoff::<SharedCondvars>::NEW),
    signals(BARE, Family::Kernel, &Handoff::<Words>::NEW),
    signals("glibc mutex+condvar", Family::Glibc, &Handoff::<Condvars>::NEW),
    signals("sem_t pair", Family::Glibc, &Handoff::<Semaphores>::NEW),
    signals("pipe pair", Family::Kernel, &Handoff::<Pipes>::NEW),
];
