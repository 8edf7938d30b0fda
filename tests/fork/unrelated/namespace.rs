//! Other PID namespaces and other boots. A file is refused while a process there uses it, and taken
//! over when no process there does.

use super::{
    BOOT, NAMESPACE, bytes_at, create, create_and_close, is_unused, open, open_lock, patch, place,
    pretend_held,
};
use crate::disk::enter_new;
use crate::steps::{Signal, need_new};
use crate::support::{Outcome, child, forget_boot_mark, forked, outcome_of, passes, repaired};
use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use pshared::{Error, Shared, SharedCounter, SharedMutex, SharedSemaphore, ShmSafe};

crate::tests!(
    a_file_in_use_in_one_pid_namespace_can_be_opened_in_another_only_afterwards,
    a_memfd_of_one_pid_namespace_cannot_be_opened_in_another,
    a_file_of_another_boot_is_reset_and_gets_this_boot_id,
);

/// Runs `body` as the first process of a new PID namespace.
fn in_a_container(body: impl FnOnce()) {
    enter_new(CloneFlags::CLONE_NEWPID).unwrap();
    let child = forked(|| {
        assert_eq!(std::process::id(), 1);
        body();
    });
    assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
}

fn namespace(link: &str) -> u64 {
    let link = std::fs::read_link(link)
        .unwrap()
        .into_os_string()
        .into_string()
        .unwrap();
    link.trim_start_matches("pid:[")
        .trim_end_matches(']')
        .parse()
        .unwrap()
}

fn a_file_in_use_in_one_pid_namespace_can_be_opened_in_another_only_afterwards() {
    need_new(CloneFlags::CLONE_NEWPID);
    let (_directory, path) = place();
    let here = namespace("/proc/self/ns/pid");
    let [created, refused, dropped, taken, checked] = [(); 5].map(|()| Signal::new());
    // The container starts before the file exists. Otherwise its processes would inherit the file
    // and be users of it.
    let container = child(|| {
        in_a_container(|| {
            created.wait();
            for _ in 0..2 {
                let Err(refusal) = open::<SharedMutex<u64>>(&path) else {
                    panic!("opened")
                };
                let there = namespace("/proc/self/ns/pid");
                assert!(
                    matches!(refusal, Error::PidNamespaceMismatch { found, own, .. } if (found, own) == (here, there)),
                    "{refusal:?}"
                );
                let message = refusal.to_string();
                assert!(
                    message.contains(&here.to_string()) && message.contains(&there.to_string())
                );
            }
            refused.give();
            dropped.wait();
            let lock = open_lock(&path);
            assert_eq!(outcome_of(lock.lock()), Outcome::FreshDeath);
            // The file now carries the id of this namespace, so other processes of the namespace
            // can open it.
            let _second = open_lock(&path);
            let guard = lock.lock();
            taken.give();
            checked.wait();
            drop(guard);
        });
    });
    let ours = create(&path, SharedMutex::new(5_u64)).unwrap();
    created.give();
    refused.wait();
    assert_eq!(*ours.lock().unwrap(), 5);
    drop(ours);
    // Simulates a lock that the last run of a container held when its machine was reset.
    pretend_held(&path, 0);
    dropped.give();
    taken.wait();
    let Err(refusal) = open::<SharedMutex<u64>>(&path) else {
        panic!("opened")
    };
    let there = u64::from_ne_bytes(bytes_at(&path, NAMESPACE));
    assert_ne!(there, here);
    assert!(
        matches!(refusal, Error::PidNamespaceMismatch { found, own, .. } if (found, own) == (there, here)),
        "{refusal:?}"
    );
    checked.give();
    passes(&container);
    assert!(is_unused(&path));
    drop(open_lock(&path));
    assert_eq!(u64::from_ne_bytes(bytes_at(&path, NAMESPACE)), here);
}

fn a_memfd_of_one_pid_namespace_cannot_be_opened_in_another() {
    need_new(CloneFlags::CLONE_NEWPID);
    let memfd = Shared::memfd("board", SharedMutex::new(5_u64)).unwrap();
    let container = child(|| {
        in_a_container(|| {
            // SAFETY: the memory is used only through this crate.
            let descriptor = unsafe { memfd.as_fd() }
                .unwrap()
                .try_clone_to_owned()
                .unwrap();
            // SAFETY: as above.
            let refusal = unsafe { Shared::<SharedMutex<u64>>::from_fd(descriptor) }.unwrap_err();
            assert!(
                matches!(refusal, Error::PidNamespaceMismatch { .. }),
                "{refusal:?}"
            );
        });
    });
    passes(&container);
}

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    held: SharedMutex<u64>,
    free: SharedMutex<u64>,
    semaphore: SharedSemaphore,
    hits: SharedCounter,
}

fn a_file_of_another_boot_is_reset_and_gets_this_boot_id() {
    let (_directory, path) = place();
    create_and_close(
        &path,
        State {
            held: SharedMutex::new(1),
            free: SharedMutex::new(2),
            semaphore: SharedSemaphore::new(3),
            hits: SharedCounter::new(4),
        },
    );
    let this_boot: [u8; 16] = bytes_at(&path, BOOT);
    assert_ne!(this_boot, [0; 16]);
    patch(&path, BOOT, &[7; 16]);
    forget_boot_mark(&path);
    pretend_held(&path, 0);
    let state = open::<State>(&path).unwrap();
    assert_eq!(bytes_at(&path, BOOT), this_boot);
    // After another boot, some writes may not have reached the disk, whether a lock was held or
    // not.
    for lock in [&state.held, &state.free] {
        assert_eq!(outcome_of(lock.lock()), Outcome::FreshDeath);
        drop(repaired(lock.lock(), 5));
    }
    assert_eq!((state.semaphore.value(), state.hits.get()), (3, 4));
    // Other processes can open the file, and nothing from this boot is marked as inconsistent.
    drop(open::<State>(&path).unwrap());
    drop(state);
    let state = open::<State>(&path).unwrap();
    assert_eq!(
        *state.held.lock().unwrap() + *state.free.lock().unwrap(),
        10
    );
}
