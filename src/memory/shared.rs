//! [`Shared<T>`]: one typed value in a map of its own.

use super::{Map, Primitive, PrimitiveVisitor, ShmSafe};
use crate::memory::placed::Placeable;
use crate::memory::registry::{self, Entry};
use crate::{Error, sys};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

/// A `T` in memory that several processes map: made before a `fork` and shared with the children, or in a file or a sealed
/// memfd that strangers open.
///
/// It derefs to `&T` and never gives `&mut T` or `T`: what is placed does not move, which the robust locks inside rely on.
/// All change goes through the primitives and atomics of `T`.
///
/// Dropping it unmaps the memory in this process; the other processes keep theirs. The value itself is never dropped.
///
/// # Processes count as threads
///
/// The language defines nothing for memory that several processes write. Here every process that uses the map by this crate
/// counts as a thread of one program: `T: Sync` then says what is allowed, and the same rules hold.
///
/// # What a death does
///
/// The map lives as long as somebody maps it. What the death of a user does to each primitive inside is told there.
///
/// # Forgotten guards
///
/// Where a guard was forgotten, so that a thread of this process still holds a lock inside when the `Shared` is dropped, the
/// memory is leaked: the kernel may still have to mark that lock.
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
    marker: PhantomData<T>,
}

// SAFETY: gives `&T` to whichever thread has it, and `Placeable` is `Sync`. The map is `Send` and `Sync` itself.
unsafe impl<T: ?Sized + Placeable> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Placeable> Sync for Shared<T> {}

impl<T: ShmSafe> Shared<T> {
    /// Places `value` in anonymous memory, shared with the children that are forked from here on.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] where the kernel gives no memory, [`Error::RobustListUnusable`] where a robust primitive inside cannot
    /// be armed.
    pub fn anonymous(value: T) -> Result<Self, Error> {
        Self::in_new_map(Map::anonymous(room::<T>(1)?)?, value)
    }

    /// As [`anonymous`](Self::anonymous), by a map of `/dev/zero`: the older way, where `MAP_ANONYMOUS` is missing.
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Self::anonymous), and where `/dev/zero` cannot be opened.
    pub fn dev_zero(value: T) -> Result<Self, Error> {
        Self::in_new_map(Map::dev_zero(room::<T>(1)?)?, value)
    }

    /// Places a value whose bytes are all zero, in anonymous memory: its start state, for types of which that is true. The
    /// value is never built on the stack, so it may be larger than that.
    ///
    /// A type of which it is not true does not compile:
    ///
    /// ```compile_fail
    /// let no = pshared::Shared::<std::num::NonZeroU32>::zeroed();
    /// ```
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Self::anonymous).
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Shared, SharedCounter};
    ///
    /// let counters = Shared::<[SharedCounter; 8 << 20]>::zeroed()?; // 64 MiB
    /// counters[5_000_000].add(1);
    /// # Ok::<(), pshared::Error>(())
    /// ```
    pub fn zeroed() -> Result<Self, Error> {
        const {
            assert!(
                T::ZERO_IS_VALID,
                "zero bytes are not this type's start state: use Shared::anonymous(value)"
            )
        };
        let map = Map::anonymous(room::<T>(1)?)?;
        // SAFETY: the new map is all zero, and by `ZERO_IS_VALID` that is a `T` in its start state.
        unsafe { Self::init_new(map, 0, 1) }
    }

    fn in_new_map(map: Map, value: T) -> Result<Self, Error> {
        // SAFETY: the map is new, writable, large enough, and page-aligned, which `room` found to be enough.
        unsafe { map.as_mut_ptr().cast::<T>().write(value) };
        // SAFETY: the value has just been written, and nobody else has seen the map.
        unsafe { Self::init_new(map, 0, 1) }
    }
}

impl<T: ShmSafe> Shared<[T]> {
    /// Places `len` values in anonymous memory, the one at index `i` being `value(i)`: one entry a worker, say.
    ///
    /// # Errors
    ///
    /// As [`Shared::anonymous`], and [`Error::ZeroLength`] for a slice of no bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use pshared::{Shared, SharedCounter};
    ///
    /// let workers = 3;
    /// let done = Shared::<[SharedCounter]>::anonymous_from_fn(workers, |_| SharedCounter::new(0))?;
    /// assert_eq!(done.len(), 3);
    /// # Ok::<(), pshared::Error>(())
    /// ```
    pub fn anonymous_from_fn(len: usize, mut value: impl FnMut(usize) -> T) -> Result<Self, Error> {
        let map = Map::anonymous(room::<[T]>(len)?)?;
        let first = map.as_mut_ptr().cast::<T>();
        for index in 0..len {
            // SAFETY: the map has room for `len` values, and nobody else has seen it. (Where `value` panics, the map goes
            // and what lies in it, which has nothing to drop.)
            unsafe { first.add(index).write(value(index)) };
        }
        // SAFETY: all values have just been written.
        unsafe { Self::init_new(map, 0, len) }
    }
}

impl<T: ?Sized + Placeable> Shared<T> {
    /// Gives the value up to this process for good: it stays mapped until the process ends.
    pub fn leak(self) -> &'static T {
        let value = self.value;
        std::mem::forget(self);
        // SAFETY: the map was not dropped and now never is.
        unsafe { value.as_ref() }
    }

    /// Takes over a map in which a value was just written, and arms its primitives.
    ///
    /// # Safety
    ///
    /// A valid `T` of `count` elements lies at `offset` of the map, which is writable, aligned for it, and seen by nobody
    /// else yet.
    pub(super) unsafe fn init_new(map: Map, offset: usize, count: usize) -> Result<Self, Error> {
        // SAFETY: the caller's promise.
        let shared = unsafe { Self::adopt(map, offset, count) };
        let mut outcome = Ok(());
        shared.visit_all(&mut PrimitiveVisitor::new(
            &mut |_, primitive: &dyn Primitive| {
                if outcome.is_ok() {
                    // SAFETY: it has its final address, since `Shared` never moves its value; nobody else has seen the map;
                    // and `drop` leaks the memory while a thread of this process holds the primitive.
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
    /// A valid `T` of `count` elements lies at `offset` of the map, which is writable and aligned for it.
    pub(super) unsafe fn adopt(map: Map, offset: usize, count: usize) -> Self {
        // SAFETY: the value lies inside the map, so there is room for it, and its address is not null.
        let value = unsafe { NonNull::new_unchecked(Self::place_in(&map, offset, count)) };
        // SAFETY: the value lies there until `drop` takes the entry out.
        let entry = unsafe { registry::register(value.as_ptr().cast(), count, Self::is_in_use) };
        Shared {
            map: ManuallyDrop::new(map),
            value,
            entry,
            marker: PhantomData,
        }
    }

    /// Whether a thread of this process has a lock inside in its hands, or had when it ended.
    ///
    /// # Safety
    ///
    /// A valid `T` of `count` elements lies at `value`.
    unsafe fn is_in_use(value: *const (), count: usize) -> bool {
        // SAFETY: the address of a value is not null.
        let start = unsafe { NonNull::new_unchecked(value.cast_mut().cast::<u8>()) };
        // SAFETY: the caller's promise.
        let value = unsafe { T::at(start, count).as_ref() };
        let mut in_use = false;
        value.visit_all(&mut PrimitiveVisitor::new(
            &mut |_, primitive: &dyn Primitive| {
                in_use |=
                    primitive.is_held_by_this_process() || primitive.was_leaked_by_this_process();
            },
        ));
        in_use
    }

    /// Where a `T` of `count` elements is to be written, `offset` bytes into the map.
    ///
    /// # Safety
    ///
    /// There is room for one.
    pub(super) unsafe fn place_in(map: &Map, offset: usize, count: usize) -> *mut T {
        // SAFETY: the place lies inside the map, so its start does too.
        let start = unsafe { NonNull::new_unchecked(map.as_mut_ptr().add(offset)) };
        T::at(start, count).as_ptr()
    }

    pub(super) fn map(&self) -> &Map {
        &self.map
    }
}

impl<T: ?Sized + Placeable> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a valid `T` lies there as long as the map does, and nobody makes a `&mut` to it.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized + Placeable> Drop for Shared<T> {
    fn drop(&mut self) {
        let mut held = false;
        self.visit_all(&mut PrimitiveVisitor::new(
            &mut |_, primitive: &dyn Primitive| {
                held |= primitive.is_held_by_this_process();
            },
        ));
        if !held {
            self.entry.vacate();
            sys::forget_list_op_pending(self.map.as_ptr(), self.map.len());
            // SAFETY: dropped once, here, and the value is not used again. No thread of this process holds a primitive
            // inside: no guard is left, since each borrows `self`, and the walk found no forgotten one.
            unsafe { ManuallyDrop::drop(&mut self.map) };
        }
    }
}

impl<T: ?Sized + Placeable + fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shared").field(&&**self).finish()
    }
}

/// The bytes that `count` elements need in a map of their own; at least one, so that a `T` of none has an address.
fn room<T: ?Sized + Placeable>(count: usize) -> Result<usize, Error> {
    crate::memory::file::header::fits(T::memory_layout(count))
        .map(|layout| layout.size().max(usize::from(T::IS_SIZED)))
}
