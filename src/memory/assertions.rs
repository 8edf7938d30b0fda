//! Compile-time assertions of which types can be placed in a map, which can be placed under a lock,
//! and which can not.

use super::{ShmData, ShmSafe};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use std::cell::{Cell, OnceCell, RefCell, UnsafeCell};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsString};
use std::fs::File;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::net::{IpAddr, TcpStream};
use std::num::{NonZeroI128, NonZeroU8, NonZeroU32, Wrapping};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

// Plain values are both.
assert_impl_all!(u8: ShmSafe, ShmData);
assert_impl_all!(i128: ShmSafe, ShmData);
assert_impl_all!(usize: ShmSafe, ShmData);
assert_impl_all!(f64: ShmSafe, ShmData);
assert_impl_all!(bool: ShmSafe, ShmData);
assert_impl_all!(char: ShmSafe, ShmData);
assert_impl_all!((): ShmSafe, ShmData);
assert_impl_all!(NonZeroU32: ShmSafe, ShmData);
assert_impl_all!(NonZeroI128: ShmSafe, ShmData);
assert_impl_all!(Option<NonZeroU8>: ShmSafe, ShmData);
assert_impl_all!([[u16; 3]; 0]: ShmSafe, ShmData);
assert_impl_all!(Wrapping<u64>: ShmSafe, ShmData);
assert_impl_all!(PhantomData<String>: ShmSafe, ShmData);
assert_impl_all!(AtomicBool: ShmSafe, ShmData);
assert_impl_all!(AtomicU64: ShmSafe, ShmData);
assert_impl_all!([AtomicUsize; 64]: ShmSafe, ShmData);

// Types that are written without a lock are data only.
assert_impl_all!(Cell<u32>: ShmData);
assert_impl_all!([Cell<AtomicU32>; 2]: ShmData);
assert_not_impl_any!(Cell<u32>: ShmSafe);
assert_not_impl_any!([Cell<u32>; 2]: ShmSafe);
assert_not_impl_any!(Wrapping<Cell<u32>>: ShmSafe);
assert_not_impl_any!(PhantomData<Cell<u32>>: ShmSafe);
assert_not_impl_any!(RefCell<u32>: ShmSafe, ShmData);
assert_not_impl_any!(OnceCell<u32>: ShmSafe, ShmData);
assert_not_impl_any!(UnsafeCell<u32>: ShmSafe, ShmData);

// Addresses are meaningless in another process.
assert_not_impl_any!(&'static u32: ShmSafe, ShmData);
assert_not_impl_any!(&'static str: ShmSafe, ShmData);
assert_not_impl_any!(*const u8: ShmSafe, ShmData);
assert_not_impl_any!(*mut u8: ShmSafe, ShmData);
assert_not_impl_any!(NonNull<u8>: ShmSafe, ShmData);
assert_not_impl_any!(AtomicPtr<u8>: ShmSafe, ShmData);
assert_not_impl_any!(fn() -> u8: ShmSafe, ShmData);
assert_not_impl_any!(PhantomData<*const u8>: ShmSafe, ShmData);
assert_not_impl_any!(Box<u32>: ShmSafe, ShmData);
assert_not_impl_any!(Rc<u32>: ShmSafe, ShmData);
assert_not_impl_any!(Arc<u32>: ShmSafe, ShmData);
assert_not_impl_any!(String: ShmSafe, ShmData);
assert_not_impl_any!(CString: ShmSafe, ShmData);
assert_not_impl_any!(OsString: ShmSafe, ShmData);
assert_not_impl_any!(PathBuf: ShmSafe, ShmData);
assert_not_impl_any!(Vec<u8>: ShmSafe, ShmData);
assert_not_impl_any!(HashMap<u8, u8>: ShmSafe, ShmData);
assert_not_impl_any!(BTreeMap<u8, u8>: ShmSafe, ShmData);

// Descriptors, and the locks of one process, are meaningless in another process.
assert_not_impl_any!(File: ShmSafe, ShmData);
assert_not_impl_any!(OwnedFd: ShmSafe, ShmData);
assert_not_impl_any!(TcpStream: ShmSafe, ShmData);
assert_not_impl_any!(Mutex<u32>: ShmSafe, ShmData);
assert_not_impl_any!(RwLock<u32>: ShmSafe, ShmData);
assert_not_impl_any!(Condvar: ShmSafe, ShmData);
assert_not_impl_any!(OnceLock<u32>: ShmSafe, ShmData);

// The language does not fix the layout of these types, or their bytes may not be a valid value.
assert_not_impl_any!((u32, u32): ShmSafe, ShmData);
assert_not_impl_any!(Option<u32>: ShmSafe, ShmData);
assert_not_impl_any!(Option<bool>: ShmSafe, ShmData);
assert_not_impl_any!(Duration: ShmSafe, ShmData);
assert_not_impl_any!(Instant: ShmSafe, ShmData);
assert_not_impl_any!(IpAddr: ShmSafe, ShmData);
assert_not_impl_any!(MaybeUninit<u8>: ShmSafe, ShmData);
assert_not_impl_any!([u8]: ShmSafe, ShmData);
assert_not_impl_any!(str: ShmSafe, ShmData);

#[cfg(feature = "arrayvec")]
mod with_arrayvec {
    use super::*;
    use arrayvec::{ArrayString, ArrayVec};

    assert_impl_all!(ArrayString<64>: ShmData);
    assert_impl_all!(ArrayVec<ArrayString<8>, 64>: ShmData);
    assert_not_impl_any!(ArrayString<64>: ShmSafe);
    assert_not_impl_any!(ArrayVec<u8, 64>: ShmSafe);
    assert_not_impl_any!(ArrayVec<String, 64>: ShmData);
}
