//! What is wrong with a field's type, and what to use instead.
//!
//! A derive sees names and not types: `Mutex` may be `std::sync::Mutex`, or it may be
//! `pshared::SharedMutex` imported under that name. A name therefore only selects the words of an
//! error that the compiler reports if the type really lacks the trait. Only what syntax alone
//! shows, such as a reference, is rejected at once.

use crate::names::Derive;
use crate::text::text;
use syn::{GenericArgument, PathArguments, PathSegment, Type};

pub(crate) struct Advice {
    /// Completes "field `x: T` of `S`".
    pub(crate) problem: String,
    /// What to do.
    pub(crate) instead: String,
    /// Whether every type that is written in this way must be rejected.
    pub(crate) certain: bool,
}

const HEAP: &str = "holds a pointer into one process's heap";
const NO_FIXED_LAYOUT: &str = "has no layout that the language fixes";

/// Returns whether the type is a number, a `bool` or a `char`, unless the user gave these names to
/// other types.
pub(crate) fn is_plain(ty: &Type) -> bool {
    const PLAIN: [&str; 16] = [
        "bool", "char", "u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64",
        "i128", "isize", "f32", "f64",
    ];
    matches!(ty, Type::Path(path) if PLAIN.iter().any(|name| path.path.is_ident(name)))
}

/// Returns the advice for a type of which it is only known that it lacks the trait.
pub(crate) fn unknown(ty: &Type, derive: Derive) -> Advice {
    let trait_name = derive.trait_name();
    let ty = text(ty);
    Advice {
        problem: format!("is not `{trait_name}`"),
        instead: match derive {
            Derive::ShmSafe => format!(
                "derive `ShmSafe` for `{ty}`, or derive `ShmData` for it and put it under a lock: `SharedMutex<{ty}>`"
            ),
            Derive::ShmData => format!("derive `ShmData` for `{ty}`"),
        },
        certain: false,
    }
}

/// Returns the advice for a type that is recognized by its syntax or its name.
pub(crate) fn known(ty: &Type, derive: Derive) -> Option<Advice> {
    let certain = |problem: &str, instead: &str| {
        Some(Advice {
            problem: problem.to_string(),
            instead: instead.to_string(),
            certain: true,
        })
    };
    match ty {
        Type::Group(group) => known(&group.elem, derive),
        Type::Paren(paren) => known(&paren.elem, derive),
        Type::Array(array) => {
            let element = known(&array.elem, derive)?;
            Some(Advice {
                certain: element.certain,
                ..nested(&array.elem, derive)?
            })
        }
        Type::Reference(reference) => {
            let instead = match &*reference.elem {
                Type::Path(path) if path.path.is_ident("str") => string(derive),
                Type::Slice(slice) => list(&text(&slice.elem), derive),
                value => value_itself(value),
            };
            certain(
                "is a reference, an address in one process's memory",
                &instead,
            )
        }
        Type::Ptr(_) => certain(
            "is a raw pointer, an address in one process's memory",
            "hold an index, or an offset from the start of the map",
        ),
        Type::FnPtr(_) => certain(
            "is a function pointer, an address in one process's program",
            "hold an enum that says which function, and match on it where it is called",
        ),
        Type::TraitObject(_) => certain(
            "is a trait object, whose methods are addresses in one process's program",
            "hold an enum of the types that it may be",
        ),
        Type::Slice(slice) => certain(
            "has no length that its type tells",
            &format!("use an array, `[{}; N]`", text(&slice.elem)),
        ),
        Type::Tuple(tuple) if !tuple.elems.is_empty() => certain(
            "is a tuple, whose layout the language does not fix",
            "use a `#[repr(C)]` struct with the same fields",
        ),
        Type::Path(path) if path.qself.is_none() => by_name(path.path.segments.last()?, derive),
        _ => None,
    }
}

/// Returns the advice for a type with a name that the standard library uses for a type that cannot
/// be shared.
fn by_name(name: &PathSegment, derive: Derive) -> Option<Advice> {
    let arguments = types(name);
    let first = arguments.first().map_or("T".to_string(), text);
    let (problem, instead) = match name.ident.to_string().as_str() {
        "String" | "str" | "CString" | "CStr" | "Cow" => (HEAP, string(derive)),
        "OsString" | "OsStr" | "PathBuf" | "Path" => (HEAP, list("u8", derive)),
        "Vec" | "VecDeque" | "LinkedList" | "BinaryHeap" | "Bytes" | "BytesMut" => (HEAP, list(&first, derive)),
        "HashMap" | "BTreeMap" | "HashSet" | "BTreeSet" => (
            HEAP,
            format!("declare a `#[repr(C)]` struct `Entry` and {}", list("Entry", derive)),
        ),
        "Box" => (HEAP, arguments.first().map_or_else(|| "hold the value itself".to_string(), value_itself)),
        "Rc" | "Arc" | "Weak" => (
            HEAP,
            "hold the value itself: what is placed in a map is shared already, by every process that maps it".to_string(),
        ),
        "NonNull" | "AtomicPtr" => (
            "is a pointer, an address in one process's memory",
            "hold an index, or an offset from the start of the map".to_string(),
        ),
        "Mutex" | "RwLock" | "ReentrantLock" if derive == Derive::ShmSafe => (
            "is a lock of one process, and stays locked for ever when its holder is killed",
            format!("use `SharedMutex<{first}>`"),
        ),
        "Condvar" | "Barrier" | "Once" if derive == Derive::ShmSafe => (
            "wakes threads of its own process only",
            "use a `SharedEvent` or a `SharedSemaphore`".to_string(),
        ),
        "OnceLock" | "LazyLock" if derive == Derive::ShmSafe => (
            "is a lock of one process",
            format!("initialize it before it is placed, or use `SharedMutex<{first}>`"),
        ),
        "Cell" | "RefCell" | "UnsafeCell" | "OnceCell" | "LazyCell" if derive == Derive::ShmSafe => (
            "can be written by two processes at once",
            format!("use an atomic, or put it under a lock: `SharedMutex<{first}>`"),
        ),
        "RefCell" | "UnsafeCell" | "OnceCell" | "LazyCell" => (
            "is not `ShmData`",
            format!("hold the value itself, or a `Cell<{first}>`: who holds the lock may write to it"),
        ),
        "Mutex" | "RwLock" | "ReentrantLock" | "Condvar" | "Barrier" | "Once" | "OnceLock" | "LazyLock" => (
            "is a primitive, and would lie under another lock, where a swap of two values moves it",
            "hold the value itself: the lock around it guards it".to_string(),
        ),
        primitive if derive == Derive::ShmData && is_primitive(primitive) => (
            "is a primitive, and would lie under another lock, where a swap of two values moves it",
            "put it beside the lock, in the struct that derives `ShmSafe`".to_string(),
        ),
        "SharedMutex" => return nested(arguments.first()?, Derive::ShmData),
        "Cell" | "Wrapping" => return nested(arguments.first()?, derive),
        "ArrayString" | "ArrayVec" if derive == Derive::ShmSafe => (
            "can be written by two processes at once",
            format!("put it under a lock: `SharedMutex<{}>`", text(name)),
        ),
        "ArrayString" | "ArrayVec" => ("is not `ShmData`", "enable the feature `arrayvec` of `pshared`".to_string()),
        "Option" => {
            let inner = arguments.first().filter(|inner| known(inner, derive).is_some());
            if let Some(inner) = inner {
                return nested(inner, derive);
            }
            (NO_FIXED_LAYOUT, "use an enum of yours with `#[repr(u8)]`, or `Option<NonZeroU32>` and the like".to_string())
        }
        "Result" | "Ordering" | "Range" | "RangeInclusive" | "Bound" | "Poll" | "ControlFlow" => {
            (NO_FIXED_LAYOUT, "use a `#[repr(u8)]` enum or a `#[repr(C)]` struct of yours".to_string())
        }
        "IpAddr" | "Ipv4Addr" | "Ipv6Addr" | "SocketAddr" | "SocketAddrV4" | "SocketAddrV6" => {
            (NO_FIXED_LAYOUT, "hold its octets, `[u8; 4]` or `[u8; 16]`, and the port as `u16`".to_string())
        }
        "Duration" => (NO_FIXED_LAYOUT, "hold its nanoseconds as `u64`".to_string()),
        "Instant" | "SystemTime" => (NO_FIXED_LAYOUT, "hold the nanoseconds since a point of yours as `u64`".to_string()),
        "File" | "OwnedFd" | "BorrowedFd" | "TcpStream" | "TcpListener" | "UdpSocket" | "UnixStream"
        | "UnixListener" | "UnixDatagram" | "Stdin" | "Stdout" | "Stderr" | "PipeReader" | "PipeWriter" => (
            "is a descriptor, a number in one process's table",
            "keep it outside the map and open it in each process, or send it over a Unix socket".to_string(),
        ),
        "JoinHandle" | "Thread" | "ThreadId" | "Child" | "Command" => (
            "is a handle of one process",
            "keep it outside the map; a process's id is a `u32`, `std::process::id()`".to_string(),
        ),
        "Sender" | "Receiver" | "SyncSender" => (
            HEAP,
            "use an array under a `SharedMutex`, and a `SharedSemaphore` that counts what is in it".to_string(),
        ),
        _ => return None,
    };
    Some(advice(problem, instead))
}

fn advice(problem: &str, instead: String) -> Advice {
    Advice {
        problem: problem.to_string(),
        instead,
        certain: false,
    }
}

/// Returns the advice for the inner type of a type that is allowed if the inner type is.
fn nested(inner: &Type, derive: Derive) -> Option<Advice> {
    if is_plain(inner) {
        return None;
    }
    let advice = known(inner, derive).unwrap_or_else(|| unknown(inner, derive));
    Some(Advice {
        problem: format!("holds `{}`, which {}", text(inner), advice.problem),
        // The outer name may belong to another type.
        certain: false,
        ..advice
    })
}

fn is_primitive(name: &str) -> bool {
    name.strip_prefix("Shared")
        .or(name.strip_prefix("Sharded"))
        .is_some_and(|rest| !rest.is_empty())
}

/// Returns the type arguments of `Name<A, B>`.
fn types(name: &PathSegment) -> Vec<Type> {
    let PathArguments::AngleBracketed(arguments) = &name.arguments else {
        return Vec::new();
    };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty.clone()),
        _ => None,
    });
    types.collect()
}

fn string(derive: Derive) -> String {
    match derive {
        Derive::ShmSafe => {
            "use a fixed-capacity string under a lock, `SharedMutex<arrayvec::ArrayString<64>>` (feature `arrayvec`)"
        }
        Derive::ShmData => "use a fixed-capacity string, `arrayvec::ArrayString<64>` (feature `arrayvec`)",
    }
    .to_string()
}

fn list(element: &str, derive: Derive) -> String {
    match derive {
        Derive::ShmSafe => format!(
            "use a fixed-capacity list under a lock, `SharedMutex<arrayvec::ArrayVec<{element}, 64>>` (feature `arrayvec`)"
        ),
        Derive::ShmData => {
            format!(
                "use a fixed-capacity list, `arrayvec::ArrayVec<{element}, 64>` (feature `arrayvec`)"
            )
        }
    }
}

fn value_itself(ty: &Type) -> String {
    match ty {
        Type::TraitObject(_) => "hold an enum of the types that it may be".to_string(),
        ty => format!("hold the value itself, `{}`", text(ty)),
    }
}
