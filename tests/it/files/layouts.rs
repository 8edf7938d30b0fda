//! Files of another layout: the error names the first field that differs.

use super::*;
use pshared::{SharedEvent, SharedMutex, SharedSemaphore, ShmData};
use std::num::NonZeroU32;

/// Creates a file with a value of one type, opens it as another, and returns the error message.
fn refusal_of<Ours: ShmSafe, Theirs: ShmSafe>(theirs: Theirs) -> String {
    let (_directory, path) = place();
    drop(create(&path, theirs).unwrap());
    match refusal::<Ours>(&path) {
        error @ Error::LayoutMismatch { .. } => error.to_string(),
        other => panic!("not LayoutMismatch: {other:?}"),
    }
}

#[track_caller]
fn assert_difference(message: &str, expected: &str, found: &str) {
    let text = format!("expected {expected}; found {found}.");
    assert!(message.contains(&text), "no {text:?} in {message:?}");
}

macro_rules! layouts {
    ($(mod $name:ident { $($item:item)* })*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $($item)*
        }
    )*};
}

#[test]
fn a_field_of_another_type_is_named() {
    layouts! {
        mod ours { #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub a: SharedCounter, pub b: u32 } }
        mod theirs { #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub a: SharedCounter, pub b: NonZeroU32 } }
    }
    let b = NonZeroU32::new(1).unwrap();
    assert_difference(
        &refusal_of::<ours::Value, _>(theirs::Value {
            a: SharedCounter::new(0),
            b,
        }),
        "field `b`: u32, 4 bytes at offset 8",
        "field `b`: NonZeroU32, 4 bytes at offset 8",
    );
}

#[test]
fn a_renamed_field_is_named() {
    layouts! {
        mod ours { #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub a: u32, pub sent: u32 } }
        mod theirs { #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub a: u32, pub received: u32 } }
    }
    assert_difference(
        &refusal_of::<ours::Value, _>(theirs::Value { a: 1, received: 2 }),
        "field `sent`: u32, 4 bytes at offset 4",
        "field `received`: u32, 4 bytes at offset 4",
    );
}

#[test]
fn fields_in_another_order_are_named() {
    layouts! {
        mod ours { #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub a: u32, pub b: u32 } }
        mod theirs { #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub b: u32, pub a: u32 } }
    }
    assert_difference(
        &refusal_of::<ours::Value, _>(theirs::Value { b: 1, a: 2 }),
        "field `a`: u32, 4 bytes at offset 0",
        "field `b`: u32, 4 bytes at offset 0",
    );
}

#[test]
fn a_field_that_was_added_is_named_and_not_the_struct_that_grew() {
    layouts! {
        mod ours { #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub a: SharedCounter } }
        mod theirs { #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub a: SharedCounter, pub new: SharedEvent } }
    }
    assert_difference(
        &refusal_of::<ours::Value, _>(theirs::Value {
            a: SharedCounter::new(0),
            new: SharedEvent::new(),
        }),
        "nothing more",
        "field `new`: a pshared event, 4 bytes at offset 8",
    );
    assert_difference(
        &refusal_of::<theirs::Value, _>(ours::Value {
            a: SharedCounter::new(0),
        }),
        "field `new`: a pshared event, 4 bytes at offset 8",
        "nothing more",
    );
}

#[test]
fn another_discriminant_or_variant_is_named() {
    layouts! {
        mod ours {
            #[derive(ShmSafe)] #[repr(u8)] pub enum Color { Red = 1, Green = 2 }
            #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub color: Color }
        }
        mod theirs {
            #[derive(ShmSafe)] #[repr(u8)] pub enum Color { Red = 1, Green = 3 }
            #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub color: Color }
        }
        mod renamed {
            #[derive(ShmSafe)] #[repr(u8)] pub enum Color { Red = 1, Blue = 2 }
            #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub color: Color }
        }
    }
    let _ = (
        ours::Color::Red,
        ours::Color::Green,
        theirs::Color::Red,
        renamed::Color::Red,
    );
    assert_difference(
        &refusal_of::<ours::Value, _>(theirs::Value {
            color: theirs::Color::Green,
        }),
        "field `color`: variant `Green` with discriminant 2",
        "field `color`: variant `Green` with discriminant 3",
    );
    assert_difference(
        &refusal_of::<ours::Value, _>(renamed::Value {
            color: renamed::Color::Blue,
        }),
        "field `color`: variant `Green` with discriminant 2",
        "field `color`: variant `Blue` with discriminant 2",
    );
}

#[test]
fn an_array_of_another_length_is_named() {
    layouts! {
        mod ours { #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub a: u64, pub rows: [SharedCounter; 3] } }
        mod theirs { #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub a: u64, pub rows: [SharedCounter; 4] } }
    }
    let rows = [const { SharedCounter::new(0) }; 4];
    assert_difference(
        &refusal_of::<ours::Value, _>(theirs::Value { a: 0, rows }),
        "field `rows`: an array of 3, 8 bytes apart, 24 bytes at offset 8",
        "field `rows`: an array of 4, 8 bytes apart, 32 bytes at offset 8",
    );
}

#[test]
fn data_of_another_type_under_a_lock_are_named() {
    layouts! {
        mod ours { #[derive(ShmData, Default)] #[repr(C)] pub struct Record { pub id: u32, pub sum: u64 } }
        mod theirs { #[derive(ShmData, Default)] #[repr(C)] pub struct Record { pub id: u32, pub sum: f64 } }
    }
    assert_difference(
        &refusal_of::<SharedMutex<[ours::Record; 2]>, _>(
            SharedMutex::<[theirs::Record; 2]>::default(),
        ),
        "field `data[].sum`: u64, 8 bytes at offset 56",
        "field `data[].sum`: f64, 8 bytes at offset 56",
    );
}

#[test]
fn another_primitive_is_named() {
    assert_difference(
        &refusal_of::<SharedMutex<()>, _>(SharedSemaphore::new(1)),
        "the whole value: a pshared mutex, 48 bytes at offset 0",
        "the whole value: a pshared semaphore, 40 bytes at offset 0",
    );
    assert_difference(
        &refusal_of::<SharedCounter, _>(5_u64),
        "the whole value: a pshared counter, 8 bytes at offset 0",
        "the whole value: u64, 8 bytes at offset 0",
    );
}

#[test]
fn another_alignment_is_named() {
    layouts! {
        mod ours { #[derive(ShmSafe)] #[repr(C, align(64))] pub struct Value { pub a: u32 } }
        mod theirs { #[derive(ShmSafe)] #[repr(C)] pub struct Value { pub a: u32 } }
    }
    assert_difference(
        &refusal_of::<ours::Value, _>(theirs::Value { a: 0 }),
        "the whole value: a struct or enum, aligned to 64, 64 bytes at offset 0",
        "the whole value: a struct or enum, aligned to 4, 4 bytes at offset 0",
    );
}

#[test]
fn a_struct_of_another_name_and_the_same_fields_is_the_same() {
    layouts! {
        mod ours { #[derive(ShmSafe)] #[repr(C)] pub struct Ours { pub a: u32 } }
        mod theirs { #[derive(ShmSafe)] #[repr(C)] pub struct Theirs { pub a: u32 } }
    }
    let (_directory, path) = place();
    drop(create(&path, theirs::Theirs { a: 5 }).unwrap());
    assert_eq!(open::<ours::Ours>(&path).unwrap().a, 5);
}

#[test]
fn a_slice_is_not_opened_as_a_value_nor_a_value_as_a_slice() {
    let (directory, path) = place();
    drop(create_slice(&path, 1, |_| SharedCounter::new(0)).unwrap());
    refused!(
        path,
        SharedCounter,
        Error::LayoutMismatch { .. },
        "expected one value; found a slice of 1."
    );
    refused!(
        path,
        [SharedCounter; 1],
        Error::LayoutMismatch { .. },
        "expected one value; found a slice of 1."
    );
    let single = directory.path().join("single");
    drop(create(&single, [const { SharedCounter::new(0) }; 3]).unwrap());
    let refusal = open::<[SharedCounter]>(&single).unwrap_err();
    assert_says(&refusal, &["expected a slice; found one value."]);
}

#[test]
fn a_slice_is_opened_with_the_length_it_was_made_with() {
    let directory = tempfile::tempdir().unwrap();
    for len in [0, 1, 3, 1000] {
        let path = directory.path().join(len.to_string());
        let ours = create_slice(&path, len, |index| SharedCounter::new(index as u64)).unwrap();
        let theirs = open::<[SharedCounter]>(&path).unwrap();
        assert_eq!((ours.len(), theirs.len()), (len, len));
        for (index, (ours, theirs)) in ours.iter().zip(theirs.iter()).enumerate() {
            assert_eq!(ours.add(1), index as u64);
            assert_eq!(theirs.get(), index as u64 + 1);
        }
        drop((ours, theirs));
        assert_eq!(open::<[SharedCounter]>(&path).unwrap().len(), len);
        let refusal = open::<[SharedEvent]>(&path).unwrap_err();
        assert!(
            matches!(refusal, Error::LayoutMismatch { .. }),
            "{refusal:?}"
        );
    }
}
