//! What the derives accept, in a program without `unsafe` and with every lint: generated code must
//! not trigger lints in the user's crate.

#![forbid(unsafe_code)]
#![deny(
    warnings,
    let_underscore_drop,
    missing_docs,
    nonstandard_style,
    single_use_lifetimes,
    trivial_casts,
    trivial_numeric_casts,
    unused_qualifications,
    unused_results,
    clippy::all,
    clippy::nursery,
    clippy::pedantic,
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::absolute_paths,
    clippy::indexing_slicing,
    clippy::missing_trait_methods,
    clippy::pattern_type_mismatch,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks
)]
#![allow(dead_code)]

use pshared::memory::Layout;
use pshared::{Shared, ShmData, ShmSafe};
use std::cell::Cell;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::vec::IntoIter;

fn safe<T: ShmSafe>() -> String {
    let mut layout = Layout::default();
    T::describe(&mut layout);
    layout.to_string()
}

fn data<T: ShmData>() -> String {
    let mut layout = Layout::default();
    T::describe(&mut layout);
    layout.to_string()
}

/// Both traits on one type, with fields of all kinds and names that are keywords.
#[derive(ShmSafe, ShmData)]
#[pshared(zeroed)]
#[repr(C)]
struct Plain {
    small: u8,
    r#type: u32,
    list: [u16; 3],
    flag: bool,
    unit: (),
}

#[test]
fn a_structs_layout_is_listed_line_by_line() {
    let lines = "\
        0 16 aggregate:align=4 \n\
        0 1 u8 small\n\
        4 4 u32 type\n\
        8 6 array:len=3,stride=2 list\n\
        8 2 u16 list[]\n\
        14 1 bool flag\n\
        15 0 () unit\n";
    assert_eq!(safe::<Plain>(), lines);
    assert_eq!(data::<Plain>(), safe::<Plain>());
}

#[derive(ShmSafe)]
#[repr(C, align(64))]
struct Padded(AtomicU64, AtomicU32);

#[derive(ShmSafe, ShmData)]
#[repr(transparent)]
struct Meters(f64);

#[derive(ShmSafe, ShmData)]
#[repr(C)]
struct Nothing;

#[derive(ShmSafe, ShmData)]
#[repr(C)]
struct Empty {}

#[test]
fn tuple_structs_wrappers_and_structs_without_fields_are_accepted() {
    assert_eq!(
        safe::<Padded>(),
        "0 64 aggregate:align=64 \n0 8 AtomicU64 0\n8 4 AtomicU32 1\n"
    );
    assert_eq!(safe::<Meters>(), "0 8 aggregate:align=8 \n0 8 f64 0\n");
    assert_eq!(data::<Nothing>(), "0 0 aggregate:align=1 \n");
    assert_eq!(data::<Empty>(), "0 0 aggregate:align=1 \n");
}

/// Type parameters with and without bounds, const parameters, defaults, where clauses.
#[derive(ShmSafe, ShmData)]
#[repr(C)]
struct Ring<T: Copy, U = u8, const N: usize = 4>
where
    U: Default,
{
    items: [T; N],
    next: u32,
    extra: U,
    inner: Pair<T, Meters>,
    mark: PhantomData<U>,
}

#[derive(Clone, Copy, ShmSafe, ShmData)]
#[repr(C)]
struct Pair<A, B>(A, B);

#[derive(ShmSafe, ShmData)]
#[repr(C)]
struct Last<I: Iterator> {
    item: I::Item,
}

#[derive(ShmSafe, ShmData)]
#[repr(C)]
struct Buffer<const N: usize> {
    bytes: [u8; N],
}

#[test]
fn generic_structs_are_accepted() {
    let lines = "\
        0 32 aggregate:align=8 \n\
        0 4 array:len=2,stride=2 items\n\
        0 2 u16 items[]\n\
        4 4 u32 next\n\
        8 1 u8 extra\n\
        16 16 aggregate:align=8 inner\n\
        16 2 u16 inner.0\n\
        24 8 aggregate:align=8 inner.1\n\
        24 8 f64 inner.1.0\n\
        32 0 PhantomData mark\n";
    assert_eq!(safe::<Ring<u16, u8, 2>>(), lines);
    assert_eq!(data::<Ring<u16, u8, 2>>(), safe::<Ring<u16, u8, 2>>());
    assert_eq!(
        data::<Last<IntoIter<u16>>>(),
        "0 2 aggregate:align=2 \n0 2 u16 item\n"
    );
    assert_eq!(
        data::<Buffer<3>>(),
        "0 3 aggregate:align=1 \n0 3 array:len=3,stride=1 bytes\n0 1 u8 bytes[]\n"
    );
}

#[derive(ShmData)]
#[pshared(zeroed)]
#[repr(C)]
struct Draft {
    visits: Cell<u32>,
    owner: Option<NonZeroU32>,
}

#[test]
fn cells_are_data() {
    assert_eq!(
        data::<Draft>(),
        "0 8 aggregate:align=4 \n0 4 u32 visits\n4 4 Option<NonZeroU32> owner\n"
    );
}

/// Discriminants that are omitted, negative and computed.
#[derive(ShmSafe, ShmData)]
#[repr(i16)]
enum Level {
    Low = -LOWEST,
    Next,
    r#Virtual = 1 << 8,
}

const LOWEST: i16 = 3;

#[derive(ShmSafe, ShmData)]
#[pshared(zeroed)]
#[repr(u8)]
enum Shape<T> {
    Circle { radius: T, filled: bool } = 1,
    Square(u8, T),
    Point = 0,
}

#[test]
fn an_enums_variants_are_listed_with_discriminants_and_offsets() {
    assert_eq!(
        safe::<Level>(),
        "0 2 aggregate:align=2 \n0 0 variant:Low=-3 \n0 0 variant:Next=-2 \n0 0 variant:Virtual=256 \n"
    );
    let lines = "\
        0 12 aggregate:align=4 \n\
        0 0 variant:Circle=1 \n\
        4 4 u32 Circle.radius\n\
        8 1 bool Circle.filled\n\
        0 0 variant:Square=2 \n\
        1 1 u8 Square.0\n\
        4 4 u32 Square.1\n\
        0 0 variant:Point=0 \n";
    assert_eq!(safe::<Shape<u32>>(), lines);
    assert_eq!(data::<Shape<u32>>(), lines);
}

/// Every field allows zero bytes, but the type does not.
#[derive(ShmSafe, ShmData)]
#[repr(C)]
struct Ratio {
    numerator: u32,
    denominator: u32,
}

#[derive(ShmSafe, ShmData)]
#[pshared(zeroed)]
#[repr(C)]
struct Sparse<T> {
    fine: u32,
    rest: T,
}

/// The variant of discriminant 0 decides. The path of the crate may be in an attribute of its own.
#[derive(ShmSafe, ShmData)]
#[pshared(crate = "::pshared")]
#[pshared(zeroed)]
#[repr(u64)]
enum Slot<T> {
    Full(NonZeroU32) = 1,
    Empty(T) = 0,
}

#[derive(ShmSafe, ShmData)]
#[pshared(zeroed, crate = "::pshared")]
#[repr(i8)]
enum Sign {
    Negative = -1,
    Zero,
    Positive,
}

/// The array has no bytes, whatever its elements are.
#[derive(ShmSafe, ShmData)]
#[pshared(zeroed)]
#[repr(C)]
struct OfNothing {
    none: [Ratio; 0],
    count: u8,
    this: PhantomData<Self>,
}

#[test]
fn zero_bytes_are_valid_only_for_a_type_that_says_so() {
    const {
        assert!(!<Ratio as ShmSafe>::ZERO_IS_VALID);
        assert!(!<Ratio as ShmData>::ZERO_IS_VALID);
        assert!(!<Nothing as ShmSafe>::ZERO_IS_VALID);
        assert!(!<Level as ShmSafe>::ZERO_IS_VALID);
        assert!(!<Pair<u8, u8> as ShmData>::ZERO_IS_VALID);
        assert!(<Plain as ShmSafe>::ZERO_IS_VALID);
        assert!(<Plain as ShmData>::ZERO_IS_VALID);
        assert!(<Draft as ShmData>::ZERO_IS_VALID);
        assert!(<Sign as ShmSafe>::ZERO_IS_VALID);
        assert!(<Sign as ShmData>::ZERO_IS_VALID);
        assert!(<OfNothing as ShmSafe>::ZERO_IS_VALID);
        assert!(<OfNothing as ShmData>::ZERO_IS_VALID);
    }
}

#[test]
fn the_parameters_of_a_generic_type_decide_whether_zero_bytes_are_valid() {
    const {
        assert!(<Sparse<u8> as ShmSafe>::ZERO_IS_VALID);
        assert!(<Sparse<[Ratio; 0]> as ShmData>::ZERO_IS_VALID);
        assert!(!<Sparse<NonZeroU32> as ShmSafe>::ZERO_IS_VALID);
        assert!(!<Sparse<Ratio> as ShmData>::ZERO_IS_VALID);
        assert!(<Slot<u8> as ShmSafe>::ZERO_IS_VALID);
        assert!(!<Slot<Ratio> as ShmSafe>::ZERO_IS_VALID);
        assert!(!<Slot<NonZeroU32> as ShmData>::ZERO_IS_VALID);
        assert!(
            <Shape<NonZeroU32> as ShmSafe>::ZERO_IS_VALID,
            "`Point` has no fields"
        );
    }
}

/// What holds a `Ratio` that can be read holds no zero bytes either. What is empty in zero bytes
/// may hold one.
#[test]
fn a_container_does_not_make_a_zero_value_of_a_type_that_does_not_allow_it() {
    use arrayvec::ArrayVec;
    use pshared::{
        SharedMutex, SharedOnceLock, SharedReentrantLock, SharedRoster, SharedRwLock, raw,
    };
    use std::num::Wrapping;

    const {
        assert!(!<[Ratio; 1] as ShmSafe>::ZERO_IS_VALID);
        assert!(!<Wrapping<Ratio> as ShmSafe>::ZERO_IS_VALID);
        assert!(!<Cell<Ratio> as ShmData>::ZERO_IS_VALID);
        assert!(!SharedMutex::<Ratio>::ZERO_IS_VALID);
        assert!(!SharedMutex::<Ratio, raw::Spin>::ZERO_IS_VALID);
        assert!(!SharedReentrantLock::<Ratio>::ZERO_IS_VALID);
        assert!(!SharedRwLock::<Ratio>::ZERO_IS_VALID);
        assert!(!SharedRoster::<Ratio, 2>::ZERO_IS_VALID);
        assert!(SharedOnceLock::<Ratio>::ZERO_IS_VALID);
        assert!(ArrayVec::<Ratio, 2>::ZERO_IS_VALID);
    }
    assert!(
        Shared::<SharedOnceLock<Ratio>>::zeroed()
            .unwrap()
            .get()
            .is_none()
    );
}

/// Names that the generated code might also use.
mod names {
    use pshared::{ShmData, ShmSafe};

    #[derive(ShmSafe, ShmData)]
    #[repr(C)]
    struct Some {
        layout: u32,
        walk: PrimitiveVisitor,
        field0: Is,
        end: u8,
    }

    #[derive(ShmSafe, ShmData)]
    #[repr(transparent)]
    struct PrimitiveVisitor(u8);

    #[derive(ShmSafe, ShmData)]
    #[repr(u8)]
    #[allow(non_camel_case_types)]
    enum Is {
        Self_,
        r#Drop(PrimitiveVisitor),
        r#try { end: u8 },
    }
}

/// A macro may declare a type, from types and numbers that come from elsewhere.
mod declared {
    use pshared::{ShmData, ShmSafe};
    use std::num::NonZeroU16;

    macro_rules! declare {
        ($name:ident, $integer:ty, $other:ty, $len:expr) => {
            #[derive(ShmSafe, ShmData)]
            #[repr(C)]
            struct $name {
                integer: $integer,
                others: [$other; $len],
            }
        };
    }

    declare!(Declared, u8, NonZeroU16, 1 + 2);

    #[derive(ShmSafe, ShmData)]
    #[repr(u8)]
    enum Chosen<T> {
        No,
        Yes(T, Declared),
    }
}

/// The attribute may name the path of `pshared`.
mod renamed {
    mod elsewhere {
        pub(super) use pshared as shm;
    }

    #[derive(elsewhere::shm::ShmSafe, elsewhere::shm::ShmData)]
    #[pshared(crate = "elsewhere::shm")]
    #[repr(C)]
    struct Renamed {
        value: u32,
        other: super::Level,
    }
}

/// A type may be declared in a function, and a private type may lie in a public one.
pub mod visibility {
    use pshared::{ShmData, ShmSafe};

    #[derive(ShmSafe, ShmData)]
    #[repr(transparent)]
    struct Private<T>(T);

    /// Public.
    #[derive(ShmSafe, ShmData)]
    #[repr(C)]
    pub struct Public<T> {
        private: Private<T>,
        also: Private<u8>,
    }

    #[test]
    fn a_type_may_be_declared_in_a_function() {
        #[derive(ShmSafe)]
        #[pshared(zeroed)]
        #[repr(C)]
        struct Inner(u8, u16);
        const { assert!(Inner::ZERO_IS_VALID) };
    }
}

/// Lints that the type allows are also allowed in the code generated for it.
mod lints {
    use pshared::ShmSafe;

    #[deprecated]
    #[derive(ShmSafe)]
    #[repr(transparent)]
    #[allow(deprecated)]
    struct Old(u8);

    #[derive(ShmSafe)]
    #[repr(C)]
    #[expect(deprecated, reason = "the existing files hold this type")]
    struct Holds {
        old: Old,
    }

    #[derive(ShmSafe)]
    #[repr(C)]
    #[allow(non_snake_case)]
    struct Upper {
        Value: u8,
    }
}

/// Whether a generic type implements the traits depends on its parameters.
mod parameters {
    use super::{Pair, Ring};
    use pshared::{ShmData, ShmSafe};
    use static_assertions::{assert_impl_all, assert_not_impl_any};
    use std::cell::Cell;

    assert_impl_all!(Pair<u8, char>: ShmSafe, ShmData);
    assert_impl_all!(Ring<u8>: ShmSafe, ShmData);
    assert_impl_all!(Pair<u8, Cell<u32>>: ShmData);
    assert_not_impl_any!(Pair<u8, Cell<u32>>: ShmSafe);
    assert_not_impl_any!(Pair<u8, String>: ShmSafe, ShmData);
    assert_not_impl_any!(Ring<Option<u8>>: ShmSafe, ShmData);
}

/// Primitives can be placed, but never lie under a lock.
mod primitives {
    use super::Pair;
    use pshared::{SharedCounter, SharedEvent, SharedMutex, SharedSemaphore, ShmData, ShmSafe};
    use static_assertions::{assert_impl_all, assert_not_impl_any};
    use std::cell::Cell;

    assert_impl_all!(SharedMutex<u64>: ShmSafe);
    assert_impl_all!([Pair<SharedMutex<u64>, SharedSemaphore>; 4]: ShmSafe);
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Guarded<T> {
        inner: SharedMutex<T>,
    }

    assert_impl_all!(Guarded<[Cell<u8>; 4]>: ShmSafe);
    assert_not_impl_any!(Guarded<Guarded<u8>>: ShmSafe);
    assert_impl_all!(SharedEvent: ShmSafe);
    assert_impl_all!(SharedCounter: ShmSafe);
    assert_not_impl_any!(SharedMutex<u64>: ShmData);
    assert_not_impl_any!([Pair<u64, SharedMutex<u64>>; 4]: ShmData);
    assert_not_impl_any!(SharedSemaphore: ShmData);
    assert_not_impl_any!(SharedEvent: ShmData);
    assert_not_impl_any!(SharedMutex<SharedMutex<u64>>: ShmSafe);
    assert_not_impl_any!(SharedMutex<String>: ShmSafe);
}
