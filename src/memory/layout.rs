//! The layout of a placed type in words: what a file's fingerprint and its directory of primitives are made from.

use super::PrimitiveKind;
use std::fmt;

/// Everything that lies in a placed value: offsets, sizes, types, enum discriminants and primitives, one entry each, in
/// the order of the source.
///
/// [`ShmSafe::describe`](super::ShmSafe::describe) fills it. Two programs understand the same bytes exactly when their
/// layouts are equal, line by line; its [`Display`](fmt::Display) form is what a file's header holds.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Layout {
    entries: Vec<Entry>,
    path: String,
    offset: usize,
}

/// One line of a [`Layout`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) offset: usize,
    pub(crate) size: usize,
    pub(crate) what: String,
}

impl fmt::Display for Entry {
    /// `offset size type path`: the path comes last, since it alone may be empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Entry {
            path,
            offset,
            size,
            what,
        } = self;
        write!(f, "{offset} {size} {what} {path}")
    }
}

impl Layout {
    /// The layout of a type that `describe` tells.
    pub(crate) fn of(describe: impl FnOnce(&mut Layout)) -> Self {
        let mut layout = Layout::default();
        describe(&mut layout);
        layout
    }

    /// A value with no parts that the layout knows: a number, a `bool`, a fixed-capacity string.
    pub fn leaf<T>(&mut self, name: &str) {
        self.push(size_of::<T>(), name.to_string());
    }

    /// A primitive of this crate; its data, if it has any, follows as fields.
    pub fn primitive<T>(&mut self, kind: PrimitiveKind) {
        self.push(size_of::<T>(), format!("primitive:{kind}"));
    }

    /// The start of a struct or an enum, before its fields or variants. Its name is told for people and is no part of
    /// what must agree: only its size and alignment are.
    pub fn aggregate<T>(&mut self) {
        self.push(
            size_of::<T>(),
            format!("aggregate:align={}", align_of::<T>()),
        );
    }

    /// A variant of an enum, before its fields.
    pub fn variant(&mut self, name: &str, discriminant: i128) {
        self.push(0, format!("variant:{name}={discriminant}"));
    }

    /// A field at `offset` bytes from the start of what is being described.
    pub fn field(&mut self, name: &str, offset: usize, describe: impl FnOnce(&mut Layout)) {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        self.offset += offset;
        describe(self);
        self.offset -= offset;
        self.path.truncate(length);
    }

    /// A field of the variant that was told last, which lies at the first aligned place from `end` on. `end` then is
    /// where it ends. It starts as the tag's size: an enum with an integer representation lays each variant out as a
    /// `repr(C)` struct of its tag and its fields (RFC 2195). Called by the derive, since `offset_of!` knows no variants
    /// yet.
    #[doc(hidden)]
    pub fn variant_field<T>(
        &mut self,
        end: &mut usize,
        name: &str,
        describe: impl FnOnce(&mut Layout),
    ) {
        let offset = end.next_multiple_of(align_of::<T>());
        *end = offset + size_of::<T>();
        self.field(name, offset, describe);
    }

    /// `len` elements, `stride` bytes apart. Described once, however many there are.
    pub fn array(&mut self, len: usize, stride: usize, describe: impl FnOnce(&mut Layout)) {
        let length = self.path.len();
        self.push(len * stride, format!("array:len={len},stride={stride}"));
        self.path.push_str("[]");
        describe(self);
        self.path.truncate(length);
    }

    fn push(&mut self, size: usize, what: String) {
        self.entries.push(Entry {
            path: self.path.clone(),
            offset: self.offset,
            size,
            what,
        });
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries
            .iter()
            .try_for_each(|entry| writeln!(f, "{entry}"))
    }
}
