//! The textual layout of a placed type, from which a file's fingerprint and its directory of
//! primitives are made.

use std::fmt;

/// The kind of a primitive, as a file's directory names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PrimitiveKind(pub &'static str);

impl fmt::Display for PrimitiveKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The layout of a placed value: offsets, sizes, types, enum discriminants and primitives.
///
/// There is one entry for each, in the order of the source.
/// [`ShmSafe::describe`](super::ShmSafe::describe) fills it. Two programs interpret the same bytes
/// in the same way if and only if their layouts are equal, line by line. A file's header holds the
/// [`Display`](fmt::Display) form.
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
    /// Writes `offset size type path`. The path comes last, because it is the only part that may be
    /// empty.
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
    /// Returns the layout that `describe` adds to an empty one.
    pub(crate) fn of(describe: impl FnOnce(&mut Layout)) -> Self {
        let mut layout = Layout::default();
        describe(&mut layout);
        layout
    }

    /// Adds a value that has no parts known to the layout: a number, a `bool`, a fixed-capacity
    /// string.
    pub fn leaf<T>(&mut self, name: &str) {
        self.push(size_of::<T>(), name.to_string());
    }

    /// Adds a primitive of this crate. The data of the primitive, if any, follows as fields.
    pub fn primitive<T>(&mut self, kind: PrimitiveKind) {
        self.push(size_of::<T>(), format!("primitive:{kind}"));
    }

    /// Adds the start of a struct or an enum, before its fields or variants.
    ///
    /// The layout does not contain the name of the type: only the size and alignment must agree.
    pub fn aggregate<T>(&mut self) {
        self.push(
            size_of::<T>(),
            format!("aggregate:align={}", align_of::<T>()),
        );
    }

    /// Adds a variant of an enum, before its fields.
    pub fn variant(&mut self, name: &str, discriminant: i128) {
        self.push(0, format!("variant:{name}={discriminant}"));
    }

    /// Adds a field at `offset` bytes from the start of the value that is being described.
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

    /// Adds an array of `len` elements, `stride` bytes apart. The element is described once, for
    /// any `len`.
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
