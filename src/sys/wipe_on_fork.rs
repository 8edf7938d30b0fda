//! Memory that the kernel wipes in every child: `madvise(MADV_WIPEONFORK)`, Linux 4.14.

use std::io;
use std::ptr::{self, NonNull};

/// Maps `length` private zero bytes that are zero again in every child, however it is made.
pub(super) fn map(length: usize) -> Result<NonNull<()>, String> {
    // SAFETY: a new anonymous map at a place of the kernel's choice touches no memory that exists.
    let page = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(format!(
            "mmap of {length} bytes: {}",
            io::Error::last_os_error()
        ));
    }
    let page = NonNull::new(page.cast::<()>()).ok_or("mmap gave address 0")?;
    // SAFETY: the map was made just now and is whole.
    if unsafe { libc::madvise(page.as_ptr().cast(), length, libc::MADV_WIPEONFORK) } != 0 {
        let why = format!("madvise(MADV_WIPEONFORK): {}", io::Error::last_os_error());
        // SAFETY: as above; nobody has seen it.
        unsafe { unmap(page, length) };
        return Err(why);
    }
    Ok(page)
}

/// Unmaps what [`map`] mapped.
///
/// # Safety
///
/// `page` and `length` are of one call of [`map`], and nobody uses the memory any more.
pub(super) unsafe fn unmap(page: NonNull<()>, length: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::munmap(page.as_ptr().cast(), length) };
}
