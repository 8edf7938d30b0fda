//! What may be placed in a map, what may lie under a lock there, and the walk over the primitives.

use super::Layout;
use crate::Error;
use std::fmt;

/// A type whose values may be placed in memory that several processes map.
///
/// Derive it: `#[derive(ShmSafe)]` on a `#[repr(C)]` or `#[repr(transparent)]` struct, or on an enum with an integer
/// representation (`#[repr(u8)]`), whose fields are all `ShmSafe`. The derive refuses everything else and says what to
/// use instead. It works where `unsafe` is forbidden, on generic types (their parameters decide), and on types that also
/// derive [`ShmData`].
///
/// ```
/// #![forbid(unsafe_code)]
/// use pshared::{SharedMutex, ShmSafe};
/// use std::sync::atomic::AtomicU64;
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Board<const WORKERS: usize> {
///     started: u64,
///     hits: [AtomicU64; WORKERS],
///     best: SharedMutex<f64>,
///     mode: Mode,
/// }
///
/// #[derive(ShmSafe)]
/// #[repr(u8)]
/// enum Mode {
///     Idle,
///     Busy { since: u64 },
/// }
/// # fn main() {}
/// ```
///
/// What means nothing in another process does not compile. Here the error says that "field `name: String` of `Board`
/// holds a pointer into one process's heap", and what to use instead:
///
/// ```compile_fail,E0277
/// #[derive(pshared::ShmSafe)]
/// #[repr(C)]
/// struct Board {
///     name: String,
/// }
/// ```
///
/// A crate that re-exports this one under another path says where it is: `#[pshared(crate = "path::to::pshared")]`.
///
/// # Safety
///
/// By implementing this trait you promise, for every value of the type:
///
/// 1. **Nothing in its bytes means something in one process only**: no reference, pointer, `Box`, `String`, `Vec`,
///    function pointer, thread handle or file descriptor.
/// 2. **Its layout is fixed**: the same source gives the same offsets in every program that is compiled from it, and
///    [`describe`](Self::describe) tells all of them.
/// 3. **Nothing must be dropped**: placed values are never dropped.
/// 4. **[`walk`](Self::walk) reaches every primitive inside**, each exactly once, with its field path. A primitive that
///    is not reached is not armed, and a lock that is not armed is not robust.
/// 5. **[`ZERO_IS_VALID`](Self::ZERO_IS_VALID)** is true only where a value of zero bytes is valid and is the type's
///    start state.
/// 6. All shared access that other threads could make through `&Self` is as sound from another process that runs the
///    same code: processes that map the value count as threads of one program.
#[diagnostic::on_unimplemented(
    message = "`{Self}` may not be placed in shared memory",
    label = "not `ShmSafe`: it may mean nothing in another process, or move, or be written without a lock",
    note = "own types: `#[derive(pshared::ShmSafe)] #[repr(C)]`, or `#[derive(pshared::ShmData)]` and place a `SharedMutex<{Self}>`",
    note = "text and lists: a fixed-capacity `arrayvec::ArrayString<N>` or `ArrayVec<T, N>` under a `SharedMutex` (feature `arrayvec`)"
)]
pub unsafe trait ShmSafe: Sync + 'static {
    /// Whether a value of zero bytes is valid and is the type's start state, so that
    /// `Shared::zeroed` may make one without building it first.
    const ZERO_IS_VALID: bool;

    /// Whether there is any primitive inside. Where it is false, [`walk`](Self::walk) need not be called.
    const HAS_PRIMITIVES: bool;

    /// Tells the offsets, sizes and names of everything inside, from which the fingerprint of a file's layout and its
    /// directory of primitives are made.
    fn describe(layout: &mut Layout);

    /// Visits every primitive inside.
    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>);
}

/// Plain data that may lie under a lock, in a cell, or in a roster.
///
/// Derive it: `#[derive(ShmData)]` on a `#[repr(C)]` or `#[repr(transparent)]` struct, or on an enum with an integer
/// representation, whose fields are all `ShmData`.
///
/// ```
/// use pshared::{SharedMutex, ShmData, ShmSafe};
/// use std::cell::Cell;
///
/// #[derive(ShmData)]
/// #[repr(C)]
/// struct Table {
///     rows: [[u32; 4]; 16],
///     used: u32,
///     looked_at: Cell<u32>,
/// }
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Board {
///     table: SharedMutex<Table>,
/// }
/// ```
///
/// A guard gives `&mut T`, and two guards allow `mem::swap`. Hence no primitive is `ShmData`: a swap would carry a
/// linked lock away from its place.
///
/// # Safety
///
/// By implementing this trait you promise points 1, 2, 3 and 5 of [`ShmSafe`]'s contract, and that **no primitive is
/// inside**: a value may be moved, copied over and swapped by whoever holds `&mut` to it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` may not lie under a lock in shared memory",
    label = "not `ShmData`: it is a primitive, or holds something that means nothing in another process",
    note = "own types: `#[derive(pshared::ShmData)] #[repr(C)]`",
    note = "text and lists: a fixed-capacity `arrayvec::ArrayString<N>` or `ArrayVec<T, N>` (feature `arrayvec`)",
    note = "a primitive goes beside the data, not under the lock: a swap through two guards would move it"
)]
pub unsafe trait ShmData: Send + 'static {
    /// Whether a value of zero bytes is valid and is the type's start state.
    const ZERO_IS_VALID: bool;

    /// Tells the offsets, sizes and names of everything inside.
    fn describe(layout: &mut Layout);
}

/// The kind of a primitive, as a file's directory names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PrimitiveKind(pub &'static str);

impl fmt::Display for PrimitiveKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What a map asks of every primitive that lies in it. Implemented by this crate's primitives.
pub trait Primitive {
    /// The name under which the primitive stands in a file's directory.
    fn kind(&self) -> PrimitiveKind;

    /// Readies the primitive at the address where it will stay.
    ///
    /// # Errors
    ///
    /// [`Error::RobustListUnusable`] where the primitive is robust and this thread has no robust list to join.
    ///
    /// # Safety
    ///
    /// The primitive lies in a map, never moves again, is not reachable by anybody else yet, and its memory is not
    /// reused while any map of it exists.
    unsafe fn init(&self) -> Result<(), Error>;

    /// Whether a thread of this process still holds the primitive, so that its memory may not be unmapped.
    fn is_held_by_this_process(&self) -> bool;

    /// Whether a thread of this process ended with the primitive in its hands, so that what it guards may have been handed on
    /// here.
    fn was_leaked_by_this_process(&self) -> bool {
        false
    }

    /// Makes the primitive usable again after all its users are gone: what looks held is marked as died.
    ///
    /// # Safety
    ///
    /// Nobody else uses the primitive.
    unsafe fn reset(&self);

    /// Follows a [`reset`](Self::reset) where the machine has been started anew since: it may have stopped at any instant,
    /// and what lies in the file be a mixture of old and new pages. A lock counts as one whose owner died, held or not.
    ///
    /// # Safety
    ///
    /// Nobody else uses the primitive.
    unsafe fn mark_inconsistent(&self) {}
}

/// A visit to every primitive of a placed value; see [`ShmSafe::walk`].
pub struct PrimitiveVisitor<'v> {
    path: String,
    visit: &'v mut dyn FnMut(&str, &dyn Primitive),
}

impl fmt::Debug for PrimitiveVisitor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrimitiveVisitor")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<'v> PrimitiveVisitor<'v> {
    /// A walk that calls `visit` with the field path of each primitive and the primitive.
    pub fn new(visit: &'v mut dyn FnMut(&str, &dyn Primitive)) -> Self {
        PrimitiveVisitor {
            path: String::new(),
            visit,
        }
    }

    /// Walks a field. Called by the derive.
    pub fn field<T: ShmSafe>(&mut self, name: &str, value: &T) {
        if !T::HAS_PRIMITIVES {
            return;
        }
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        value.visit(self);
        self.path.truncate(length);
    }

    /// Walks the elements of an array or a slice.
    pub fn elements<T: ShmSafe>(&mut self, values: &[T]) {
        if !T::HAS_PRIMITIVES {
            return;
        }
        let length = self.path.len();
        for (index, value) in values.iter().enumerate() {
            use fmt::Write as _;
            let _ = write!(self.path, "[{index}]");
            value.visit(self);
            self.path.truncate(length);
        }
    }

    /// Visits a primitive. Called by the primitives of this crate.
    pub fn primitive(&mut self, primitive: &dyn Primitive) {
        (self.visit)(&self.path, primitive);
    }
}
