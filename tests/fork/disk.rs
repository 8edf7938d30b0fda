//! File systems of a test's own, in a mount namespace that the test enters. They are small, so that
//! a test can fill them.

use crate::harness::skip;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use std::path::Path;
use std::{fs, io};
use tempfile::TempDir;

/// Moves the process into new namespaces. A process that is not root also enters a new user
/// namespace.
pub fn enter_new(namespaces: CloneFlags) -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() {
        return Ok(unshare(namespaces)?);
    }
    unshare(namespaces | CloneFlags::CLONE_NEWUSER)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// A directory with a file system of its own, visible only to this process and its children.
pub struct Disk(TempDir);

impl Disk {
    pub fn new(kind: &str, options: &str) -> Self {
        let directory = in_own_mounts();
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        if let Err(errno) = mount(
            Some("none"),
            directory.path(),
            Some(kind),
            flags,
            Some(options),
        ) {
            drop(directory);
            skip(&format!("{kind} cannot be mounted: {errno}"));
        }
        Disk(directory)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Unmounts before the directory is removed.
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

/// Moves the process into a mount namespace of its own. Returns a directory to mount something on.
pub fn in_own_mounts() -> TempDir {
    if let Err(error) = enter_new(CloneFlags::CLONE_NEWNS) {
        skip(&format!("a mount namespace is not permitted here: {error}"));
    }
    let directory = tempfile::tempdir().unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    directory
}
