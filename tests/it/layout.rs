//! A layout reports the offsets that the compiler chose, and a visit reaches what the layout
//! reports.

use pshared::memory::{Layout, Primitive, PrimitiveKind, PrimitiveVisitor};
use pshared::{Error, SharedMutex, ShmSafe};
use std::collections::HashSet;
use std::num::{NonZeroU8, NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicI64, AtomicU32};

fn safe<T: ShmSafe>() -> String {
    let mut layout = Layout::default();
    T::describe(&mut layout);
    layout.to_string()
}

/// Returns the offset that a layout reports for a field path.
fn described_offset(layout: &str, path: &str) -> usize {
    let line = layout
        .lines()
        .find(|line| line.split(' ').nth(3) == Some(path));
    let line = line.unwrap_or_else(|| panic!("no path {path} in\n{layout}"));
    line.split(' ').next().unwrap().parse().unwrap()
}

fn offset<T, F>(value: &T, field: &F) -> usize {
    std::ptr::from_ref(field).addr() - std::ptr::from_ref(value).addr()
}

/// A primitive that does nothing.
#[repr(transparent)]
struct Lamp(AtomicU32);

fn lamp() -> Lamp {
    Lamp(AtomicU32::new(0))
}

// SAFETY: the type is an atomic, and its visit reaches itself.
unsafe impl ShmSafe for Lamp {
    const ZERO_IS_VALID: bool = true;
    const HAS_PRIMITIVES: bool = true;

    fn describe(layout: &mut Layout) {
        layout.primitive::<Self>(PrimitiveKind("lamp"));
    }

    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>) {
        visitor.primitive(self);
    }
}

impl Primitive for Lamp {
    fn kind(&self) -> PrimitiveKind {
        PrimitiveKind("lamp")
    }

    unsafe fn init(&self) -> Result<(), Error> {
        Ok(())
    }

    fn is_held_by_this_process(&self) -> bool {
        false
    }

    unsafe fn reset(&self) {}
}

/// Returns the field paths of all primitives that a visit reaches, with their offsets.
fn reached<T: ShmSafe>(value: &T) -> Vec<(String, usize)> {
    let mut reached = Vec::new();
    let mut visit = |path: &str, primitive: &dyn Primitive| {
        let address = std::ptr::from_ref(primitive).cast::<()>();
        reached.push((
            path.to_string(),
            address.addr() - std::ptr::from_ref(value).addr(),
        ));
    };
    value.visit(&mut PrimitiveVisitor::new(&mut visit));
    reached
}

#[derive(ShmSafe)]
#[repr(u16)]
enum Mode<T> {
    Off,
    Lit(u8, Lamp, T),
    Blinking { pair: [Lamp; 2], every: T } = 7,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Outer {
    number: u16,
    lamp: Lamp,
    inner: Inner,
    rows: [[Inner; 2]; 2],
    mode: Mode<u64>,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Inner(u64, Lamp);

fn inner() -> Inner {
    Inner(0, lamp())
}

fn outer(mode: Mode<u64>) -> Outer {
    Outer {
        number: 1,
        lamp: lamp(),
        inner: inner(),
        rows: [[inner(), inner()], [inner(), inner()]],
        mode,
    }
}

#[test]
fn a_walk_reaches_every_primitive_once_with_its_path() {
    let reached = reached(&outer(Mode::Off));
    let paths = [
        "lamp",
        "inner.1",
        "rows[0][0].1",
        "rows[0][1].1",
        "rows[1][0].1",
        "rows[1][1].1",
    ];
    assert_eq!(
        reached,
        Vec::from_iter(
            paths
                .map(String::from)
                .into_iter()
                .zip([4, 16, 32, 48, 64, 80])
        )
    );
}

#[test]
fn a_walk_of_an_enum_reaches_the_active_variant() {
    const { assert!(Mode::<u8>::HAS_PRIMITIVES) };
    let layout = safe::<Mode<u64>>();

    let lit = Mode::Lit(1, lamp(), 2_u64);
    assert_eq!(
        reached(&lit),
        [("Lit.1".to_string(), described_offset(&layout, "Lit.1"))]
    );

    let blinking = Mode::Blinking {
        pair: [lamp(), lamp()],
        every: 1_u64,
    };
    let pair = described_offset(&layout, "Blinking.pair");
    assert_eq!(
        reached(&blinking),
        [
            ("Blinking.pair[0]".to_string(), pair),
            ("Blinking.pair[1]".to_string(), pair + 4)
        ]
    );
    assert_eq!(reached(&outer(Mode::Lit(1, lamp(), 2)))[6].0, "mode.Lit.1");
}

#[test]
fn a_struct_of_structs_and_primitives_is_listed_line_by_line() {
    let lines = "\
        0 112 aggregate:align=8 \n\
        0 2 u16 number\n\
        4 4 primitive:lamp lamp\n\
        8 16 aggregate:align=8 inner\n\
        8 8 u64 inner.0\n\
        16 4 primitive:lamp inner.1\n\
        24 64 array:len=2,stride=32 rows\n\
        24 32 array:len=2,stride=16 rows[]\n\
        24 16 aggregate:align=8 rows[][]\n\
        24 8 u64 rows[][].0\n\
        32 4 primitive:lamp rows[][].1\n\
        88 24 aggregate:align=8 mode\n\
        88 0 variant:Off=0 mode\n\
        88 0 variant:Lit=1 mode\n\
        90 1 u8 mode.Lit.0\n\
        92 4 primitive:lamp mode.Lit.1\n\
        96 8 u64 mode.Lit.2\n\
        88 0 variant:Blinking=7 mode\n\
        92 8 array:len=2,stride=4 mode.Blinking.pair\n\
        92 4 primitive:lamp mode.Blinking.pair[]\n\
        104 8 u64 mode.Blinking.every\n";
    assert_eq!(safe::<Outer>(), lines);
}

/// Checks with the compiler what RFC 2195 guarantees about variants.
#[test]
fn the_fields_of_a_variant_lie_where_the_layout_says() {
    fn check<T: ShmSafe>(values: [T; 4]) {
        let layout = safe::<Mode<T>>();
        let [first, second, ..] = values;
        let lit = Mode::Lit(1, lamp(), first);
        let Mode::Lit(number, bulb, value) = &lit else {
            unreachable!()
        };
        assert_eq!(offset(&lit, number), described_offset(&layout, "Lit.0"));
        assert_eq!(offset(&lit, bulb), described_offset(&layout, "Lit.1"));
        assert_eq!(offset(&lit, value), described_offset(&layout, "Lit.2"));

        let blinking = Mode::Blinking {
            pair: [lamp(), lamp()],
            every: second,
        };
        let Mode::Blinking { pair, every } = &blinking else {
            unreachable!()
        };
        assert_eq!(
            offset(&blinking, pair),
            described_offset(&layout, "Blinking.pair")
        );
        assert_eq!(
            offset(&blinking, every),
            described_offset(&layout, "Blinking.every")
        );
    }
    check([0_u8; 4]);
    check([0_u16; 4]);
    check([0_u128; 4]);
    check([[0_u8; 3]; 4]);
    check([const { Wide(0) }; 4]);
    check([(); 4]);
}

#[derive(Clone, Copy, ShmSafe)]
#[repr(C, align(32))]
struct Wide(u8);

/// The tag is as wide as the representation states, whatever the fields are.
#[test]
fn the_first_field_of_a_variant_lies_behind_its_tag() {
    macro_rules! check {
        ($($tag:ident),*) => {$({
            #[derive(ShmSafe)]
            #[repr($tag)]
            enum Tagged {
                One(u8, [u8; 2]),
            }
            let value = Tagged::One(1, [2, 3]);
            let Tagged::One(first, second) = &value;
            assert_eq!(offset(&value, first), size_of::<$tag>());
            assert_eq!(described_offset(&safe::<Tagged>(), "One.0"), offset(&value, first));
            assert_eq!(described_offset(&safe::<Tagged>(), "One.1"), offset(&value, second));
        })*};
    }
    check!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize);
}

/// The layout is also checked if a field has as many unused values as the tag, or cells.
#[test]
fn a_variant_may_hold_an_enum_of_64_bits_or_a_primitive() {
    #[derive(ShmSafe)]
    #[repr(u64)]
    enum Inner {
        Only(u32),
    }
    #[derive(ShmSafe)]
    #[repr(isize)]
    enum Outer {
        Only(Inner),
    }
    #[derive(ShmSafe)]
    #[repr(i64)]
    enum Several {
        First(Inner),
        Second { outer: Outer, inner: Inner },
        Lock(SharedMutex<u64>, AtomicU32),
    }
    let value = Several::Second {
        outer: Outer::Only(Inner::Only(1)),
        inner: Inner::Only(2),
    };
    let Several::Second { outer, inner } = &value else {
        unreachable!()
    };
    let described = safe::<Several>();
    assert_eq!(
        described_offset(&described, "Second.outer"),
        offset(&value, outer)
    );
    assert_eq!(
        described_offset(&described, "Second.inner"),
        offset(&value, inner)
    );
    let value = Several::Lock(SharedMutex::new(1), AtomicU32::new(2));
    let Several::Lock(lock, number) = &value else {
        unreachable!()
    };
    assert_eq!(described_offset(&described, "Lock.0"), offset(&value, lock));
    assert_eq!(
        described_offset(&described, "Lock.1"),
        offset(&value, number)
    );
    let _ = Several::First(Inner::Only(3));
}

/// These types differ in which bytes are valid, so a file of one must not open as the other.
#[test]
fn types_of_one_size_with_different_valid_values_have_different_layouts() {
    let of_four = [
        safe::<u32>(),
        safe::<i32>(),
        safe::<f32>(),
        safe::<char>(),
        safe::<NonZeroU32>(),
    ];
    let of_four = of_four.into_iter().chain([
        safe::<Option<NonZeroU32>>(),
        safe::<AtomicU32>(),
        safe::<[u8; 4]>(),
    ]);
    assert_eq!(HashSet::<String>::from_iter(of_four).len(), 8);
    let of_one = [
        safe::<u8>(),
        safe::<bool>(),
        safe::<NonZeroU8>(),
        safe::<i8>(),
    ];
    assert_eq!(HashSet::from(of_one).len(), 4);
    assert_eq!(safe::<AtomicI64>(), "0 8 AtomicI64 \n");
    assert_eq!(safe::<NonZeroUsize>(), "0 8 NonZeroUsize \n");
}

#[cfg(feature = "arrayvec")]
#[test]
fn fixed_capacity_text_and_lists_lie_where_the_layout_says() {
    use arrayvec::{ArrayString, ArrayVec};
    use pshared::ShmData;

    fn data<T: ShmData>() -> String {
        let mut layout = Layout::default();
        T::describe(&mut layout);
        layout.to_string()
    }

    fn check<T: ShmData>(value: T) {
        let mut list = ArrayVec::<T, 3>::new();
        list.push(value);
        assert_eq!(
            described_offset(&data::<ArrayVec<T, 3>>(), "elements"),
            offset(&list, &list[0])
        );
    }
    check(0_u8);
    check(0_u32);
    check(0_u64);
    check(0_u128);
    check([0_u8; 3]);

    assert_eq!(data::<ArrayString<5>>(), "0 12 ArrayString:capacity=5 \n");
    assert_eq!(
        data::<ArrayVec<u16, 5>>(),
        "0 16 ArrayVec:capacity=5 \n4 10 array:len=5,stride=2 elements\n4 2 u16 elements[]\n"
    );
    let text = ArrayString::<5>::from("x").unwrap();
    assert_eq!(
        text.as_ptr().addr() - std::ptr::from_ref(&text).addr(),
        size_of::<u32>()
    );
}

/// Zero bytes are the value that `new` returns, as `ZERO_IS_VALID` promises.
#[cfg(feature = "arrayvec")]
#[test]
fn zero_bytes_are_empty_text_and_an_empty_list() {
    use arrayvec::{ArrayString, ArrayVec};
    use pshared::ShmData;

    const {
        assert!(
            <ArrayString<5> as ShmData>::ZERO_IS_VALID
                && <ArrayVec<NonZeroU8, 3> as ShmData>::ZERO_IS_VALID
        )
    };
    // SAFETY: this is under test: the type states that zero bytes are a value.
    let text: ArrayString<5> = unsafe { std::mem::zeroed() };
    assert_eq!(text.as_str(), "");
    // SAFETY: as above.
    let list: ArrayVec<NonZeroU8, 3> = unsafe { std::mem::zeroed() };
    assert!(list.is_empty());
}
