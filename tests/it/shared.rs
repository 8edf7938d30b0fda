//! `Shared`: one value, or a slice, in a map of its own.

use pshared::{
    Error, LockError, Shared, SharedCounter, SharedEvent, SharedMutex, SharedSemaphore, ShmSafe,
};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;

mod initialization;
mod large;

#[derive(ShmSafe)]
#[repr(C)]
struct State {
    count: SharedMutex<u64>,
    semaphore: SharedSemaphore,
    hits: SharedCounter,
    event: SharedEvent,
}

fn state() -> State {
    State {
        count: SharedMutex::new(1),
        semaphore: SharedSemaphore::new(2),
        hits: SharedCounter::new(3),
        event: SharedEvent::new(),
    }
}

/// Returns a copy of the descriptor of a memfd.
fn descriptor<T: ShmSafe>(shared: &Shared<T>) -> OwnedFd {
    // SAFETY: these tests use the memory only through this crate.
    unsafe { shared.as_fd() }
        .unwrap()
        .try_clone_to_owned()
        .unwrap()
}

fn from_fd<T: ShmSafe>(descriptor: OwnedFd) -> Result<Shared<T>, Error> {
    // SAFETY: as above.
    unsafe { Shared::from_fd(descriptor) }
}

fn assert_is_initial(state: &State) {
    assert_eq!(*state.count.lock().unwrap(), 1);
    assert_eq!(state.semaphore.value(), 2);
    assert_eq!(state.hits.get(), 3);
    assert!(!state.event.is_set());
}

#[test]
fn a_value_is_placed_unchanged_in_each_kind_of_memory() {
    assert_is_initial(&Shared::anonymous(state()).unwrap());
    assert_is_initial(&Shared::dev_zero(state()).unwrap());
    let memfd = Shared::memfd("board", state()).unwrap();
    assert_is_initial(&memfd);
    assert_is_initial(&from_fd(descriptor(&memfd)).unwrap());
}

#[test]
fn only_memory_with_a_descriptor_returns_one() {
    fn has_descriptor(shared: &Shared<u32>) -> bool {
        // SAFETY: the descriptor is not used.
        unsafe { shared.as_fd() }.is_some()
    }
    assert!(!has_descriptor(&Shared::anonymous(1).unwrap()));
    assert!(!has_descriptor(&Shared::dev_zero(1).unwrap()));
    assert!(has_descriptor(&Shared::memfd("number", 1).unwrap()));
}

#[test]
fn writes_through_one_map_of_a_memfd_are_seen_through_another_and_outlive_the_first() {
    let ours = Shared::memfd("board", state()).unwrap();
    let theirs = from_fd::<State>(descriptor(&ours)).unwrap();
    assert_ne!(&raw const *ours, &raw const *theirs);
    ours.hits.add(1);
    *theirs.count.lock().unwrap() += 1;
    assert_eq!(*ours.count.lock().unwrap(), 2);
    drop(ours);
    assert_eq!(theirs.hits.get(), 4);
    theirs.semaphore.wait().unwrap();
    assert_eq!(theirs.semaphore.value(), 1);
}

#[test]
fn two_maps_of_one_lock_exclude_each_other() {
    let memfd = Shared::memfd("lock", SharedMutex::new(0_u64)).unwrap();
    let maps = [
        from_fd(descriptor(&memfd)).unwrap(),
        from_fd(descriptor(&memfd)).unwrap(),
        memfd,
    ];
    let guard = maps[0].lock().unwrap();
    // The same lock at another address; the calling thread holds it.
    assert!(matches!(maps[1].lock(), Err(LockError::Deadlock)));
    assert!(matches!(maps[1].try_lock(), Err(LockError::WouldBlock)));
    drop(guard);
    thread::scope(|scope| {
        for map in &maps {
            scope.spawn(|| (0..10_000).for_each(|_| *map.lock().unwrap() += 1));
        }
    });
    assert_eq!(*maps[2].lock().unwrap(), 30_000);
}

#[test]
fn an_unsuitable_descriptor_is_refused() {
    let sealed = Shared::memfd("board", state()).unwrap();
    let refusal = from_fd::<SharedCounter>(descriptor(&sealed)).unwrap_err();
    assert!(
        matches!(refusal, Error::LayoutMismatch { .. }),
        "{refusal:?}"
    );
    assert!(
        refusal
            .to_string()
            .contains("the memfd holds a value of another layout"),
        "{refusal}"
    );
    assert!(
        refusal.to_string().contains("a pshared counter"),
        "{refusal}"
    );

    let (reader, _writer) = std::io::pipe().unwrap();
    let refusal = from_fd::<SharedCounter>(reader.into()).unwrap_err();
    assert!(matches!(refusal, Error::NotMemfd), "{refusal:?}");

    // Memory of this crate in which no value was placed.
    let bare = pshared::Map::memfd("bytes", 8192).unwrap();
    // SAFETY: only this crate uses the memory.
    let bare = unsafe { bare.fd() }.unwrap().try_clone_to_owned().unwrap();
    let refusal = from_fd::<SharedCounter>(bare).unwrap_err();
    assert!(
        matches!(refusal, Error::InvalidHeader { .. }),
        "{refusal:?}"
    );
}

#[test]
fn a_memfd_without_seals_is_refused() {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::os::unix::fs::FileExt;

    let sealed = Shared::memfd("number", SharedCounter::new(6)).unwrap();
    let length = File::from(descriptor(&sealed)).metadata().unwrap().len();
    let mut bytes = vec![0; length as usize];
    File::from(descriptor(&sealed))
        .read_exact_at(&mut bytes, 0)
        .unwrap();

    let copy = File::from(
        memfd_create("copy", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap(),
    );
    copy.write_all_at(&bytes, 0).unwrap();
    let received = || copy.as_fd().try_clone_to_owned().unwrap();
    let refusal = from_fd::<SharedCounter>(received()).unwrap_err();
    assert!(matches!(refusal, Error::MissingSeals { .. }), "{refusal:?}");
    assert!(
        refusal.to_string().contains("F_SEAL_SHRINK | F_SEAL_GROW"),
        "{refusal}"
    );
    let size = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(size)).unwrap();
    assert_eq!(from_fd::<SharedCounter>(received()).unwrap().get(), 6);
}

#[test]
fn a_leaked_value_stays_mapped() {
    let leaked: &'static SharedMutex<u32> = Shared::anonymous(SharedMutex::new(4)).unwrap().leak();
    thread::spawn(move || *leaked.lock().unwrap() += 1)
        .join()
        .unwrap();
    assert_eq!(*leaked.lock().unwrap(), 5);
}

#[test]
fn strict_alignment_is_kept_behind_a_files_header_too() {
    #[derive(ShmSafe)]
    #[repr(C, align(4096))]
    struct Page {
        number: u64,
    }
    let is_aligned = |page: &Page| (&raw const *page).addr().is_multiple_of(4096);
    let anonymous = Shared::anonymous(Page { number: 1 }).unwrap();
    let memfd = Shared::memfd("page", Page { number: 2 }).unwrap();
    let slice = Shared::<[Page]>::anonymous_from_fn(3, |index| Page {
        number: index as u64,
    })
    .unwrap();
    assert!(is_aligned(&anonymous) && is_aligned(&memfd) && is_aligned(&slice[2]));
    assert_eq!((anonymous.number, memfd.number, slice[2].number), (1, 2, 2));
}

#[test]
fn an_alignment_beyond_a_page_is_refused() {
    #[derive(ShmSafe)]
    #[repr(C, align(8192))]
    struct Pages {
        number: u64,
    }
    let refusals = [
        Shared::anonymous(Pages { number: 1 }).err().unwrap(),
        Shared::memfd("pages", Pages { number: 1 }).err().unwrap(),
        Shared::<[Pages]>::anonymous_from_fn(0, |_| Pages { number: 1 })
            .err()
            .unwrap(),
    ];
    for refusal in refusals {
        assert!(
            matches!(
                refusal,
                Error::OverAligned {
                    asked: 8192,
                    page: 4096
                }
            ),
            "{refusal:?}"
        );
        assert!(refusal.to_string().contains("repr(align)"), "{refusal}");
    }
}

#[test]
fn a_value_of_no_bytes_can_be_placed() {
    let (empty, none) = (
        Shared::anonymous(()).unwrap(),
        Shared::anonymous([0_u64; 0]).unwrap(),
    );
    assert_eq!((*empty, none.len()), ((), 0));
    let lock = Shared::anonymous(SharedMutex::new(())).unwrap();
    drop(lock.lock().unwrap());
    let memfd = Shared::memfd("nothing", ()).unwrap();
    from_fd::<()>(descriptor(&memfd)).unwrap();
}

#[test]
fn a_slice_has_the_requested_length() {
    let locks = Shared::<[SharedMutex<usize>]>::anonymous_from_fn(1000, SharedMutex::new).unwrap();
    assert_eq!(locks.len(), 1000);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| locks.iter().for_each(|lock| *lock.lock().unwrap() += 1));
        }
    });
    for (index, lock) in locks.iter().enumerate() {
        assert_eq!(*lock.lock().unwrap(), index + 2);
    }
}

#[test]
fn a_slice_of_no_bytes_or_of_too_many_is_refused() {
    let none = Shared::<[u64]>::anonymous_from_fn(0, |_| unreachable!()).unwrap_err();
    assert!(matches!(none, Error::ZeroLength), "{none:?}");
    let some = Shared::<[()]>::anonymous_from_fn(5, |_| ()).unwrap_err();
    assert!(matches!(some, Error::ZeroLength), "{some:?}");
    let many = Shared::<[u64]>::anonymous_from_fn(usize::MAX, |_| unreachable!()).unwrap_err();
    assert!(matches!(many, Error::TooLarge), "{many:?}");
    let large = Shared::<[u64]>::anonymous_from_fn(1 << 58, |_| unreachable!()).unwrap_err();
    assert!(matches!(large, Error::NoMemory { .. }), "{large:?}");
}

#[test]
fn a_panic_while_a_slice_is_filled_propagates() {
    let filled = std::panic::catch_unwind(|| {
        Shared::<[SharedCounter]>::anonymous_from_fn(10, |index| {
            assert!(index < 5, "no more");
            SharedCounter::new(0)
        })
    });
    assert!(filled.is_err());
}

#[test]
fn dropping_unmaps_and_a_leaked_guard_keeps_the_memory() {
    fn is_mapped<T>(value: *const T) -> bool {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().any(|line| {
            let (range, _) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let address = |text| usize::from_str_radix(text, 16).unwrap();
            line.contains("memfd:") && (address(start)..address(end)).contains(&value.addr())
        })
    }
    // Different names keep neighbouring maps apart.
    let lock = Shared::memfd("dropped", SharedMutex::new(0)).unwrap();
    let address = &raw const *lock;
    assert!(is_mapped(address));
    drop(lock);
    assert!(!is_mapped(address));

    let lock = Shared::memfd("kept", SharedMutex::new(0)).unwrap();
    let address = &raw const *lock;
    std::mem::forget(lock.lock().unwrap());
    drop(lock);
    assert!(is_mapped(address));
}

#[test]
fn a_placed_value_can_be_sent_to_other_threads() {
    fn is_send_and_sync<T: Send + Sync>() {}
    is_send_and_sync::<Shared<State>>();
    is_send_and_sync::<Shared<[SharedMutex<std::cell::Cell<u8>>]>>();
    let moved = Shared::anonymous(state()).unwrap();
    thread::spawn(move || assert_is_initial(&moved))
        .join()
        .unwrap();
}

#[test]
fn a_placed_value_is_formatted_as_itself() {
    let shown = format!("{:?}", Shared::anonymous(SharedCounter::new(5)).unwrap());
    assert!(
        shown.starts_with("Shared(SharedCounter") && shown.contains('5'),
        "{shown}"
    );
    let slice = Shared::<[u8]>::anonymous_from_fn(3, |index| index as u8).unwrap();
    assert_eq!(format!("{slice:?}"), "Shared([0, 1, 2])");
}
