//! The types that can be placed in a map or under a lock, and the visitor of their primitives.

use super::{Layout, PrimitiveKind};
use crate::Error;
use std::fmt;

/// A type that may be placed in memory that several processes map.
///
/// Derive this trait: `#[derive(ShmSafe)]` on a `#[repr(C)]` or `#[repr(transparent)]` struct, or
/// on an enum with an integer representation (`#[repr(u8)]`). All fields must be `ShmSafe`. The
/// derive refuses every other type, with an error that suggests a replacement. It works in crates
/// that forbid `unsafe`, on generic types (depending on their parameters), and on types that also
/// derive [`ShmData`].
///
/// ```
/// #![forbid(unsafe_code)]
/// use pshared::{SharedMutex, ShmSafe};
/// use std::sync::atomic::AtomicU64;
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct State<const WORKERS: usize> {
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
/// A type with a field that is meaningless in another process does not compile. In this example,
/// the error says that "field `name: String` of `State` holds a pointer into one process's heap",
/// and suggests a replacement:
///
/// ```compile_fail,E0277
/// #[derive(pshared::ShmSafe)]
/// #[repr(C)]
/// struct State {
///     name: String,
/// }
/// ```
///
/// # Attributes
///
/// `#[pshared(zeroed)]` declares that zero bytes are the type's initial state, so that
/// [`Shared::zeroed`](crate::Shared::zeroed) can create a value. Any code may then create this
/// value, also if the fields are private. Write it only if zero bytes break no invariant of the
/// type. Every field must allow zero bytes, and an enum needs a variant of discriminant 0:
///
/// ```
/// use pshared::{Shared, SharedCounter, SharedMutex, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[pshared(zeroed)]
/// #[repr(C)]
/// struct State {
///     hits: SharedCounter,
///     best: SharedMutex<f64>,
/// }
///
/// let state = Shared::<State>::zeroed()?;
/// assert_eq!(state.hits.get(), 0);
/// # Ok::<(), pshared::Error>(())
/// ```
///
/// `#[pshared(crate = "path::to::pshared")]` names the path of this crate, for a crate that
/// re-exports it under another path.
///
/// # Safety
///
/// The implementor must guarantee, for every value of the type:
///
/// 1. **None of its bytes has a meaning in one process only**: it contains no reference, pointer,
///    `Box`, `String`, `Vec`, function pointer, thread handle or file descriptor.
/// 2. **Its layout is fixed**: the same source gives the same offsets in every program compiled
///    from it, and [`describe`](Self::describe) reports all of them.
/// 3. **It needs no drop**: placed values are never dropped.
/// 4. **[`visit`](Self::visit) reaches every primitive inside**, each exactly once, with its field
///    path. A primitive that is not reached is not initialized, and a lock that is not initialized
///    is not robust.
/// 5. **[`ZERO_IS_VALID`](Self::ZERO_IS_VALID)** is true only if an all-zero value is valid, is
///    the type's initial state, and breaks no invariant of it. Any code may create this value.
/// 6. **Sharing between processes is as sound as sharing between threads.** Processes that run the
///    same code and map the value count as threads of one program. Any access that another thread
///    could make through `&Self` must also be sound from another process.
#[diagnostic::on_unimplemented(
    message = "`{Self}` may not be placed in shared memory",
    label = "not `ShmSafe`: it may be meaningless in another process, or move, or be written without a lock",
    note = "own types: `#[derive(pshared::ShmSafe)] #[repr(C)]`, or `#[derive(pshared::ShmData)]` and place a `SharedMutex<{Self}>`",
    note = "text and lists: a fixed-capacity `arrayvec::ArrayString<N>` or `ArrayVec<T, N>` under a `SharedMutex` (feature `arrayvec`)"
)]
pub unsafe trait ShmSafe: Sync + 'static {
    /// Whether an all-zero value is valid and is the type's initial state. If so, any code can
    /// create one by [`Shared::zeroed`](crate::Shared::zeroed), without building it first.
    ///
    /// The derive sets it to false, unless the type has the attribute `#[pshared(zeroed)]`.
    const ZERO_IS_VALID: bool;

    /// Whether the type contains any primitive. If this is false, [`visit`](Self::visit) need not
    /// be called.
    const HAS_PRIMITIVES: bool;

    /// Describes the offsets, sizes and names of everything inside.
    ///
    /// The fingerprint of a file's layout and the file's directory of primitives are made from this
    /// description.
    fn describe(layout: &mut Layout);

    /// Visits every primitive inside.
    fn visit(&self, visitor: &mut PrimitiveVisitor<'_>);
}

/// Plain data that may be protected by a lock, or stored in a cell or a roster.
///
/// Derive this trait: `#[derive(ShmData)]` on a `#[repr(C)]` or `#[repr(transparent)]` struct, or
/// on an enum with an integer representation. All fields must be `ShmData`.
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
/// struct State {
///     table: SharedMutex<Table>,
/// }
/// ```
///
/// The attributes are those of [`ShmSafe`]'s derive, which shares them if a type derives both
/// traits.
///
/// A guard gives `&mut T`, and two guards allow `mem::swap`. Therefore no primitive is `ShmData`: a
/// swap would move a lock that is linked into a robust list.
///
/// # Safety
///
/// The implementor must guarantee points 1, 2, 3 and 5 of [`ShmSafe`]'s contract, and that the type
/// **contains no primitive**: code that holds `&mut` to a value may move, overwrite or swap it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` may not be placed under a lock in shared memory",
    label = "not `ShmData`: it is a primitive, or contains something that is meaningless in another process",
    note = "own types: `#[derive(pshared::ShmData)] #[repr(C)]`",
    note = "text and lists: a fixed-capacity `arrayvec::ArrayString<N>` or `ArrayVec<T, N>` (feature `arrayvec`)",
    note = "place a primitive next to the data, not under the lock: a swap through two guards would move it"
)]
pub unsafe trait ShmData: Send + 'static {
    /// Whether an all-zero value is valid and is the type's initial state. If so, any code can
    /// create one by [`Shared::zeroed`](crate::Shared::zeroed), for example in a lock.
    ///
    /// The derive sets it to false, unless the type has the attribute `#[pshared(zeroed)]`.
    const ZERO_IS_VALID: bool;

    /// Describes the offsets, sizes and names of everything inside.
    fn describe(layout: &mut Layout);
}

/// The operations that a map needs from every primitive placed in it. This crate's primitives
/// implement it.
pub trait Primitive {
    /// Returns the name of the primitive's kind in a file's directory.
    fn kind(&self) -> PrimitiveKind;

    /// Initializes the primitive at its final address.
    ///
    /// # Errors
    ///
    /// Returns [`Error::RobustListUnusable`] if the primitive is robust and the calling thread has
    /// no robust list to join, and [`Error::PidNamespaceUnknown`] if it is robust and the process
    /// cannot find out its PID namespace.
    ///
    /// # Safety
    ///
    /// The primitive must lie in a map, must never move again, and must not be reachable by any
    /// other thread or process yet. Its memory must not be reused while any map of it exists.
    unsafe fn init(&self) -> Result<(), Error>;

    /// Returns whether a thread of this process still holds the primitive.
    fn is_held_by_this_process(&self) -> bool;

    /// Calls `each` with the id of each thread of this process that is recorded as an owner of the
    /// primitive. The thread may have ended.
    ///
    /// While there is one, this process may still use the data that the primitive protects: a
    /// borrow of the data may have been passed to another thread. While that thread runs, the
    /// kernel may write to the primitive when the thread ends.
    ///
    /// This relies on the records alone. A lock word can name a thread of another process for a
    /// moment, while the data is in use here.
    fn owners_in_this_process(&self, each: &mut dyn FnMut(u32)) {
        let _ = each;
    }

    /// Makes the primitive usable again after all its users are gone. If a lock appears held, its
    /// owner is marked as dead.
    ///
    /// # Safety
    ///
    /// No other thread or process may use the primitive.
    unsafe fn reset(&self);

    /// Marks the primitive as inconsistent, after a [`reset`](Self::reset) that follows a reboot.
    ///
    /// The machine may have stopped at any instant, so the file may hold a mixture of old and new
    /// pages. A lock is marked as if its owner had died, whether it was held or not.
    ///
    /// # Safety
    ///
    /// No other thread or process may use the primitive.
    unsafe fn mark_inconsistent(&self) {}
}

/// A visitor of every primitive in a placed value; see [`ShmSafe::visit`].
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
    /// Creates a visitor that calls `visit` with the field path of each primitive and the
    /// primitive.
    pub fn new(visit: &'v mut dyn FnMut(&str, &dyn Primitive)) -> Self {
        PrimitiveVisitor {
            path: String::new(),
            visit,
        }
    }

    /// Visits the primitives in a field. The derive calls this.
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

    /// Visits the primitives in the elements of an array or a slice.
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

    /// Visits a primitive. The primitives of this crate call this.
    pub fn primitive(&mut self, primitive: &dyn Primitive) {
        (self.visit)(&self.path, primitive);
    }
}
