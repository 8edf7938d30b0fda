//! `struct semid_ds`, the status of a System V semaphore set.

#[cfg(target_env = "gnu")]
pub(super) use libc::semid_ds;

/// The kernel's `struct semid64_ds`, which musl takes as it is. It is not in the libc crate.
#[cfg(target_env = "musl")]
#[repr(C)]
#[derive(Debug)]
#[allow(non_camel_case_types, reason = "the name of the C type")]
pub(super) struct semid_ds {
    sem_perm: libc::ipc_perm,
    times: [libc::c_long; TIMES],
    pub(super) sem_nsems: libc::c_ulong,
    reserved: [libc::c_ulong; 2],
}

/// On x86-64, a reserved word follows each of the two times.
#[cfg(target_env = "musl")]
const TIMES: usize = if cfg!(target_arch = "x86_64") { 4 } else { 2 };
