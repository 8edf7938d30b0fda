//! [`Shared<T>`]: one typed value in a map of its own.

use super::{Map, Primitive, PrimitiveVisitor, ShmSafe};
use crate::Error;
use crate::memory::file::checks::absolute;
use crate::memory::placeable::Placeable;
use crate::memory::registry::{self, Entry};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::path::Path;
use std::ptr::NonNull;

/// A `T` in memory that several processes map.
///
/// The memory is made before a `fork` and shared with the children, or it is a file or a sealed
/// memfd that unrelated processes open.
///
/// A `Shared<T>` dereferences to `&T`. It never gives `&mut T` or `T`, because the robust locks
/// inside rely on a placed value not moving. Every change goes through the primitives and atomics
/// of `T`.
///
/// Dropping a `Shared<T>` unmaps the memory in this process; the maps of other processes remain.
/// The value itself is never dropped.
///
/// # Processes count as threads
///
/// The Rust language does not define the behavior of memory that several processes write. In this
/// crate, every process that uses the map through this crate counts as a thread of one program.
/// `T: Sync` then defines which accesses are allowed, and the same rules apply.
///
/// # What a death does
///
/// The memory remains while any process maps it. The documentation of each primitive describes the
/// effect of its user's death.
///
/// # Leaked guards
///
/// If a guard was leaked (`mem::forget`), a thread of this process may still hold a lock inside
/// when the `Shared` is dropped. The memory then stays mapped as long as that thread runs, because
/// the kernel writes to the lock when the thread ends. It is unmapped when this process next
/// creates, opens or drops a `Shared`. A lock that is held through another map of the same file
/// does not keep this map. If a filter denies `get_robust_list(2)` or `process_vm_readv(2)`, this
/// is not known, and the map stays until the lock is released.
///
/// # Examples
///
/// ```
/// use pshared::{fork, Shared, SharedCounter};
///
/// let hits = Shared::anonymous(SharedCounter::new(0))?;
/// let child = fork::spawn(|| {
///     hits.add(2);
/// })?;
/// hits.add(1);
/// assert!(child.wait()?.success());
/// assert_eq!(hits.get(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Shared<T: ?Sized + Placeable> {
    map: ManuallyDrop<Map>,
    value: NonNull<T>,
    entry: &'static Entry,
    /// The absolute path by which the file was opened or created.
    path: Option<Box<Path>>,
    marker: PhantomData<T>,
}

// SAFETY: `Shared` gives only `&T` to the thread that has it, and `Placeable` is `Sync`. The map is
// `Send` and `Sync`.
unsafe impl<T: ?Sized + Placeable> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Placeable> Sync for Shared<T> {}

impl<T: ShmSafe> Shared<T> {
    /// Places `value` in anonymous memory, shared with children forked later.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Os`] or [`Error::NoMemory`] if the kernel does not grant the memory,
    /// [`Error::OverAligned`] if `T` needs more than a page's alignment, and
    /// [`Error::RobustListUnusable`] or [`Error::PidNamespaceUnknown`] if a robust primitive inside
    /// cannot be initialized.
    pub fn anonymous(value: T) -> Result<Self, Error> {
        Self::in_new_map(Map::anonymous, 1, &mut copy_of(value))
    }

    /// Places `value` in a map of `/dev/zero`, the older method, for systems without
    /// `MAP_ANONYMOUS`.
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Self::anonymous). Also returns [`Error::Os`] if `/dev/zero` cannot be
    /// opened, and [`Error::NotMappable`] if it is not the zero device.
    pub fn dev_zero(value: T) -> Result<Self, Error> {
        Self::in_new_map(Map::dev_zero, 1, &mut copy_of(value))
    }

    /// Places an all-zero value in anonymous memory.
    ///
    /// This is the value's initial state, for types with [`ZERO_IS_VALID`](ShmSafe::ZERO_IS_VALID).
    /// The value is never built on the stack, so it may be larger than the stack.
    ///
    /// A type with a derived [`ShmSafe`] allows this by `#[pshared(zeroed)]`. Any code may then
    /// create its value of zero bytes, also if its fields are private. A type that does not allow
    /// it does not compile:
    ///
    /// ```compile_fail,E0080
    /// let no = pshared::Shared::<std::num::NonZeroU32>::zeroed();
    /// ```
    ///
    /// ```compile_fail,E0080
    /// /// Only `new` makes one, so the denominator is not 0.
    /// #[derive(pshared::ShmSafe)]
    /// #[repr(C)]
    /// struct Ratio { numerator: u32, denominator: u32 }
    ///
    /// let no = pshared::Shared::<Ratio>::zeroed();
    /// ```
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Self::anonymous).
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Shared, SharedCounter, ShmSafe};
    ///
    /// #[derive(ShmSafe)]
    /// #[pshared(zeroed)]
    /// #[repr(C)]
    /// struct Requests { served: SharedCounter, refused: SharedCounter }
    ///
    /// let requests = Shared::<[Requests; 4 << 20]>::zeroed()?; // 64 MiB
    /// requests[2_500_000].served.add(1);
    /// # Ok::<(), pshared::Error>(())
    /// ```
    pub fn zeroed() -> Result<Self, Error> {
        Self::in_new_map(Map::anonymous, 1, &mut const { left_zero::<T, T>() })
    }
}

impl<T: ShmSafe> Shared<[T]> {
    /// Places `len` values in anonymous memory. The element at index `i` is `value(i)`.
    ///
    /// For example, a server can have one element for each worker.
    ///
    /// # Errors
    ///
    /// As [`Shared::anonymous`]. Also returns [`Error::ZeroLength`] if the slice has no bytes, and
    /// [`Error::TooLarge`] if it is too large for the address space.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Shared, SharedCounter};
    ///
    /// let workers = 3;
    /// let done =
    ///     Shared::<[SharedCounter]>::anonymous_from_fn(workers, |_| SharedCounter::new(0))?;
    /// assert_eq!(done.len(), 3);
    /// # Ok::<(), pshared::Error>(())
    /// ```
    pub fn anonymous_from_fn(len: usize, value: impl FnMut(usize) -> T) -> Result<Self, Error> {
        Self::in_new_map(Map::anonymous, len, &mut each(value))
    }

    /// Places `len` all-zero values in anonymous memory.
    ///
    /// A type for which zero bytes are not the initial state does not compile, as for
    /// [`Shared::zeroed`].
    ///
    /// # Errors
    ///
    /// As [`anonymous_from_fn`](Self::anonymous_from_fn).
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Shared, SharedCounter};
    ///
    /// let counters = Shared::<[SharedCounter]>::zeroed_slice(8 << 20)?; // 64 MiB
    /// counters[5_000_000].add(1);
    /// # Ok::<(), pshared::Error>(())
    /// ```
    pub fn zeroed_slice(len: usize) -> Result<Self, Error> {
        Self::in_new_map(Map::anonymous, len, &mut const { left_zero::<T, [T]>() })
    }
}

impl<T: ?Sized + Placeable> Shared<T> {
    /// Leaks the value: it stays mapped in this process until the process ends.
    pub fn leak(self) -> &'static T {
        let value = self.value;
        std::mem::forget(self);
        // SAFETY: the map was not dropped and never will be.
        unsafe { value.as_ref() }
    }

    /// Writes a value of `count` elements to the start of a new map. `map` makes it, of the length
    /// that the value needs.
    fn in_new_map(
        map: impl FnOnce(usize) -> Result<Map, Error>,
        count: usize,
        write: Write<'_, T>,
    ) -> Result<Self, Error> {
        let map = map(mapped_len::<T>(count)?)?;
        // SAFETY: the map has the length from `mapped_len`, which has also checked that `T` needs
        // no more alignment than a page's.
        write(unsafe { Self::place_in(&map, 0, count) });
        // SAFETY: the value has just been written, and no other thread or process has seen the map.
        unsafe { Self::init_new(map, 0, count) }
    }

    /// Takes over a map in which a value was just written, and initializes its primitives.
    ///
    /// # Safety
    ///
    /// A valid `T` of `count` elements must lie at `offset` of the map. The map must be writable
    /// and aligned for it, and no other thread or process may have seen it.
    pub(super) unsafe fn init_new(map: Map, offset: usize, count: usize) -> Result<Self, Error> {
        // SAFETY: guaranteed by the caller.
        let shared = unsafe { Self::adopt(map, offset, count) };
        let mut outcome = Ok(());
        shared.visit_all(&mut PrimitiveVisitor::new(
            &mut |_, primitive: &dyn Primitive| {
                if outcome.is_ok() {
                    // SAFETY: the primitive is at its final address, because `Shared` never moves
                    // its value. No other thread or process has seen the map. `drop` keeps the
                    // memory mapped while the kernel may write to the primitive.
                    outcome = unsafe { primitive.init() };
                }
            },
        ));
        outcome.map(|()| shared)
    }

    /// Takes over a map in which a value lies.
    ///
    /// # Safety
    ///
    /// A valid `T` of `count` elements must lie at `offset` of the map. The map must be writable
    /// and aligned for it.
    pub(super) unsafe fn adopt(map: Map, offset: usize, count: usize) -> Self {
        // SAFETY: the value lies inside the map, so the map has space for it, and its address is
        // not null.
        let value = unsafe { NonNull::new_unchecked(Self::place_in(&map, offset, count)) };
        // SAFETY: the value remains there as long as its map, which `drop` gives to the entry.
        let entry =
            unsafe { registry::register(value.as_ptr().cast(), count, Self::visit_primitives) };
        Shared {
            map: ManuallyDrop::new(map),
            value,
            entry,
            path: None,
            marker: PhantomData,
        }
    }

    /// Calls `each` for each primitive inside.
    ///
    /// # Safety
    ///
    /// A valid `T` of `count` elements must lie at `value`.
    unsafe fn visit_primitives(
        value: *const (),
        count: usize,
        each: &mut dyn FnMut(&dyn Primitive),
    ) {
        // SAFETY: the address of a value is not null.
        let start = unsafe { NonNull::new_unchecked(value.cast_mut().cast::<u8>()) };
        // SAFETY: guaranteed by the caller.
        let value = unsafe { T::at(start, count).as_ref() };
        value.visit_all(&mut PrimitiveVisitor::new(&mut |_, primitive| {
            each(primitive)
        }));
    }

    /// Returns the address for a `T` of `count` elements, `offset` bytes into the map.
    ///
    /// # Safety
    ///
    /// The map must have space for a `T` of `count` elements at `offset`.
    pub(super) unsafe fn place_in(map: &Map, offset: usize, count: usize) -> *mut T {
        // SAFETY: the value's memory lies inside the map, so its start does too.
        let start = unsafe { NonNull::new_unchecked(map.as_mut_ptr().add(offset)) };
        T::at(start, count).as_ptr()
    }

    /// Records the path by which the file was opened or created.
    pub(super) fn opened_by(mut self, path: &Path) -> Result<Self, Error> {
        self.path = Some(absolute(path)?.into());
        Ok(self)
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    pub(super) fn map(&self) -> &Map {
        &self.map
    }
}

impl<T: ?Sized + Placeable> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a valid `T` lies there as long as the map exists; no code makes a `&mut` to it.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized + Placeable> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: the map is taken once, here, and the value is not used again.
        let map = unsafe { ManuallyDrop::take(&mut self.map) };
        // SAFETY: each guard borrows `self`, so none is left, except leaked ones.
        unsafe { self.entry.unmap_or_keep(map) };
    }
}

impl<T: ?Sized + Placeable + fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&&**self).finish()
    }
}

/// Writes a whole value to its final place, which is all zero before. It is called once at most,
/// with memory for the value in a new map.
pub(super) type Write<'a, T> = &'a mut dyn FnMut(*mut T);

/// Returns a closure that copies `value` to its final place.
///
/// Callees take the closure by reference. If each call on the way copied a large value, the copies
/// would not fit on the stack.
pub(super) fn copy_of<T: ShmSafe>(value: T) -> impl FnMut(*mut T) {
    // The value is moved to the map bit by bit, so this copy must not be dropped.
    let value = ManuallyDrop::new(value);
    // SAFETY: by the contract of `Write`, `slot` is memory for a `T` in a new map.
    move |slot| unsafe { slot.copy_from_nonoverlapping(&raw const *value, 1) }
}

/// Returns a closure that writes each element of a slice to its place: `value(i)` at index `i`.
///
/// If `value` panics, the map is unmapped together with the elements in it, which need no drop.
pub(super) fn each<T: ShmSafe>(mut value: impl FnMut(usize) -> T) -> impl FnMut(*mut [T]) {
    move |slots| {
        for index in 0..slots.len() {
            // SAFETY: by the contract of `Write`, the slice is memory for its elements in a new
            // map. The index is inside it.
            unsafe { slots.cast::<T>().add(index).write(value(index)) };
        }
    }
}

/// Returns a function that leaves a `P`, one or more `T`, all zero. New memory is.
///
/// Panics if zero bytes are not the initial state of `T`. Each caller evaluates this in a `const`
/// block of its own, so that the compiler's error points at the program that calls it.
pub(super) const fn left_zero<T: ShmSafe, P: ?Sized>() -> fn(*mut P) {
    assert!(
        T::ZERO_IS_VALID,
        "this type does not allow a value of zero bytes: write `#[pshared(zeroed)]` above your own type if zero \
         bytes are its initial state, or pass the value, or a function of it"
    );
    |_| {}
}

/// Returns the bytes that `count` elements need in a map of their own.
///
/// For a sized `T` this is at least one byte, so that a zero-sized `T` has an address.
fn mapped_len<T: ?Sized + Placeable>(count: usize) -> Result<usize, Error> {
    crate::memory::file::header::fits(T::memory_layout(count))
        .map(|layout| layout.size().max(usize::from(T::IS_SIZED)))
}
