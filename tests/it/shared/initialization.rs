//! What happens to the primitives of a value when the value is placed.

use super::*;
use pshared::SharedGauge;
use pshared::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor};
use std::num::NonZeroU8;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// A primitive that counts how often it was initialized, or refuses to be.
#[repr(C)]
struct Fuse {
    initialized: AtomicU32,
    refuses: u32,
}

// SAFETY: the layout describes both words, and the visit reaches the primitive itself.
unsafe impl ShmSafe for Fuse {
    const ZERO_IS_VALID: bool = true;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(PrimitiveKind("fuse"));
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.primitive(self);
    }
}

impl Primitive for Fuse {
    fn kind(&self) -> PrimitiveKind {
        PrimitiveKind("fuse")
    }

    unsafe fn init(&self) -> Result<(), Error> {
        self.initialized.fetch_add(1, Relaxed);
        if self.refuses == 0 {
            Ok(())
        } else {
            Err(Error::RobustListUnusable {
                found: "a fuse".into(),
            })
        }
    }

    fn is_held_by_this_process(&self) -> bool {
        false
    }

    unsafe fn reset(&self) {
        unreachable!("the value is always in use");
    }
}

fn fuse(refuses: u32) -> Fuse {
    Fuse {
        initialized: AtomicU32::new(0),
        refuses,
    }
}

#[test]
fn every_primitive_is_initialized_once_and_not_again_by_openers() {
    let fuses = Shared::<[[Fuse; 2]]>::anonymous_from_fn(3, |_| [fuse(0), fuse(0)]).unwrap();
    assert!(
        fuses
            .iter()
            .flatten()
            .all(|fuse| fuse.initialized.load(Relaxed) == 1)
    );
    let memfd = Shared::memfd("fuse", fuse(0)).unwrap();
    assert_eq!(
        from_fd::<Fuse>(descriptor(&memfd))
            .unwrap()
            .initialized
            .load(Relaxed),
        1
    );
}

#[test]
fn nothing_is_placed_if_a_primitive_cannot_be_initialized() {
    let refusals = [
        Shared::anonymous([fuse(0), fuse(1), fuse(0)])
            .err()
            .unwrap(),
        Shared::memfd("fuse", fuse(1)).err().unwrap(),
    ];
    for refusal in refusals {
        assert!(
            matches!(refusal, Error::RobustListUnusable { .. }),
            "{refusal:?}"
        );
    }
    let directory = tempfile::tempdir().unwrap();
    // SAFETY: only this test knows the directory.
    let refusal = unsafe { Shared::create(directory.path().join("fuse"), fuse(1)) }
        .err()
        .unwrap();
    assert!(
        matches!(refusal, Error::RobustListUnusable { .. }),
        "{refusal:?}"
    );
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn placing_releases_a_lock_whose_guard_was_leaked_before() {
    let lock = SharedMutex::new(1);
    std::mem::forget(lock.lock().unwrap());
    assert!(matches!(lock.try_lock(), Err(LockError::WouldBlock)));
    let placed = Shared::anonymous(lock).unwrap();
    assert_eq!(placed.holder(), None);
    *placed.lock().unwrap() += 1;
    assert_eq!(*placed.lock().unwrap(), 2);
}

#[test]
fn zeroed_primitives_are_initialized_in_their_start_state() {
    #[derive(ShmSafe)]
    #[pshared(zeroed)]
    #[repr(C)]
    struct Zero {
        locks: [SharedMutex<[u64; 3]>; 4],
        semaphore: SharedSemaphore,
        level: SharedGauge,
        event: SharedEvent,
        none: Option<NonZeroU8>,
        bare: AtomicU64,
    }
    let zero = Shared::<Zero>::zeroed().unwrap();
    for lock in &zero.locks {
        assert!(!lock.is_poisoned() && lock.holder().is_none());
        let mut guard = lock.lock().unwrap();
        assert!(guard.iter().all(|number| *number == 0));
        guard[2] = 5;
        drop(guard);
        assert_eq!(lock.lock().unwrap()[2], 5);
    }
    assert!(zero.semaphore.try_wait().is_err());
    zero.semaphore.post().unwrap();
    assert_eq!(zero.semaphore.value(), 1);
    assert_eq!(
        (zero.level.get(), zero.event.sequence(), zero.none),
        (0, 0, None)
    );
    assert_eq!(zero.bare.fetch_add(1, Relaxed), 0);
}
