//! Memory that the kernel wipes in every child: `madvise(MADV_WIPEONFORK)`, Linux 4.14.

use std::io;
use std::ptr::{self, NonNull};

/// Maps `length` private zero bytes. They are zero again in every child, however the child is
/// created.
pub(super) fn map(length: usize) -> Result<NonNull<()>, String> {
    // SAFETY: a new anonymous map at an address that the kernel chooses touches no existing memory.
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
    let page = NonNull::new(page.cast::<()>()).ok_or("mmap returned address 0")?;
    // SAFETY: the map has just been created, and the range is the whole map.
    if unsafe { libc::madvise(page.as_ptr().cast(), length, libc::MADV_WIPEONFORK) } != 0 {
        let why = format!("madvise(MADV_WIPEONFORK): {}", io::Error::last_os_error());
        // SAFETY: as above; no other code has seen the map.
        unsafe { unmap(page, length) };
        return Err(why);
    }
    Ok(page)
}

/// Unmaps memory from [`map`].
///
/// # Safety
///
/// `page` and `length` must belong to one call of [`map`], and the memory must no longer be in use.
pub(super) unsafe fn unmap(page: NonNull<()>, length: usize) {
    // SAFETY: guaranteed by the caller.
    unsafe { libc::munmap(page.as_ptr().cast(), length) };
}
