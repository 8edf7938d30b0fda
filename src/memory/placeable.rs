//! The values that [`Shared`](super::Shared) can hold: one `T`, or a slice with a length known at
//! run time.

use super::{Layout, PrimitiveVisitor, ShmSafe};
use std::alloc;
use std::ptr::{self, NonNull};

/// A `T: ShmSafe`, or a `[T]` of such values.
///
/// This trait is sealed: no other value can be placed.
pub trait Placeable: sealed::Sealed + Sync + 'static {}

impl<T: ShmSafe> Placeable for T {}
impl<T: ShmSafe> Placeable for [T] {}

pub(crate) mod sealed {
    use super::*;

    pub trait Sealed {
        /// Whether the number of elements is fixed by the type, as 1.
        const IS_SIZED: bool;

        /// Returns the layout of `count` elements, or `None` if they are too many for an address
        /// space.
        fn memory_layout(count: usize) -> Option<alloc::Layout>;

        /// Adds the type's entries to a textual layout.
        fn describe(count: usize, layout: &mut Layout);

        /// Returns the value of `count` elements at `start`.
        fn at(start: NonNull<u8>, count: usize) -> NonNull<Self>;

        /// Visits every primitive inside.
        fn visit_all(&self, visitor: &mut PrimitiveVisitor<'_>);
    }

    impl<T: ShmSafe> Sealed for T {
        const IS_SIZED: bool = true;

        fn memory_layout(_: usize) -> Option<alloc::Layout> {
            Some(alloc::Layout::new::<T>())
        }

        fn describe(_: usize, layout: &mut Layout) {
            T::describe(layout);
        }

        fn at(start: NonNull<u8>, _: usize) -> NonNull<Self> {
            start.cast()
        }

        fn visit_all(&self, visitor: &mut PrimitiveVisitor<'_>) {
            if T::HAS_PRIMITIVES {
                self.visit(visitor);
            }
        }
    }

    impl<T: ShmSafe> Sealed for [T] {
        const IS_SIZED: bool = false;

        fn memory_layout(count: usize) -> Option<alloc::Layout> {
            alloc::Layout::array::<T>(count).ok()
        }

        fn describe(count: usize, layout: &mut Layout) {
            layout.array(count, size_of::<T>(), T::describe);
        }

        fn at(start: NonNull<u8>, count: usize) -> NonNull<Self> {
            let start = ptr::slice_from_raw_parts_mut(start.as_ptr().cast::<T>(), count);
            // The address of a slice is that of its start, which is not null.
            NonNull::new(start).unwrap_or_else(|| unreachable!("made from a NonNull"))
        }

        fn visit_all(&self, visitor: &mut PrimitiveVisitor<'_>) {
            visitor.elements(self);
        }
    }
}
