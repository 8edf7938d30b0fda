//! Which of the language's and the standard library's types may be placed in a map, and which may lie under a lock.
//!
//! `do_not_recommend` keeps the compiler's errors from listing these types, alphabetically, as "other types that
//! implement the trait": the traits' own words say more.

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

/// Both traits for types that have no parts and no primitives.
///
/// The caller argues that the types mean the same in every process, have a layout that the language or the library
/// fixes, need no drop, and are valid and at their start where all bytes are zero, if `zero` is true.
macro_rules! leaves {
    (zero = $zero:literal; $($ty:ty as $name:literal),* $(,)?) => {$(
        #[diagnostic::do_not_recommend]
        // SAFETY: argued at each use of the macro. Nothing is inside that a walk could reach. Shared access is what the
        // type's `Sync` allows, and that holds for every address at which the value is seen.
        unsafe impl ShmSafe for $ty {
            const ZERO_IS_VALID: bool = $zero;
            const HAS_PRIMITIVES: bool = false;

            fn describe(layout: &mut Layout) {
                layout.leaf::<$ty>($name);
            }

            fn visit(&self, _: &mut PrimitiveVisitor<'_>) {}
        }

        #[diagnostic::do_not_recommend]
        // SAFETY: argued at each use of the macro. The type holds no primitive of this crate.
        unsafe impl ShmData for $ty {
            const ZERO_IS_VALID: bool = $zero;

            fn describe(layout: &mut Layout) {
                layout.leaf::<$ty>($name);
            }
        }
    )*};
}

// Numbers are their bytes, in the byte order of the machine that all processes run on; their sizes are fixed, and those
// of `usize` and `isize` are by the 64-bit targets that this crate accepts. All zero bytes are 0, `false`, `'\0'` and
// `()`, which are valid.
leaves! {
    zero = true;
    u8 as "u8", u16 as "u16", u32 as "u32", u64 as "u64", u128 as "u128", usize as "usize",
    i8 as "i8", i16 as "i16", i32 as "i32", i64 as "i64", i128 as "i128", isize as "isize",
    f32 as "f32", f64 as "f64",
    bool as "bool", char as "char", () as "()",
}

// The library fixes that a `NonZero` has the layout of its integer, and that 0 is not a value of it.
leaves! {
    zero = false;
    NonZeroU8 as "NonZeroU8", NonZeroU16 as "NonZeroU16", NonZeroU32 as "NonZeroU32", NonZeroU64 as "NonZeroU64",
    NonZeroU128 as "NonZeroU128", NonZeroUsize as "NonZeroUsize",
    NonZeroI8 as "NonZeroI8", NonZeroI16 as "NonZeroI16", NonZeroI32 as "NonZeroI32", NonZeroI64 as "NonZeroI64",
    NonZeroI128 as "NonZeroI128", NonZeroIsize as "NonZeroIsize",
}

// The library fixes that an `Option` of a `NonZero` has its layout too, and that `None` is the 0 it lacks. Of no other
// `Option` here is that said.
leaves! {
    zero = true;
    Option<NonZeroU8> as "Option<NonZeroU8>", Option<NonZeroU16> as "Option<NonZeroU16>",
    Option<NonZeroU32> as "Option<NonZeroU32>", Option<NonZeroU64> as "Option<NonZeroU64>",
    Option<NonZeroU128> as "Option<NonZeroU128>", Option<NonZeroUsize> as "Option<NonZeroUsize>",
    Option<NonZeroI8> as "Option<NonZeroI8>", Option<NonZeroI16> as "Option<NonZeroI16>",
    Option<NonZeroI32> as "Option<NonZeroI32>", Option<NonZeroI64> as "Option<NonZeroI64>",
    Option<NonZeroI128> as "Option<NonZeroI128>", Option<NonZeroIsize> as "Option<NonZeroIsize>",
}

// The library fixes that an atomic has the size and the bit validity of its integer. On the targets that this crate
// accepts, all of them are plain instructions on the memory itself, so they are atomic among processes as among
// threads. Not `AtomicPtr`: what it holds is an address.
leaves! {
    zero = true;
    AtomicBool as "AtomicBool",
    AtomicU8 as "AtomicU8", AtomicU16 as "AtomicU16", AtomicU32 as "AtomicU32", AtomicU64 as "AtomicU64",
    AtomicUsize as "AtomicUsize",
    AtomicI8 as "AtomicI8", AtomicI16 as "AtomicI16", AtomicI32 as "AtomicI32", AtomicI64 as "AtomicI64",
    AtomicIsize as "AtomicIsize",
}

#[diagnostic::do_not_recommend]
// SAFETY: the language fixes that the elements lie one after another, `size_of::<T>()` apart; each is `ShmSafe`, and the
// walk goes to each. An array without elements has no bytes, so whatever they are is its start state.
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
// SAFETY: as for `ShmSafe`; no element holds a primitive.
unsafe impl<T: ShmData, const N: usize> ShmData for [T; N] {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID || N == 0;

    fn describe(layout: &mut Layout) {
        layout.array(N, size_of::<T>(), T::describe);
    }
}

#[diagnostic::do_not_recommend]
// SAFETY: it has no bytes, whatever `T` is.
unsafe impl<T: ?Sized + Sync + 'static> ShmSafe for PhantomData<T> {
    const ZERO_IS_VALID: bool = true;
    const HAS_PRIMITIVES: bool = false;

    fn describe(layout: &mut Layout) {
        layout.leaf::<Self>("PhantomData");
    }

    fn visit(&self, _: &mut PrimitiveVisitor<'_>) {}
}

#[diagnostic::do_not_recommend]
// SAFETY: it has no bytes, whatever `T` is.
unsafe impl<T: ?Sized + Send + 'static> ShmData for PhantomData<T> {
    const ZERO_IS_VALID: bool = true;

    fn describe(layout: &mut Layout) {
        layout.leaf::<Self>("PhantomData");
    }
}

#[diagnostic::do_not_recommend]
// SAFETY: `Wrapping` is `repr(transparent)` and adds only arithmetic, so it is what `T` is.
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
// SAFETY: `Wrapping` is `repr(transparent)` and adds only arithmetic, so it is what `T` is.
unsafe impl<T: ShmData> ShmData for Wrapping<T> {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID;

    fn describe(layout: &mut Layout) {
        T::describe(layout);
    }
}

#[diagnostic::do_not_recommend]
// SAFETY: the library fixes that a `Cell` has the layout of its `T`, whose bytes are as good inside it as outside. Who
// holds the lock is the only one to reach it, and `ShmData` asks for `Send` alone.
unsafe impl<T: ShmData> ShmData for Cell<T> {
    const ZERO_IS_VALID: bool = T::ZERO_IS_VALID;

    fn describe(layout: &mut Layout) {
        T::describe(layout);
    }
}

#[cfg(feature = "arrayvec")]
#[diagnostic::do_not_recommend]
// SAFETY: since 0.7.6, the oldest version that Cargo.toml accepts, an `ArrayString` is a `repr(C)` struct of its length
// in bytes, a `u32`, and of as many bytes in place; `describe` does not compile where the size is another one. All zero
// bytes are an empty string, which is what `new` makes.
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
// SAFETY: since 0.7.6, an `ArrayVec` is a `repr(C)` struct of its length in elements, a `u32`, and of their places;
// `describe` does not compile where the size is another one. Its `Drop` only drops its elements, and what is `ShmData`
// needs no drop. All zero bytes are an empty list, whatever zero bytes are to an element.
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
