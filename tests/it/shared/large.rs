//! Values that are larger than the stack, and slices that are opened or created.

use pshared::{Error, Shared, SharedCounter};
use std::path::{Path, PathBuf};
use std::thread;
use tempfile::TempDir;

const LEN: usize = 8 << 20;

/// 64 MiB.
type Large = [SharedCounter; LEN];

/// Runs `body` in a thread with the default stack, and in one with a stack of 256 KiB.
fn on_small_stacks(body: fn()) {
    for builder in [
        thread::Builder::new(),
        thread::Builder::new().stack_size(256 << 10),
    ] {
        builder.spawn(body).unwrap().join().unwrap();
    }
}

/// Returns a test's own directory, and an unused path in it.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("board");
    (directory, path)
}

/// Checks that the values are 0, and adds 1 to the last.
fn use_zeroed(values: &[SharedCounter]) {
    assert_eq!(values.len(), LEN);
    assert!(
        [0, LEN / 2, LEN - 1]
            .iter()
            .all(|at| values[*at].get() == 0)
    );
    values[LEN - 1].add(1);
}

fn open_or_create_slice(
    path: &Path,
    len: usize,
    value: u64,
) -> Result<Shared<[SharedCounter]>, Error> {
    // SAFETY: the files of these tests lie in directories that belong to one test each.
    unsafe { Shared::open_or_create_from_fn(path, len, |at| SharedCounter::new(value + at as u64)) }
}

#[test]
fn a_zeroed_value_is_made_in_each_kind_of_memory_without_the_stack() {
    on_small_stacks(|| {
        use_zeroed(&Shared::<Large>::zeroed().unwrap()[..]);
        use_zeroed(&Shared::<Large>::memfd_zeroed("large").unwrap()[..]);
        let (_directory, path) = place();
        // SAFETY: as in `open_or_create_slice`.
        use_zeroed(&unsafe { Shared::<Large>::create_zeroed(&path) }.unwrap()[..]);
        // SAFETY: as above.
        let again = unsafe { Shared::<Large>::open_or_create_zeroed(&path) }.unwrap();
        assert_eq!(again[LEN - 1].get(), 1, "it was opened");
        std::fs::remove_file(&path).unwrap();
        // SAFETY: as above.
        use_zeroed(&unsafe { Shared::<Large>::open_or_create_zeroed(&path) }.unwrap()[..]);
    });
}

#[test]
fn a_large_file_is_opened_on_a_small_stack_by_the_form_that_would_build_its_value_there() {
    on_small_stacks(|| {
        let (_directory, path) = place();
        // SAFETY: as above.
        let made = unsafe { Shared::<Large>::create_zeroed(&path) }.unwrap();
        made[7].add(7);
        // SAFETY: as above.
        let opened = unsafe {
            Shared::<Large>::open_or_create(&path, || [const { SharedCounter::new(1) }; LEN])
        };
        assert_eq!(opened.unwrap()[7].get(), 7);
    });
}

#[test]
fn a_large_slice_is_made_in_each_kind_of_memory_without_the_stack() {
    on_small_stacks(|| {
        use_zeroed(&Shared::zeroed_slice(LEN).unwrap());
        use_zeroed(&Shared::memfd_zeroed_slice("large", LEN).unwrap());
        let (_directory, path) = place();
        // SAFETY: as above.
        use_zeroed(&unsafe { Shared::create_zeroed_slice(&path, LEN) }.unwrap());
        // SAFETY: as above.
        let again = unsafe { Shared::<[SharedCounter]>::open_or_create_zeroed_slice(&path, LEN) };
        assert_eq!(again.unwrap()[LEN - 1].get(), 1, "it was opened");
        std::fs::remove_file(&path).unwrap();
        // SAFETY: as above.
        use_zeroed(&unsafe { Shared::open_or_create_zeroed_slice(&path, LEN) }.unwrap());
        std::fs::remove_file(&path).unwrap();
        let made = open_or_create_slice(&path, LEN, 5).unwrap();
        assert_eq!((made[0].get(), made[LEN - 1].get()), (5, LEN as u64 + 4));
        let memfd = Shared::<[u64]>::memfd_from_fn("large", LEN, |at| at as u64).unwrap();
        assert_eq!((memfd[0], memfd[LEN - 1]), (0, LEN as u64 - 1));
    });
}

#[test]
fn a_slice_of_another_length_is_refused_with_both_lengths_and_left_as_it_was() {
    let (_directory, path) = place();
    let made = open_or_create_slice(&path, 5, 10).unwrap();
    assert_eq!(open_or_create_slice(&path, 5, 0).unwrap()[4].get(), 14);
    for in_use in [true, false] {
        for other in [4, 6] {
            let refusal = open_or_create_slice(&path, other, 0).unwrap_err();
            assert!(
                matches!(refusal, Error::LayoutMismatch { .. }),
                "{refusal:?}"
            );
            let message = refusal.to_string();
            assert!(
                message.contains(&format!("expected a slice of {other} elements"))
                    && message.contains("found a slice of 5 elements"),
                "in use: {in_use}: {message}"
            );
        }
        if in_use {
            made[4].add(1);
        }
    }
    drop(made);
    assert_eq!(open_or_create_slice(&path, 5, 0).unwrap()[4].get(), 15);
    // Without a requested length, any length is opened.
    // SAFETY: as above.
    let opened = unsafe { Shared::<[SharedCounter]>::open(&path) }.unwrap();
    assert_eq!(opened.len(), 5);
}
