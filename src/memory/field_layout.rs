//! The layout that follows from the source of a type, compared with the layout of the compiled
//! type. The derives use it.

use std::marker::PhantomData;
use std::mem::{Discriminant, MaybeUninit, discriminant};

/// The layout of a `repr(C)` struct, or of an enum with an integer representation.
///
/// The fields are placed in order, each at the first aligned offset after the previous one. An enum
/// with an integer representation is a union of such structs, one for each variant, which begin
/// with the tag (RFC 2195).
#[doc(hidden)]
#[derive(Debug)]
pub struct FieldLayout {
    end: usize,
    align: usize,
}

impl FieldLayout {
    /// Returns a layout without fields. It has the largest of the alignments in bytes, or 1.
    pub const fn new(aligns: &[usize]) -> Self {
        let mut align = 1;
        let mut index = 0;
        while index < aligns.len() {
            align = max(align, aligns[index]);
            index += 1;
        }
        FieldLayout { end: 0, align }
    }

    /// Returns the layout of a variant without fields.
    pub const fn after_tag<Tag>() -> Self {
        FieldLayout {
            end: size_of::<Tag>(),
            align: align_of::<Tag>(),
        }
    }

    /// Adds a field, and returns its offset in bytes.
    pub const fn field<T>(&mut self) -> usize {
        let offset = self.end.next_multiple_of(align_of::<T>());
        self.end = offset + size_of::<T>();
        self.align = max(self.align, align_of::<T>());
        offset
    }

    /// Adds a variant.
    pub const fn include(&mut self, variant: &FieldLayout) {
        self.end = max(self.end, variant.end);
        self.align = max(self.align, variant.align);
    }

    /// Returns whether `T` has this size and this alignment.
    pub const fn is_that_of<T>(&self) -> bool {
        size_of::<T>() == self.end.next_multiple_of(self.align) && align_of::<T>() == self.align
    }
}

const fn max(a: usize, b: usize) -> usize {
    if a > b { a } else { b }
}

/// The memory of an enum `T`, in which only a tag is written.
///
/// The derives use it in constants only, where the compiler checks each access to memory.
#[doc(hidden)]
#[derive(Debug)]
pub struct VariantCheck<T>(MaybeUninit<T>);

impl<T> VariantCheck<T> {
    /// Returns whether the tag of `T` has the size of `Tag`. If it should have 64 bits and has
    /// fewer, the compiler may report an error instead.
    pub const fn has_tag<Tag>() -> bool {
        let [..] = NoneOf::<T, Tag>::TAG_UNCHANGED_BELOW_DERIVE;
        // This is the type of the tag, or `isize` for an enum without an integer representation.
        size_of::<Discriminant<T>>() == size_of::<Tag>()
    }

    /// Writes a tag at the start of the memory.
    pub const fn new<Tag: Copy>(tag: Tag) -> Self {
        assert!(size_of::<Tag>() <= size_of::<T>() && align_of::<Tag>() <= align_of::<T>());
        let mut memory = MaybeUninit::<T>::uninit();
        // SAFETY: the memory has the size and the alignment for the tag.
        unsafe { memory.as_mut_ptr().cast::<Tag>().write(tag) };
        VariantCheck(memory)
    }

    /// Returns a value of which only the tag may be read.
    ///
    /// # Safety
    ///
    /// The call must be in a constant. No field of the value may be read. If no variant has the
    /// tag, the compiler reports an error.
    pub const unsafe fn value(&self) -> &T {
        // SAFETY: guaranteed by the caller.
        let value = unsafe { &*self.0.as_ptr() };
        // A match on the only variant of an enum does not read the tag.
        let _ = discriminant(value);
        value
    }

    /// Returns the offset of a field in bytes.
    ///
    /// # Safety
    ///
    /// The field must lie in the value that [`value`](Self::value) returns.
    pub const unsafe fn offset<F>(&self, field: &F) -> usize {
        // SAFETY: guaranteed by the caller.
        let offset = unsafe { std::ptr::from_ref(field).byte_offset_from(self.0.as_ptr()) };
        offset.cast_unsigned()
    }
}

struct NoneOf<T, Tag>(PhantomData<(T, Tag)>);

impl<T, Tag> NoneOf<T, Tag> {
    /// The tag of `None`, if `Tag` has 64 bits.
    ///
    /// `None` is an unused value of the tag of `T`. If that tag has fewer bits, the others are
    /// padding, and the compiler rejects a constant that contains padding.
    const TAG_UNCHANGED_BELOW_DERIVE: [u8; 8] = {
        if size_of::<Tag>() == size_of::<[u8; 8]>()
            && size_of::<T>() >= size_of::<[u8; 8]>()
            && size_of::<Option<T>>() == size_of::<T>()
        {
            let none = MaybeUninit::new(None::<T>);
            // SAFETY: `None` has at least 8 bytes, and the compiler checks the constant.
            unsafe { none.as_ptr().cast::<[u8; 8]>().read() }
        } else {
            [0; 8]
        }
    };
}
