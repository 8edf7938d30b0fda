//! Implementations of [`ShmSafe`] and [`ShmData`] for types of the language, of the standard
//! library and of `arrayvec`.
//!
//! Without `do_not_recommend`, the compiler's errors would list these types, alphabetically, as
//! "other types that implement the trait". The messages of the traits are more useful.

use super::{Layout, PrimitiveVisitor, ShmData, ShmSafe};
#[cfg(feature = "arrayvec")]
use arrayvec::{ArrayString, ArrayVec};
use std::cell::Cell;
use std::marker::PhantomData;
use std::num::{
    NonZeroI8, NonZeroI16, NonZeroI32, NonZeroI64, NonZeroI128, NonZeroIsize, NonZeroU8,
    NonZeroU16, NonZeroU32, NonZeroU64, NonZeroU128, NonZeroUsize, Wrapping,
};
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
    AtomicU32, AtomicU64, AtomicUsize,
};

/// Implements both traits for types that have no parts and no primitives.
///
/// The caller must argue that the types mean the same in every process, have a layout that the
/// language or the library fixes, and need no drop. If `zero` is true, the caller must also argue
/// that zero bytes are a valid value and the initial state.
macro_rules! leaves {
    (zero = $zero:literal; $($ty:ty as $name:literal),* $(,)?) => {$(
        #[diagnostic::do_not_recommend]
        // SAFETY: argued at each use of the macro. The type contains no primitive to be visited.
        // The type's `Sync` defines the allowed shared access, and this holds for every address at
        // which the value is seen.
        unsafe impl ShmSafe for $ty {
            const ZERO_IS_VALID: bool = $zero;
            const HAS_PRIMITIVES: bool = false;

            fn describe(layout: &mut Layout) {
                layout.leaf::<$ty>($name);
            }

            fn visit(&self, _: &mut PrimitiveVisitor<'_>) {}
        }

        #[diagnostic::do_not_recommend]
        // SAFETY: argued at each use of the macro. The type contains no primitive of this crate.
        unsafe impl ShmData for $ty {
            const ZERO_IS_VALID: bool = $zero;

            fn describe(layout: &mut Layout) {
                layout.leaf::<$ty>($name);
            }
        }
    )*};
}

// The value of a number is its bytes, in the byte order of the machine on which all processes run.
// The language fixes the sizes; those of `usize` and `isize` are fixed by the 64-bit targets that
// this crate accepts. Zero bytes are 0, `false`, `'\0'` and `()`, which are valid.
leaves! {
    zero = true;
    u8 as "u8", u16 as "u16", u32 as "u32", u64 as "u64", u128 as "u128", usize as "usize",
    i8 as "i8", i16 as "i16", i32 as "i32", i64 as "i64", i128 as "i128", isize as "isize",
    f32 as "f32", f64 as "f64",
    bool as "bool", char as "char", () as "()",
}

// The library guarantees that a `NonZero` has the layout of its integer, and that 0 is not a valid
// value.
leaves! {
    zero = false;
    NonZeroU8 as "NonZeroU8", NonZeroU16 as "NonZeroU16", NonZeroU32 as "NonZeroU32", NonZeroU64 as "NonZeroU64",
    NonZeroU128 as "NonZeroU128", NonZeroUsize as "NonZeroUsize",
    NonZeroI8 as "NonZeroI8", NonZeroI16 as "NonZeroI16", NonZeroI32 as "NonZeroI32", NonZeroI64 as "NonZeroI64",
    NonZeroI128 as "NonZeroI128", NonZeroIsize as "NonZeroIsize",
}

// The library guarantees that an `Option` of a `NonZero` also has that layout, and that `None` is
// the missing value 0. It guarantees this for no other `Option` here.
leaves! {
    zero = true;
    Option<NonZeroU8> as "Option<NonZeroU8>", Option<NonZeroU16> as "Option<NonZeroU16>",
    Option<NonZeroU32> as "Option<NonZeroU32>", Option<NonZeroU64> as "Option<NonZeroU64>",
    Option<NonZeroU128> as "Option<NonZeroU128>", Option<NonZeroUsize> as "Option<NonZeroUsize>",
    Option<NonZeroI8> as "Option<NonZeroI8>", Option<NonZeroI16> as "Option<NonZeroI16>",
    Option<NonZeroI32> as "Option<NonZeroI32>", Option<NonZeroI64> as "Option<NonZeroI64>",
    Option<NonZeroI128> as "Option<NonZeroI128>", Option<NonZeroIsize> as "Option<NonZeroIsize>",
}

// The library guarantees that an atomic has the size and the bit validity of its integer. On the
// targets that this crate accepts, all operations of these types are plain instructions on the
// memory itself, so they are atomic between processes as between threads. `AtomicPtr` is missing
// because it holds an address.
leaves! {
    zero = true;
    AtomicBool as "AtomicBool",
    AtomicU8 as "AtomicU8", AtomicU16 as "AtomicU16", AtomicU32 as "AtomicU32", AtomicU64 as "AtomicU64",
    AtomicUsize as "AtomicUsize",
    AtomicI8 as "AtomicI8", AtomicI16 as "AtomicI16", AtomicI32 as "AtomicI32", AtomicI64 as "AtomicI64",
    AtomicIsize as "AtomicIsize",
}

#[diagnostic::do_not_recommend]
// SAFETY: the language guarantees that the elements lie one after another, `size_of::<T>()` apart.
// Each element is `ShmSafe`, and `visit` reaches each. An array without elements has no bytes, so
// zero bytes are trivially its initial state.
unsafe impl<T: ShmSafe, const N: usize> ShmSafe for [T; N] {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID || N == 0;
    const HAS_PRIMITIVES: bool = T::HAS_PRIMITIVES && N > 0;

    fn describe(layout: &mut Layout) {
        layout.array(N, size_of::<T>(), T::describe);
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.elements(self);
    }
}

#[diagnostic::do_not_recommend]
// SAFETY: as for `ShmSafe`; no element contains a primitive.
unsafe impl<T: ShmData, const N: usize> ShmData for [T; N] {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID || N == 0;

    fn describe(layout: &mut Layout) {
        layout.array(N, size_of::<T>(), T::describe);
    }
}

#[diagnostic::do_not_recommend]
// SAFETY: the type has no bytes, for every `T`.
unsafe impl<T: ?Sized + Sync + 'static> ShmSafe for PhantomData<T> {
    const ZERO_IS_VALID: bool = true;
    const HAS_PRIMITIVES: bool = false;

    fn describe(layout: &mut Layout) {
        layout.leaf::<Self>("PhantomData");
    }

    fn visit(&self, _: &mut PrimitiveVisitor<'_>) {}
}

#[diagnostic::do_not_recommend]
// SAFETY: the type has no bytes, for every `T`.
unsafe impl<T: ?Sized + Send + 'static> ShmData for PhantomData<T> {
    const ZERO_IS_VALID: bool = true;

    fn describe(layout: &mut Layout) {
        layout.leaf::<Self>("PhantomData");
    }
}

#[diagnostic::do_not_recommend]
// SAFETY: `Wrapping` is `repr(transparent)` and adds only arithmetic, so all that holds for `T`
// holds for it.
unsafe impl<T: ShmSafe> ShmSafe for Wrapping<T> {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID;
    const HAS_PRIMITIVES: bool = T::HAS_PRIMITIVES;

    fn describe(layout: &mut Layout) {
        T::describe(layout);
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        self.0.visit(visitor);
    }
}

#[diagnostic::do_not_recommend]
// SAFETY: `Wrapping` is `repr(transparent)` and adds only arithmetic, so all that holds for `T`
// holds for it.
unsafe impl<T: ShmData> ShmData for Wrapping<T> {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID;

    fn describe(layout: &mut Layout) {
        T::describe(layout);
    }
}

#[diagnostic::do_not_recommend]
// SAFETY: the library guarantees that a `Cell` has the layout of its `T`, and every valid `T` is
// valid inside it. Only the holder of the lock accesses the cell, and `ShmData` requires only
// `Send`.
unsafe impl<T: ShmData> ShmData for Cell<T> {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID;

    fn describe(layout: &mut Layout) {
        T::describe(layout);
    }
}

#[cfg(feature = "arrayvec")]
#[diagnostic::do_not_recommend]
// SAFETY: since 0.7.6, the oldest version that Cargo.toml accepts, an `ArrayString` is a `repr(C)`
// struct of its length in bytes, a `u32`, followed by the bytes of its capacity in place.
// `describe` does not compile if the size differs. Zero bytes are an empty string, which is what
// `new` makes.
unsafe impl<const N: usize> ShmData for ArrayString<N> {
    const ZERO_IS_VALID: bool = true;

    fn describe(layout: &mut Layout) {
        const {
            assert!(size_of::<Self>() == (size_of::<u32>() + N).next_multiple_of(align_of::<u32>()))
        };
        layout.leaf::<Self>(&format!("ArrayString:capacity={N}"));
    }
}

#[cfg(feature = "arrayvec")]
#[diagnostic::do_not_recommend]
// SAFETY: since 0.7.6, an `ArrayVec` is a `repr(C)` struct of its length in elements, a `u32`,
// followed by the memory of the elements. `describe` does not compile if the size differs. Its
// `Drop` only drops its elements, and `ShmData` values need no drop. Zero bytes are an empty list,
// whether or not zero bytes are a valid element.
unsafe impl<T: ShmData, const N: usize> ShmData for ArrayVec<T, N> {
    const ZERO_IS_VALID: bool = true;

    fn describe(layout: &mut Layout) {
        let elements = const {
            let elements = size_of::<u32>().next_multiple_of(align_of::<T>());
            let end = elements + N * size_of::<T>();
            assert!(size_of::<Self>() == end.next_multiple_of(align_of::<Self>()));
            elements
        };
        layout.leaf::<Self>(&format!("ArrayVec:capacity={N}"));
        layout.field("elements", elements, |layout| {
            layout.array(N, size_of::<T>(), T::describe)
        });
    }
}
